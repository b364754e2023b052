"""SparseTensor: features over a set of voxels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from tsp3d.sparse import ops
from tsp3d.sparse.coords import CoordinateSet


class SparseTensor:
    """Immutable features over a coordinate set.

    feats: (N, C). coords: (N, 4) int32 [batch, x, y, z] in base voxels, unique, in lexicographic order, multiples of
    ``stride``; ``SparseTensor.from_unsorted`` takes rows in any order. batch_size: number of scenes (empty ones count);
    without it the last scene is the one of the last row.

    Raises ValueError where rows are out of order, doubled, of a negative scene, off the stride, or do not match feats.
    """

    def __init__(self, feats: Tensor, coords: Tensor, stride: int = 1, batch_size: int | None = None):
        _check_coords(coords, stride)
        if not bool(ops.is_coordinate_set(coords)):
            raise ValueError("coords are not unique and sorted by (batch, x, y, z); use SparseTensor.from_unsorted")
        size = _batch_size(coords, batch_size)
        self._init(feats, CoordinateSet(coords.contiguous(), stride, size))

    def _init(self, feats: Tensor, coordinate_set: CoordinateSet) -> None:
        if feats.ndim != 2 or feats.shape[0] != coordinate_set.rows:
            raise ValueError(f"feats must be ({coordinate_set.rows}, C) to match coords, got {tuple(feats.shape)}")
        self.feats = feats
        self.coordinate_set = coordinate_set

    @classmethod
    def over(cls, feats: Tensor, coordinate_set: CoordinateSet) -> SparseTensor:
        """Features (N, C) over a coordinate set that exists."""
        result = cls.__new__(cls)
        result._init(feats, coordinate_set)
        return result

    @classmethod
    def from_unsorted(
        cls, feats: Tensor, coords: Tensor, stride: int = 1, batch_size: int | None = None, reduce: str = "mean"
    ) -> SparseTensor:
        """Sort rows and join doubled coordinates; reduce: "mean", "sum" or "first" (the first in the given order)."""
        return gather_unique(feats, coords, stride, batch_size, reduce)[0]

    # --- what it holds ------------------------------------------------------------------------------------------------

    @property
    def coords(self) -> Tensor:
        """(N, 4) int32 [batch, x, y, z] in base voxels."""
        return self.coordinate_set.coords

    @property
    def stride(self) -> int:
        """Size of a voxel of this tensor, in base voxels."""
        return self.coordinate_set.stride

    @property
    def batch_size(self) -> int:
        return self.coordinate_set.batch_size

    @property
    def batch(self) -> Tensor:
        """(N,) int32 scene of each row."""
        return self.coords[:, 0]

    @property
    def offsets(self) -> Tensor:
        """(B + 1,) int64: rows of scene b are ``offsets[b]:offsets[b + 1]``."""
        return self.coordinate_set.offsets

    @property
    def counts(self) -> Tensor:
        """(B,) int64 rows of each scene."""
        return self.offsets.diff()

    @property
    def lengths(self) -> list[int]:
        """``counts`` as numbers. The first call waits for the device."""
        return self.coordinate_set.lengths

    @property
    def device(self) -> torch.device:
        return self.feats.device

    @property
    def dtype(self) -> torch.dtype:
        return self.feats.dtype

    @property
    def num_channels(self) -> int:
        return self.feats.shape[1]

    def __len__(self) -> int:
        return self.feats.shape[0]

    def __repr__(self) -> str:
        return (
            f"SparseTensor({len(self)} voxels x {self.num_channels} channels, stride={self.stride}, "
            f"batch_size={self.batch_size}, dtype={self.dtype}, device={self.device})"
        )

    # --- other tensors ------------------------------------------------------------------------------------------------

    def replace(self, feats: Tensor) -> SparseTensor:
        """Other features (N, C') over the same voxels; kernel maps are shared."""
        return SparseTensor.over(feats, self.coordinate_set)

    def prune(self, mask: Tensor) -> SparseTensor:
        """The voxels where mask (N,) bool is True. Kernel maps are filtered, not rebuilt."""
        if mask.dtype != torch.bool or mask.shape != (len(self),):
            raise ValueError(f"mask must be ({len(self)},) bool, got {tuple(mask.shape)} {mask.dtype}")
        rows = mask.nonzero().squeeze(1)
        return SparseTensor.over(self.feats.index_select(0, rows), self.coordinate_set.pruned(mask, rows))

    def to(self, *args: Any, **kwargs: Any) -> SparseTensor:
        """On another device, or with features of another dtype; arguments as ``Tensor.to`` takes them."""
        feats = self.feats.to(*args, **kwargs)
        return SparseTensor.over(feats, self.coordinate_set.to(feats.device))

    def __add__(self, other: SparseTensor) -> SparseTensor:
        """Sum over the same voxels; ``tsp3d.sparse.union`` adds tensors over different ones."""
        one, two = self.coordinate_set, other.coordinate_set
        if one is not two and not (one.stride == two.stride and torch.equal(one.coords, two.coords)):
            raise ValueError("the tensors have different voxels; add them with tsp3d.sparse.union(a, b)")
        if self.num_channels != other.num_channels:
            raise ValueError(f"the tensors have {self.num_channels} and {other.num_channels} channels")
        return (self if self.batch_size >= other.batch_size else other).replace(self.feats + other.feats)


def _check_coords(coords: Tensor, stride: int) -> None:
    if coords.ndim != 2 or coords.shape[1] != 4 or coords.dtype != torch.int32:
        raise ValueError(f"coords must be (N, 4) int32 [batch, x, y, z], got {tuple(coords.shape)} {coords.dtype}")
    if stride < 1:
        raise ValueError(f"stride must be positive, got {stride}")
    if stride > 1 and bool((coords[:, 1:] % stride).any()):
        raise ValueError(f"x, y, z must be multiples of the stride, {stride}")


def _batch_size(coords: Tensor, batch_size: int | None) -> int:
    first, last = coords[[0, -1], 0].tolist() if len(coords) else (0, -1)
    if first < 0:
        raise ValueError(f"the batch column must not be negative, got {first}")
    needed = last + 1
    if batch_size is None:
        return max(needed, 1)
    if needed > batch_size:
        raise ValueError(f"coords name scene {needed - 1}, but batch_size is {batch_size}")
    return batch_size


def refuse_forward_mode(feats: Tensor) -> None:
    """RuntimeError where features carry a tangent, which the operators would take for zero."""
    if forward_ad._current_level >= 0 and forward_ad.unpack_dual(feats).tangent is not None:
        raise RuntimeError("tsp3d.sparse has no forward-mode derivatives (torch.func.jvp); use reverse mode")


def summable(feats: Tensor) -> Tensor:
    """Half precision as float32, which the operators sum in."""
    refuse_forward_mode(feats)
    return feats.float() if feats.dtype in (torch.float16, torch.bfloat16) else feats


def gather_unique(
    feats: Tensor, coords: Tensor, stride: int, batch_size: int | None, reduce: str
) -> tuple[SparseTensor, Tensor]:
    """Tensor over the unique rows of coords (P, 4), and the row (P,) int64 that each given row went to."""
    _check_coords(coords, stride)
    if feats.ndim != 2 or feats.shape[0] != coords.shape[0]:
        raise ValueError(f"feats must be ({coords.shape[0]}, C) to match coords, got {tuple(feats.shape)}")
    unique, inverse, order, starts = ops.unique_coords(coords.contiguous(), 1)
    size = _batch_size(unique, batch_size)
    if reduce == "first":
        merged = feats[order[starts[:-1]]]
    elif reduce in ("mean", "sum"):
        # Half precision is summed in float32, and integers without a rounding.
        wide = feats.to(torch.float32 if feats.is_floating_point() and feats.dtype != torch.float64 else torch.float64)
        share = torch.ones_like(inverse, dtype=wide.dtype)
        if reduce == "mean":
            share = (1.0 / starts.diff().to(wide.dtype)).index_select(0, inverse)
        merged = ops.splat(wide, inverse[:, None], share[:, None], len(unique)).to(feats.dtype)
    else:
        raise ValueError(f'reduce must be "mean", "sum" or "first", got {reduce!r}')
    return SparseTensor.over(merged, CoordinateSet(unique, stride, size)), inverse
