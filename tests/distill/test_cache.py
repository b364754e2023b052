"""The cache of teachers' answers: found again, recomputed when damaged or when anything in the key differs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tsp3d.distill.cache import TensorCache, content_key


class Counted:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, Tensor]:
        self.calls += 1
        return {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([True, False])}


def test_an_answer_is_computed_once(tmp_path: Path) -> None:
    compute = Counted()
    first = TensorCache(tmp_path).get(["views", 3], compute)
    again = TensorCache(tmp_path).get(["views", 3], compute)
    assert compute.calls == 1 and first.keys() == again.keys() == {"a", "b"}
    assert all(torch.equal(first[name], again[name]) for name in first)
    TensorCache(tmp_path).get(["views", 4], compute)
    assert compute.calls == 2 and len(list(tmp_path.rglob("*.bin"))) == 2


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_entry_is_computed_again(tmp_path: Path, damage: str) -> None:
    compute, cache = Counted(), TensorCache(tmp_path)
    cache.get(["x"], compute)
    (path,) = tmp_path.rglob("*.bin")
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes({"cut": bytes(data[:50]), "flip": bytes(data), "empty": b""}[damage])
    assert torch.equal(cache.get(["x"], compute)["a"], torch.arange(6.0).view(2, 3)) and compute.calls == 2
    cache.get(["x"], compute)
    assert compute.calls == 2


def test_nothing_is_stored_where_computing_fails(tmp_path: Path) -> None:
    def fail() -> dict[str, Tensor]:
        raise RuntimeError("no teacher")

    with pytest.raises(RuntimeError, match="no teacher"):
        TensorCache(tmp_path).get(["x"], fail)
    assert not list(tmp_path.rglob("*.*"))


def test_keys_tell_parts_apart() -> None:
    array = np.arange(4, dtype=np.float32)
    keys = [
        ["ab", "c"], ["a", "bc"], ["abc"], [1], ["1"], [1.0], [b"1"], [array], [array.astype(np.float64)],
        [array.reshape(2, 2)], [array + 1], [],
    ]  # fmt: skip
    assert len({content_key(parts) for parts in keys}) == len(keys)
    assert content_key([torch.from_numpy(array)]) == content_key([array])
