"""The operators ``torch.ops.tsp3d.*``: their schemas, and which code runs.

The schemas live here, so that the operators exist without a compiler. The compiled libraries, one for the CPU and one
for CUDA, register their kernels under the same names; ``reference.py`` serves every device that has none.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from tsp3d.sparse import reference, reference_boxes, reference_int8, reference_rows
from tsp3d.sparse.backends import STATUS as STATUS  # loads the compiled library, before the schemas are defined

_MAP = "Tensor in_rows, Tensor out_rows, Tensor splits"
SCHEMAS: dict[str, tuple[str, Callable]] = {
    "unique_coords": ("(Tensor coords, int step) -> (Tensor, Tensor, Tensor, Tensor)", reference.unique_coords),
    "is_coordinate_set": ("(Tensor coords) -> Tensor", reference.is_coordinate_set),
    "lookup": ("(Tensor coords, Tensor query) -> Tensor", reference.lookup),
    "merge_coords": ("(Tensor a, Tensor b) -> (Tensor, Tensor, Tensor)", reference.merge_coords),
    "merge_feats": ("(Tensor a, Tensor b, Tensor rows_a, Tensor rows_b) -> Tensor", reference.merge_feats),
    "dilate_coords": ("(Tensor coords, int[] kernel_size, int step) -> Tensor", reference.dilate_coords),
    "kernel_map": (
        "(Tensor in_coords, Tensor out_coords, int[] kernel_size, int step) -> (Tensor, Tensor, Tensor)",
        reference.kernel_map,
    ),
    "filter_map": (f"({_MAP}, Tensor new_in, Tensor new_out) -> (Tensor, Tensor, Tensor)", reference.filter_map),
    "replicate_map": (
        f"({_MAP}, Tensor in_offsets, Tensor out_offsets, Tensor index) -> (Tensor, Tensor, Tensor)",
        reference.replicate_map,
    ),
    "conv": (f"(Tensor feats, Tensor weight, {_MAP}, SymInt num_out) -> Tensor", reference.conv),
    "conv_fused": (
        "(Tensor feats, Tensor panels, SymInt channels, Tensor? bias, Tensor? residual, "
        f"{_MAP}, SymInt num_out, bool relu) -> Tensor",
        reference.conv_fused,
    ),
    "conv_int8": (
        "(Tensor feats, Tensor weight, Tensor scales, float step, int zero, Tensor? bias, Tensor? residual, "
        f"{_MAP}, SymInt num_out, bool relu) -> Tensor",
        reference_int8.conv_int8,
    ),
    "conv_weight_grad": (f"(Tensor feats, Tensor grad, {_MAP}) -> Tensor", reference.conv_weight_grad),
    "sort_map": (f"({_MAP}, SymInt num_out, int shares) -> Tensor", reference.sort_map),
    "tiled_conv": (
        f"(Tensor feats, Tensor weight, {_MAP}, Tensor? sorted, SymInt num_out, int tile, int shares) -> Tensor",
        reference.tiled_conv,
    ),
    "tiled_weight_grad": (
        f"(Tensor feats, Tensor grad, {_MAP}, int tile, int shares) -> Tensor",
        reference.tiled_weight_grad,
    ),
    "sum_pool": (f"(Tensor feats, {_MAP}, SymInt num_out) -> Tensor", reference.sum_pool),
    "max_pool": (f"(Tensor feats, {_MAP}, SymInt num_out) -> (Tensor, Tensor)", reference.max_pool),
    "max_pool_grad": ("(Tensor grad, Tensor argmax, SymInt num_in) -> Tensor", reference.max_pool_grad),
    "interpolation_weights": (
        "(Tensor coords, Tensor points, int stride) -> (Tensor, Tensor)",
        reference.interpolation_weights,
    ),
    "interpolate": ("(Tensor feats, Tensor rows, Tensor weights) -> Tensor", reference.interpolate),
    "splat": (
        "(Tensor grad, Tensor rows, Tensor weights, SymInt num_in) -> Tensor",
        reference.splat,
    ),
    "attention": (
        "(Tensor q, Tensor k, Tensor v, Tensor q_splits, Tensor k_splits, float scale) -> Tensor",
        reference_rows.attention,
    ),
    "spatial_attention": (
        "(Tensor q, Tensor k, Tensor v, Tensor ask, Tensor xyz, Tensor splits) -> Tensor",
        reference_rows.spatial_attention,
    ),
    "linear": (
        "(Tensor x, Tensor? before_weight, Tensor? before_bias, Tensor panels, SymInt channels, int activation, "
        "Tensor? factor, Tensor? residual, Tensor? after_weight, Tensor? after_bias, float eps) -> Tensor",
        reference_rows.linear,
    ),
    "mean_mlp": (
        "(Tensor x, Tensor first, int hidden, Tensor second, SymInt channels, Tensor row, SymInt size) -> Tensor",
        reference_rows.mean_mlp,
    ),
    "attention_layer": (
        "(Tensor query, Tensor? value, Tensor? before_weight, Tensor? before_bias, Tensor first, int channels, "
        "Tensor? second, Tensor out, Tensor? xyz, Tensor q_splits, Tensor k_splits, int heads, Tensor? residual, "
        "Tensor? after_weight, Tensor? after_bias, float eps) -> Tensor",
        reference_rows.attention_layer,
    ),
    "top_mask": ("(Tensor scores, Tensor splits, int keep) -> Tensor", reference_rows.top_mask),
    "box_iou_3d": ("(Tensor a, Tensor b) -> Tensor", reference_boxes.box_iou_3d),
    "nms_3d": ("(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor", reference_boxes.nms_3d),
}

LIBRARY = torch.library.Library("tsp3d", "DEF")
ON_REFERENCE: set[str] = set()  # operators that plain PyTorch serves on the CPU
ON_REFERENCE_CUDA: set[str] = set()  # and on CUDA, but for…
# …what needs no kernels there: torch's own products and sorts and the tuned convolutions are good, int8 is the CPU's.
CPU_ALONE = {"attention_layer", "conv_fused", "conv_int8", "linear", "mean_mlp", "top_mask"}
for _name, (_schema, _function) in SCHEMAS.items():
    LIBRARY.define(_name + _schema, tags=(torch.Tag.pt2_compliant_tag,))
    for _device, _served in (("CPU", ON_REFERENCE), ("CUDA", ON_REFERENCE_CUDA)):
        # Also where a library of an older build lacks the operator.
        if not torch._C._dispatch_has_kernel_for_dispatch_key(f"tsp3d::{_name}", _device):
            LIBRARY.impl(_name, _function, _device)
            if _device == "CPU" or _name not in CPU_ALONE:
                _served.add(_name)
# The CUDA kernels of the convolution take half precision and sum in float32; all others take float32 and float64.
HALF_ON_CUDA = not {"conv", "conv_weight_grad"} & ON_REFERENCE_CUDA
