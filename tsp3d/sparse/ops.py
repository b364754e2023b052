"""The operators ``torch.ops.tsp3d.*``: schemas, shapes for tracing, gradients, and which code runs.

The schemas live here, so that the operators exist without a compiler. The compiled libraries, one for the CPU and one
for CUDA, register their kernels under the same names; ``reference.py`` serves every device that has none.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

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

_LIBRARY = torch.library.Library("tsp3d", "DEF")
ON_REFERENCE: set[str] = set()  # operators that plain PyTorch serves on the CPU
ON_REFERENCE_CUDA: set[str] = set()  # and on CUDA, but for…
# …what needs no kernels there: torch's own products and sorts and the tuned convolutions are good, int8 is the CPU's.
CPU_ALONE = {"attention_layer", "conv_fused", "conv_int8", "linear", "mean_mlp", "top_mask"}
for _name, (_schema, _function) in SCHEMAS.items():
    _LIBRARY.define(_name + _schema, tags=(torch.Tag.pt2_compliant_tag,))
    for _device, _served in (("CPU", ON_REFERENCE), ("CUDA", ON_REFERENCE_CUDA)):
        # Also where a library of an older build lacks the operator.
        if not torch._C._dispatch_has_kernel_for_dispatch_key(f"tsp3d::{_name}", _device):
            _LIBRARY.impl(_name, _function, _device)
            if _device == "CPU" or _name not in CPU_ALONE:
                _served.add(_name)
# The CUDA kernels of the convolution take half precision and sum in float32; all others take float32 and float64.
HALF_ON_CUDA = not {"conv", "conv_weight_grad"} & ON_REFERENCE_CUDA

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


# --- shapes for tracing -----------------------------------------------------------------------------------------------


def _unknown_size():
    return torch.library.get_ctx().new_dynamic_size()


def _fake_map(like: Tensor, borders) -> tuple[Tensor, Tensor, Tensor]:
    size = _unknown_size()
    rows = (like.new_empty(size, dtype=torch.int32), like.new_empty(size, dtype=torch.int32))
    return *rows, like.new_empty(borders, dtype=torch.int64)


@torch.library.register_fake("tsp3d::unique_coords", lib=_LIBRARY)
def _(coords, step):
    size, rows = _unknown_size(), coords.shape[0]
    long = {"dtype": torch.int64}
    return (
        coords.new_empty(size, 4),
        coords.new_empty(rows, **long),
        coords.new_empty(rows, **long),
        coords.new_empty(size + 1, **long),
    )


@torch.library.register_fake("tsp3d::is_coordinate_set", lib=_LIBRARY)
def _(coords):
    return coords.new_empty((), dtype=torch.bool)


@torch.library.register_fake("tsp3d::lookup", lib=_LIBRARY)
def _(coords, query):
    return query.new_empty(query.shape[0], dtype=torch.int64)


@torch.library.register_fake("tsp3d::merge_coords", lib=_LIBRARY)
def _(a, b):
    size = _unknown_size()
    rows = (a.new_empty(size, dtype=torch.int64), a.new_empty(size, dtype=torch.int64))
    return a.new_empty(size, 4), *rows


@torch.library.register_fake("tsp3d::merge_feats", lib=_LIBRARY)
def _(a, b, rows_a, rows_b):
    return a.new_empty(rows_a.shape[0], a.shape[1])


@torch.library.register_fake("tsp3d::dilate_coords", lib=_LIBRARY)
def _(coords, kernel_size, step):
    return coords.new_empty(_unknown_size(), 4)


@torch.library.register_fake("tsp3d::kernel_map", lib=_LIBRARY)
def _(in_coords, out_coords, kernel_size, step):
    return _fake_map(in_coords, kernel_size[0] * kernel_size[1] * kernel_size[2] + 1)


@torch.library.register_fake("tsp3d::filter_map", lib=_LIBRARY)
def _(in_rows, out_rows, splits, new_in, new_out):
    return _fake_map(in_rows, splits.shape[0])


@torch.library.register_fake("tsp3d::replicate_map", lib=_LIBRARY)
def _(in_rows, out_rows, splits, in_offsets, out_offsets, index):
    return _fake_map(in_rows, splits.shape[0])


@torch.library.register_fake("tsp3d::conv", lib=_LIBRARY)
def _(feats, weight, in_rows, out_rows, splits, num_out):
    return feats.new_empty(num_out, weight.shape[2])


@torch.library.register_fake("tsp3d::conv_fused", lib=_LIBRARY)
def _(feats, panels, channels, bias, residual, in_rows, out_rows, splits, num_out, relu):
    return feats.new_empty(num_out, channels)


@torch.library.register_fake("tsp3d::conv_int8", lib=_LIBRARY)
def _(feats, weight, scales, step, zero, bias, residual, in_rows, out_rows, splits, num_out, relu):
    return feats.new_empty(num_out, scales.shape[0])


@torch.library.register_fake("tsp3d::conv_weight_grad", lib=_LIBRARY)
def _(feats, grad, in_rows, out_rows, splits):
    return feats.new_empty(splits.shape[0] - 1, feats.shape[1], grad.shape[1])


@torch.library.register_fake("tsp3d::sort_map", lib=_LIBRARY)
def _(in_rows, out_rows, splits, num_out, shares):
    return in_rows.new_empty(shares + splits.shape[0] - 1, num_out)


@torch.library.register_fake("tsp3d::tiled_conv", lib=_LIBRARY)
def _(feats, weight, in_rows, out_rows, splits, sorted, num_out, tile, shares):
    return feats.new_empty(num_out, weight.shape[2])


@torch.library.register_fake("tsp3d::tiled_weight_grad", lib=_LIBRARY)
def _(feats, grad, in_rows, out_rows, splits, tile, shares):
    return feats.new_empty(splits.shape[0] - 1, feats.shape[1], grad.shape[1])


@torch.library.register_fake("tsp3d::sum_pool", lib=_LIBRARY)
def _(feats, in_rows, out_rows, splits, num_out):
    return feats.new_empty(num_out, feats.shape[1])


@torch.library.register_fake("tsp3d::max_pool", lib=_LIBRARY)
def _(feats, in_rows, out_rows, splits, num_out):
    shape = (num_out, feats.shape[1])
    return feats.new_empty(shape), feats.new_empty(shape, dtype=torch.int32)


@torch.library.register_fake("tsp3d::max_pool_grad", lib=_LIBRARY)
def _(grad, argmax, num_in):
    return grad.new_empty(num_in, grad.shape[1])


@torch.library.register_fake("tsp3d::interpolation_weights", lib=_LIBRARY)
def _(coords, points, stride):
    return points.new_empty(points.shape[0], 8, dtype=torch.int64), points.new_empty(points.shape[0], 8)


@torch.library.register_fake("tsp3d::interpolate", lib=_LIBRARY)
def _(feats, rows, weights):
    return feats.new_empty(rows.shape[0], feats.shape[1])


@torch.library.register_fake("tsp3d::splat", lib=_LIBRARY)
def _(grad, rows, weights, num_in):
    return grad.new_empty(num_in, grad.shape[1])


@torch.library.register_fake("tsp3d::attention", lib=_LIBRARY)
def _(q, k, v, q_splits, k_splits, scale):
    return q.new_empty(q.shape[0], q.shape[1], v.shape[2])


@torch.library.register_fake("tsp3d::spatial_attention", lib=_LIBRARY)
def _(q, k, v, ask, xyz, splits):
    return q.new_empty(q.shape[0], q.shape[1], v.shape[2] + 7)


@torch.library.register_fake("tsp3d::linear", lib=_LIBRARY)
def _(x, before_weight, before_bias, panels, channels, activation, factor, residual, after_weight, after_bias, eps):
    return x.new_empty(x.shape[0], channels)


@torch.library.register_fake("tsp3d::mean_mlp", lib=_LIBRARY)
def _(x, first, hidden, second, channels, row, size):
    return x.new_empty(size, channels)


@torch.library.register_fake("tsp3d::attention_layer", lib=_LIBRARY)
def _(query, *others):
    return torch.empty_like(query, memory_format=torch.contiguous_format)


@torch.library.register_fake("tsp3d::top_mask", lib=_LIBRARY)
def _(scores, splits, keep):
    return scores.new_empty(scores.shape[0], dtype=torch.bool)


@torch.library.register_fake("tsp3d::box_iou_3d", lib=_LIBRARY)
def _(a, b):
    return a.new_empty(a.shape[0], b.shape[0], dtype=torch.promote_types(a.dtype, b.dtype))


@torch.library.register_fake("tsp3d::nms_3d", lib=_LIBRARY)
def _(boxes, scores, iou_threshold):
    return boxes.new_empty(_unknown_size(), dtype=torch.int64)


# --- gradients --------------------------------------------------------------------------------------------------------
# A kernel map read with its columns swapped is the map of the transposed operator, already in the right order.


def _conv_setup(ctx, inputs, output):
    feats, weight, in_rows, out_rows, splits, _ = inputs
    ctx.save_for_backward(feats, weight, in_rows, out_rows, splits)


def _conv_backward(ctx, grad):
    feats, weight, in_rows, out_rows, splits = ctx.saved_tensors
    grad_feats = grad_weight = None
    if ctx.needs_input_grad[0]:
        grad_feats = conv(grad, weight.transpose(1, 2), out_rows, in_rows, splits, feats.shape[0])
    if ctx.needs_input_grad[1]:
        grad_weight = conv_weight_grad(feats, grad, in_rows, out_rows, splits)
    return grad_feats, grad_weight, None, None, None, None


def _weight_grad_setup(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _weight_grad_backward(ctx, grad):
    feats, grad_out, in_rows, out_rows, splits = ctx.saved_tensors
    grad_feats = conv(grad_out, grad.transpose(1, 2), out_rows, in_rows, splits, feats.shape[0])
    return grad_feats, conv(feats, grad, in_rows, out_rows, splits, grad_out.shape[0]), None, None, None


def _sum_pool_setup(ctx, inputs, output):
    feats, in_rows, out_rows, splits, _ = inputs
    ctx.save_for_backward(in_rows, out_rows, splits)
    ctx.num_in = feats.shape[0]


def _sum_pool_backward(ctx, grad):
    in_rows, out_rows, splits = ctx.saved_tensors
    return sum_pool(grad, out_rows, in_rows, splits, ctx.num_in), None, None, None, None


def _max_pool_setup(ctx, inputs, output):
    ctx.save_for_backward(output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.num_in = inputs[0].shape[0]


def _max_pool_backward(ctx, grad, _):
    return max_pool_grad(grad, ctx.saved_tensors[0], ctx.num_in), None, None, None, None


def _merge_setup(ctx, inputs, output):
    a, b, rows_a, rows_b = inputs
    ctx.save_for_backward(rows_a, rows_b)
    ctx.sizes = (a.shape[0], b.shape[0])


def _merge_backward(ctx, grad):
    one = grad.new_ones(grad.shape[0], 1)
    grads = [
        splat(grad, rows[:, None], one, size) if needed else None
        for rows, size, needed in zip(ctx.saved_tensors, ctx.sizes, ctx.needs_input_grad, strict=False)
    ]
    return *grads, None, None


def _interpolate_setup(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _weights_grad(feats: Tensor, grad: Tensor, rows: Tensor) -> Tensor:
    """(M, J): the inner products of feats[rows[m, j]] and grad[m]."""
    one = feats.new_ones(rows.shape[0], 1)
    return torch.stack([(interpolate(feats, rows[:, j : j + 1], one) * grad).sum(1) for j in range(rows.shape[1])], 1)


def _interpolate_backward(ctx, grad):
    feats, rows, weights = ctx.saved_tensors
    grad_feats = grad_weights = None
    if ctx.needs_input_grad[0]:
        grad_feats = splat(grad, rows, weights, feats.shape[0])
    if ctx.needs_input_grad[2]:
        grad_weights = _weights_grad(feats, grad, rows)
    return grad_feats, None, grad_weights


def _splat_setup(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:3])


def _splat_backward(ctx, grad):
    values, rows, weights = ctx.saved_tensors
    grad_values = grad_weights = None
    if ctx.needs_input_grad[0]:
        grad_values = interpolate(grad, rows, weights)
    if ctx.needs_input_grad[2]:
        grad_weights = _weights_grad(grad, values, rows)
    return grad_values, None, grad_weights, None


def _no_setup(ctx, inputs, output):
    pass


def _attention_backward(ctx, grad):
    raise RuntimeError("this attention is for inference; learn through torch's scaled_dot_product_attention")


def _layer_backward(ctx, grad):
    raise RuntimeError("this layer is for inference; learn through torch's")


def _conv_fused_backward(ctx, grad):
    raise RuntimeError("this convolution is for inference; learn through conv")


def _conv_int8_backward(ctx, grad):
    raise RuntimeError("this convolution in int8 is for inference; learn in float32, through conv")


def _max_pool_grad_setup(ctx, inputs, output):
    ctx.save_for_backward(inputs[1])


def _max_pool_grad_backward(ctx, grad):
    (argmax,) = ctx.saved_tensors
    nothing = grad.new_zeros(1, grad.shape[1])  # what a row without pairs, -1, reads
    rows = torch.where(argmax < 0, grad.shape[0], argmax).long()
    return torch.cat([grad, nothing]).gather(0, rows), None, None


_GRADIENTS = {
    "attention": (_attention_backward, _no_setup),
    "spatial_attention": (_attention_backward, _no_setup),
    "linear": (_layer_backward, _no_setup),
    "mean_mlp": (_layer_backward, _no_setup),
    "attention_layer": (_layer_backward, _no_setup),
    "conv": (_conv_backward, _conv_setup),
    "conv_fused": (_conv_fused_backward, _no_setup),
    "conv_int8": (_conv_int8_backward, _no_setup),
    "conv_weight_grad": (_weight_grad_backward, _weight_grad_setup),
    "sum_pool": (_sum_pool_backward, _sum_pool_setup),
    "max_pool": (_max_pool_backward, _max_pool_setup),
    "max_pool_grad": (_max_pool_grad_backward, _max_pool_grad_setup),
    "merge_feats": (_merge_backward, _merge_setup),
    "interpolate": (_interpolate_backward, _interpolate_setup),
    "splat": (_splat_backward, _splat_setup),
}
for _name, (_backward, _setup) in _GRADIENTS.items():
    torch.library.register_autograd(f"tsp3d::{_name}", _backward, setup_context=_setup, lib=_LIBRARY)
