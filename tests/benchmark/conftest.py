"""Voxels of a small curved surface in place of a room's, and peers that fail in every way."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from tsp3d.benchmark import engine, race, scale
from tsp3d.benchmark.peers import Ours
from tsp3d.benchmark.timing import sgemm
from tsp3d.sparse import SparseTensor, reference


def surface(count: int) -> Tensor:
    """(count, 4) of a wavy floor."""
    side = int(count**0.5) + 1
    x, y = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    z = ((x / 3).sin() + (y / 4).cos() + 2).round().long()
    coords = torch.stack([torch.zeros_like(x), x, y, z], -1).reshape(-1, 4).int()
    return reference.unique_coords(coords, 1)[0][:count]


class Wrong(Ours):
    """A thousandth too much in one row, like a lost update but smaller."""

    name = "wrong"

    def feats(self, x: SparseTensor) -> Tensor:
        off = torch.zeros_like(x.feats)
        off[0] = 0.01 * x.feats.detach().abs().max()
        return x.feats + off


class Broken(Ours):
    """Raises where it should convolve."""

    name = "broken"

    def layer(self, weight: Tensor, level: int):
        raise RuntimeError("no kernel for this\nsecond line")


@pytest.fixture(autouse=True)
def _small_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's ceiling is not measured in tests."""
    monkeypatch.setattr(race, "sgemm", partial(sgemm, size=32))


@pytest.fixture
def coords() -> Tensor:
    return surface(150)


@pytest.fixture
def small_rooms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engine and scale run on the wavy floor."""
    monkeypatch.setattr(engine, "voxels", surface)
    monkeypatch.setattr(scale, "voxels", surface)


@pytest.fixture
def bad_peers() -> list[Ours]:
    return [Wrong(), Broken()]
