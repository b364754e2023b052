"""Which input row meets which output row under which kernel offset."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from numbers import Integral
from typing import NamedTuple

import torch
from torch import Tensor
from torch.compiler import is_compiling

from tsp3d.sparse import ops


def triple(size: int | tuple[int, int, int]) -> tuple[int, int, int]:
    """(x, y, z) of a size that may be given as one number. Raises ValueError unless these are three positive ones."""
    sizes = list(size) if isinstance(size, Iterable) else [size] * 3
    if len(sizes) != 3 or not all(isinstance(length, Integral) and length >= 1 for length in sizes):
        raise ValueError(f"kernel_size must be positive, one number or three, got {size}")
    return int(sizes[0]), int(sizes[1]), int(sizes[2])


def check_step(name: str, step: int) -> int:
    """``step`` if it is a whole number from 1. Raises ValueError."""
    if not isinstance(step, int) or step < 1:
        raise ValueError(f"{name} must be one whole number from 1, for all axes, got {step!r}")
    return step


class Region(NamedTuple):
    """What the pairs of a kernel map are searched by, for libraries that search for themselves.

    Input i meets output o under offset k where ``in_coords[i] == out_coords[o] + step * offset_k``, or, transposed,
    where ``out_coords[o] == in_coords[i] + step * offset_k``. Coordinates (N, 4) int32 and step in base voxels.
    """

    in_coords: Tensor
    out_coords: Tensor
    kernel_size: tuple[int, int, int]
    step: int
    transposed: bool = False


def lasting() -> AbstractContextManager:
    """For what is made once and kept: autograd cannot save what is made in inference mode, and may meet it later."""
    return nullcontext() if is_compiling() else torch.inference_mode(False)


@dataclass(frozen=True, eq=False)
class KernelMap:
    """Pairs of rows of two coordinate sets, grouped by kernel offset and ordered by row within an offset.

    in_rows, out_rows: (L,) int32. splits: (K + 1,) int64; the pairs of offset k are ``splits[k]:splits[k + 1]``.
    """

    in_rows: Tensor
    out_rows: Tensor
    splits: Tensor
    # What was made of the pairs, shared with the swapped map, which is ``_turned``.
    _sorted: dict[tuple[bool, int], Tensor] = field(default_factory=dict, repr=False)
    _borders: list[int] = field(default_factory=list, repr=False)
    _turned: bool = False

    @classmethod
    def build(cls, in_coords: Tensor, out_coords: Tensor, kernel_size: tuple[int, int, int], step: int) -> KernelMap:
        """Pairs with ``in_coords[i] == out_coords[o] + step * offset_k``."""
        return cls(*ops.kernel_map(in_coords, out_coords, list(kernel_size), step))

    @property
    def num_offsets(self) -> int:
        return self.splits.shape[0] - 1

    def swapped(self) -> KernelMap:
        """The map of the transposed operator. Costs nothing: the pairs are ordered by both of their ends."""
        return KernelMap(self.out_rows, self.in_rows, self.splits, self._sorted, self._borders, not self._turned)

    def sorted_rows(self, num_out: int, shares: int) -> Tensor:
        """(shares + K, num_out) int32: output rows by the mask of their offsets, as ``ops.sort_map``. Made once."""
        key = (self._turned, shares)
        if key not in self._sorted:
            with lasting():
                self._sorted[key] = ops.sort_map(self.in_rows, self.out_rows, self.splits, num_out, shares)
        return self._sorted[key]

    @property
    def borders(self) -> list[int]:
        """``splits`` as numbers. The first call waits for the device."""
        if not self._borders:
            self._borders[:] = self.splits.tolist()  # the same where two threads do it
        return self._borders

    @property
    def knows_borders(self) -> bool:
        """Whether :attr:`borders` waits for nothing."""
        return bool(self._borders)

    def middle(self) -> KernelMap:
        """The map of the middle offset alone, a part of this one."""
        first, last = self.borders[self.num_offsets // 2 :][:2]
        splits = self.splits.new_tensor([0, last - first])
        return KernelMap(self.in_rows[first:last], self.out_rows[first:last], splits)

    def filtered(self, new_in: Tensor, new_out: Tensor) -> KernelMap:
        """The map after pruning; new_in, new_out: int32 new row of each old row, or -1."""
        return KernelMap(*ops.filter_map(self.in_rows, self.out_rows, self.splits, new_in, new_out))

    def replicated(self, in_offsets: Tensor, out_offsets: Tensor, index: Tensor) -> KernelMap:
        """The map of a batch of copies; offsets (B + 1,) int64 first rows of the scenes, index (B',) int64 scenes."""
        return KernelMap(*ops.replicate_map(self.in_rows, self.out_rows, self.splits, in_offsets, out_offsets, index))


def new_rows(kept: Tensor, size: int) -> Tensor:
    """(size,) int32 row numbers after keeping the rows ``kept`` (N,) int64 of so many, -1 for the others."""
    numbers = torch.arange(len(kept), dtype=torch.int32, device=kept.device)
    return torch.full((size,), -1, dtype=torch.int32, device=kept.device).index_copy(0, kept, numbers)
