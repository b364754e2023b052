"""Sparse voxel engine: tensors over occupied voxels, and convolution, pooling and sampling over them."""

from tsp3d.sparse import nn, ops
from tsp3d.sparse.backends import STATUS as backend_status
from tsp3d.sparse.coords import CoordinateSet
from tsp3d.sparse.functional import (
    align_features,
    box_iou_3d,
    difference_mask,
    interpolate,
    interpolate_over,
    lookup,
    nms_3d,
    replicate,
    segment_mean,
    union,
    voxelize,
)
from tsp3d.sparse.kept import forget_packed_weights
from tsp3d.sparse.kernel_map import KernelMap
from tsp3d.sparse.memory import keep_freed_memory
from tsp3d.sparse.tensor import SparseTensor

__all__ = [
    "CoordinateSet",
    "KernelMap",
    "SparseTensor",
    "align_features",
    "backend_status",
    "box_iou_3d",
    "difference_mask",
    "forget_packed_weights",
    "interpolate",
    "interpolate_over",
    "keep_freed_memory",
    "lookup",
    "nms_3d",
    "nn",
    "ops",
    "replicate",
    "segment_mean",
    "union",
    "voxelize",
]
