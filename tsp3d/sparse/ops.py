"""The operators ``torch.ops.tsp3d.*`` by their names, with shapes for tracing and gradients.

They are what the layers are made of, and trust row numbers, and sizes that follow from them (csrc/README.md): pass on
what one of them gave. The functions and layers of :mod:`tsp3d.sparse` check.
"""

from __future__ import annotations

import torch

from tsp3d.sparse import fakes as fakes
from tsp3d.sparse import gradients as gradients
from tsp3d.sparse.library import CPU_ALONE as CPU_ALONE
from tsp3d.sparse.library import HALF_ON_CUDA as HALF_ON_CUDA
from tsp3d.sparse.library import ON_REFERENCE as ON_REFERENCE
from tsp3d.sparse.library import ON_REFERENCE_CUDA as ON_REFERENCE_CUDA
from tsp3d.sparse.library import SCHEMAS as SCHEMAS

_ops = torch.ops.tsp3d
unique_coords = _ops.unique_coords
is_coordinate_set = _ops.is_coordinate_set
lookup = _ops.lookup
merge_coords = _ops.merge_coords
merge_feats = _ops.merge_feats
dilate_coords = _ops.dilate_coords
kernel_map = _ops.kernel_map
filter_map = _ops.filter_map
replicate_map = _ops.replicate_map
conv = _ops.conv
conv_fused = _ops.conv_fused
conv_int8 = _ops.conv_int8
conv_weight_grad = _ops.conv_weight_grad
sort_map = _ops.sort_map
tiled_conv = _ops.tiled_conv
tiled_weight_grad = _ops.tiled_weight_grad
sum_pool = _ops.sum_pool
max_pool = _ops.max_pool
max_pool_grad = _ops.max_pool_grad
interpolation_weights = _ops.interpolation_weights
interpolate = _ops.interpolate
splat = _ops.splat
attention = _ops.attention
spatial_attention = _ops.spatial_attention
linear = _ops.linear
mean_mlp = _ops.mean_mlp
attention_layer = _ops.attention_layer
top_mask = _ops.top_mask
box_iou_3d = _ops.box_iou_3d
nms_3d = _ops.nms_3d
