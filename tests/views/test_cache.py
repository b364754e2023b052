"""Stored features come back only for the same content and settings, and only whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tsp3d.views.cache import FeatureCache, content_hash
from tsp3d.views.cameras import ObjectViews


class Counted:
    """Computes and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, Tensor]:
        self.calls += 1
        return {"features": torch.arange(12.0).view(3, 4).T, "count": torch.tensor([1, 2, 3])}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


def test_the_second_time_is_read(tmp_path: Path) -> None:
    compute = Counted()
    first = FeatureCache(tmp_path / "new").get("key", compute)
    again = FeatureCache(tmp_path / "new").get("key", compute)
    assert compute.calls == 1 and same(first, again) and same(again, compute())
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["key.safetensors"]


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text"])
def test_a_damaged_entry_is_computed_again(damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    compute, cache = Counted(), FeatureCache(tmp_path)
    first = cache.get("key", compute)
    path = tmp_path / "key.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1  # in the numbers, where the format itself has no check
    damaged = {"cut": bytes(raw[:-20]), "flip": bytes(raw), "empty": b"", "text": b"not a tensor" * 10}
    path.write_bytes(damaged[damage])
    assert same(cache.get("key", compute), first) and compute.calls == 2
    assert "key.safetensors is damaged" in caplog.text
    assert same(cache.get("key", compute), first) and compute.calls == 2


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail() -> dict[str, Tensor]:
        raise RuntimeError("no features today")

    with pytest.raises(RuntimeError, match="today"):
        FeatureCache(tmp_path).get("key", fail)
    assert not list(tmp_path.iterdir())


def test_hashes_differ_where_content_does(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"scan")
    b.write_bytes(b"scam")
    values = [
        torch.zeros(2, 3), torch.zeros(3, 2), torch.zeros(2, 3, dtype=torch.float64), torch.ones(2, 3), torch.zeros(6),
        np.zeros(6, dtype=np.int32), a, b, "a", b"a", "1", 1, 1.0, True, None, (), (1, 2), ((1,), 2), {"a": 1}, {"a":
        2}, ObjectViews(), ObjectViews(size=128), ObjectViews(fit=True), ObjectViews((0.0,)),
    ]  # fmt: skip
    hashes = [content_hash(value) for value in values] + [content_hash("ab", "c"), content_hash("a", "bc")]
    assert len(set(hashes)) == len(hashes)


def test_hashes_are_the_same_where_content_is(tmp_path: Path) -> None:
    one, other = tmp_path / "one.ply", tmp_path / "other.ply"
    one.write_bytes(b"scan")
    other.write_bytes(b"scan")
    assert content_hash(one) == content_hash(other)
    assert content_hash(torch.arange(6).view(2, 3).T) == content_hash(np.arange(6).reshape(2, 3).T)
    assert content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    with pytest.raises(TypeError, match="cannot hash a object"):
        content_hash(object())
