"""Functions over sparse tensors that are not layers: voxelisation, set operations, sampling, boxes."""

from __future__ import annotations

import torch
from torch import Tensor

from tsp3d.sparse import ops
from tsp3d.sparse.coords import CoordinateSet
from tsp3d.sparse.tensor import SparseTensor, gather_unique, summable

MAX_COORDINATE = 2**30  # leaves int32 room for kernel offsets


def voxelize(
    points: Tensor,
    feats: Tensor,
    voxel_size: float,
    batch: Tensor | None = None,
    batch_size: int | None = None,
    reduce: str = "mean",
) -> tuple[SparseTensor, Tensor]:
    """Put points into voxels.

    points: (P, 3) float, metres; feats: (P, C); batch: (P,) integer scene of each point, None for one scene;
    reduce: "mean" of the points of a voxel, their "sum", or its "first" point in the given order.

    Returns the tensor (stride 1, voxel = floor(point / voxel_size)) and the row (P,) int64 of each point.
    Raises ValueError where points are not finite or lie too far out for the voxel size, or shapes differ.
    """
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"points must be (P, 3), got {tuple(points.shape)}")
    if voxel_size <= 0:
        raise ValueError(f"voxel_size must be positive, got {voxel_size}")
    cells = torch.floor(summable(points.detach()) / voxel_size)
    if len(cells) and not bool(cells.abs().amax() < MAX_COORDINATE):
        if not bool(torch.isfinite(points).all()):
            raise ValueError("points hold NaN or infinity; remove those rows")
        raise ValueError(
            f"points reach {float(points.abs().amax()):.4g} m, too far for voxels of {voxel_size} m; check the unit of "
            "the scan, move it near the origin, or use larger voxels"
        )
    if batch is not None and batch.shape != points.shape[:1]:
        raise ValueError(f"batch must be ({len(points)},), got {tuple(batch.shape)}")
    if batch is not None and batch.is_floating_point():
        raise ValueError(f"batch must be integers, got {batch.dtype}")
    if batch is None:
        batch, batch_size = torch.zeros_like(cells[:, 0], dtype=torch.int32), batch_size or 1
    coords = torch.cat([batch.int()[:, None], cells.int()], 1)
    return gather_unique(feats, coords, 1, batch_size, reduce)


def segment_mean(feats: Tensor, row: Tensor, size: int) -> Tensor:
    """Mean of the feats (P, C) that go to each row; ``row`` (P,) int64 as :func:`voxelize` gives -> (size, C), 0 where
    none go. Half precision is summed in float32."""
    wide = summable(feats)
    share = 1.0 / torch.bincount(row, minlength=size).to(wide.dtype)
    return ops.splat(wide, row[:, None], share.index_select(0, row)[:, None], size).to(feats.dtype)


def _check_alike(a: SparseTensor, b: SparseTensor) -> None:
    if a.stride != b.stride:
        raise ValueError(f"the tensors must have the same stride, got {a.stride} and {b.stride}")


def union(a: SparseTensor, b: SparseTensor) -> SparseTensor:
    """Voxels of either tensor, with the sum of their features (an absent voxel counts as zero). Same stride."""
    _check_alike(a, b)
    if a.coordinate_set is b.coordinate_set:
        return a.replace(a.feats + b.feats)
    coords, rows_a, rows_b = ops.merge_coords(a.coords, b.coords)
    dtype = torch.promote_types(a.dtype, b.dtype)
    wide = torch.float32 if dtype.is_floating_point and dtype != torch.float64 else torch.float64
    feats = ops.merge_feats(a.feats.to(wide), b.feats.to(wide), rows_a, rows_b).to(dtype)
    return SparseTensor.over(feats, CoordinateSet(coords, a.stride, max(a.batch_size, b.batch_size)))


def difference_mask(a: SparseTensor, b: SparseTensor) -> Tensor:
    """(Na,) bool: True where a's voxel is not in b. Same stride."""
    _check_alike(a, b)
    return ops.lookup(b.coords, a.coords) < 0


def lookup(x: SparseTensor, coords: Tensor) -> Tensor:
    """(M,) int64 row of x at each of coords (M, 4) [batch, x, y, z] integer, or -1."""
    rows = ops.lookup(x.coords, coords.int().contiguous())
    return rows if coords.dtype == torch.int32 else rows.where((coords.int() == coords).all(1), -1)  # none wraps round


def _weighted(feats: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """(M, C) weighted sums of rows; half precision is summed in float32."""
    wide = summable(feats)
    return ops.interpolate(wide, rows, weights.to(wide.dtype)).to(feats.dtype)


def _take(feats: Tensor, rows: Tensor) -> Tensor:
    """(M, C) rows of feats, zeros where the row is -1."""
    return _weighted(feats, rows[:, None], feats.new_ones(rows.shape[0], 1))


def align_features(src: SparseTensor, dst_coords: Tensor) -> Tensor:
    """(M, C) features of src at exactly dst_coords (M, 4), zeros where src has no voxel. Differentiable in features."""
    return _take(src.feats, lookup(src, dst_coords))


def interpolate(x: SparseTensor, points: Tensor) -> Tensor:
    """Trilinear interpolation (M, C) at points (M, 4) float [batch, x, y, z in base voxels].

    A voxel's position is its coordinate (its minimum corner). Missing neighbours count as zero and the weights are not
    renormalised. Differentiable in the features.
    """
    if points.ndim != 2 or points.shape[1] != 4:
        raise ValueError(f"points must be (M, 4) [batch, x, y, z], got {tuple(points.shape)}")
    rows, weights = ops.interpolation_weights(x.coords, points.detach().contiguous(), x.stride)
    return _weighted(x.feats, rows, weights)


def interpolate_over(x: SparseTensor, points: CoordinateSet, shift: float = 0.0) -> Tensor:
    """(M, C): as :func:`interpolate`, at the voxels of a set moved by ``shift`` base voxels along each axis. Where the
    points fall is kept with the two sets, or with the set that x was pruned from, which lasts longer."""
    feats, around, pruned = x.feats, x.coordinate_set, x.coordinate_set.pruned_from
    if pruned is not None:
        around, rows = pruned
        feats = feats.new_zeros(around.rows, feats.shape[1]).index_copy(0, rows, feats)
    return _weighted(feats, *around.around(points, shift))


def replicate(x: SparseTensor, times: int | Tensor) -> SparseTensor:
    """A batch of copies of scenes: new scene b is scene ``index[b]`` of x.

    times: (B',) int64 scene indices, or an int: that many copies of every scene (0, 0, …, 1, 1, …).
    Kernel maps are copied by arithmetic on row numbers, not rebuilt.
    """
    if isinstance(times, int):
        times = torch.arange(x.batch_size, device=x.device).repeat_interleave(times)
    index = times.to(device=x.device, dtype=torch.int64)
    scenes = index.tolist()
    if scenes and not (0 <= min(scenes) and max(scenes) < x.batch_size):
        raise ValueError(f"scene indices must be in 0..{x.batch_size - 1}, got {scenes}")
    if x.batch_size == 1 and len(scenes) == 1:  # the same scene: its kernel maps serve again
        return x
    rows, _ = x.coordinate_set.replicated_rows(index)
    return SparseTensor.over(x.feats.index_select(0, rows), x.coordinate_set.replicated(index))


def _check_boxes(name: str, boxes: Tensor) -> Tensor:
    if boxes.ndim != 2 or boxes.shape[1] not in (6, 7):
        raise ValueError(f"{name} must be (M, 6) or (M, 7) x, y, z, dx, dy, dz[, yaw], got {tuple(boxes.shape)}")
    boxes = summable(boxes.detach())
    # As nothing: comparisons with NaN would let such a box overlap all others.
    return boxes.where(boxes.isfinite().all(1, keepdim=True), 0.0).contiguous()


def box_iou_3d(a: Tensor, b: Tensor) -> Tensor:
    """(M, N) intersection over union of boxes (x, y, z, dx, dy, dz[, yaw]), exact also for turned boxes.

    a: (M, 6 or 7), b: (N, 6 or 7). Boxes of no volume, or with NaN or infinity, overlap nothing. Not differentiable.
    """
    checked = _check_boxes("a", a)
    return ops.box_iou_3d(checked, checked if b is a else _check_boxes("b", b))


def nms_3d(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Indices int64, best first, of the boxes (N, 6 or 7) that no better kept box overlaps by more than a threshold."""
    boxes = _check_boxes("boxes", boxes)
    if scores.shape != (boxes.shape[0],):
        raise ValueError(f"scores must be ({boxes.shape[0]},), got {tuple(scores.shape)}")
    return ops.nms_3d(boxes, summable(scores.detach()).contiguous(), iou_threshold)
