"""Shapes and dtypes of the operators' results, for tracing and compiling."""

from __future__ import annotations

import torch
from torch import Tensor

from tsp3d.sparse.library import LIBRARY


def _unknown_size():
    return torch.library.get_ctx().new_dynamic_size()


def _fake_map(like: Tensor, borders) -> tuple[Tensor, Tensor, Tensor]:
    size = _unknown_size()
    rows = (like.new_empty(size, dtype=torch.int32), like.new_empty(size, dtype=torch.int32))
    return *rows, like.new_empty(borders, dtype=torch.int64)


@torch.library.register_fake("tsp3d::unique_coords", lib=LIBRARY)
def _(coords, step):
    size, rows = _unknown_size(), coords.shape[0]
    long = {"dtype": torch.int64}
    return (
        coords.new_empty(size, 4),
        coords.new_empty(rows, **long),
        coords.new_empty(rows, **long),
        coords.new_empty(size + 1, **long),
    )


@torch.library.register_fake("tsp3d::is_coordinate_set", lib=LIBRARY)
def _(coords):
    return coords.new_empty((), dtype=torch.bool)


@torch.library.register_fake("tsp3d::lookup", lib=LIBRARY)
def _(coords, query):
    return query.new_empty(query.shape[0], dtype=torch.int64)


@torch.library.register_fake("tsp3d::merge_coords", lib=LIBRARY)
def _(a, b):
    size = _unknown_size()
    rows = (a.new_empty(size, dtype=torch.int64), a.new_empty(size, dtype=torch.int64))
    return a.new_empty(size, 4), *rows


@torch.library.register_fake("tsp3d::merge_feats", lib=LIBRARY)
def _(a, b, rows_a, rows_b):
    return a.new_empty(rows_a.shape[0], a.shape[1])


@torch.library.register_fake("tsp3d::dilate_coords", lib=LIBRARY)
def _(coords, kernel_size, step):
    return coords.new_empty(_unknown_size(), 4)


@torch.library.register_fake("tsp3d::kernel_map", lib=LIBRARY)
def _(in_coords, out_coords, kernel_size, step):
    return _fake_map(in_coords, kernel_size[0] * kernel_size[1] * kernel_size[2] + 1)


@torch.library.register_fake("tsp3d::filter_map", lib=LIBRARY)
def _(in_rows, out_rows, splits, new_in, new_out):
    return _fake_map(in_rows, splits.shape[0])


@torch.library.register_fake("tsp3d::replicate_map", lib=LIBRARY)
def _(in_rows, out_rows, splits, in_offsets, out_offsets, index):
    return _fake_map(in_rows, splits.shape[0])


@torch.library.register_fake("tsp3d::conv", lib=LIBRARY)
def _(feats, weight, in_rows, out_rows, splits, num_out):
    return feats.new_empty(num_out, weight.shape[2])


@torch.library.register_fake("tsp3d::conv_fused", lib=LIBRARY)
def _(feats, panels, channels, bias, residual, in_rows, out_rows, splits, num_out, relu):
    return feats.new_empty(num_out, channels)


@torch.library.register_fake("tsp3d::conv_int8", lib=LIBRARY)
def _(feats, weight, scales, step, zero, bias, residual, in_rows, out_rows, splits, num_out, relu):
    return feats.new_empty(num_out, scales.shape[0])


@torch.library.register_fake("tsp3d::conv_weight_grad", lib=LIBRARY)
def _(feats, grad, in_rows, out_rows, splits):
    return feats.new_empty(splits.shape[0] - 1, feats.shape[1], grad.shape[1])


@torch.library.register_fake("tsp3d::sort_map", lib=LIBRARY)
def _(in_rows, out_rows, splits, num_out, shares):
    return in_rows.new_empty(shares + splits.shape[0] - 1, num_out)


@torch.library.register_fake("tsp3d::tiled_conv", lib=LIBRARY)
def _(feats, weight, in_rows, out_rows, splits, sorted, num_out, tile, shares):
    return feats.new_empty(num_out, weight.shape[2])


@torch.library.register_fake("tsp3d::tiled_weight_grad", lib=LIBRARY)
def _(feats, grad, in_rows, out_rows, splits, tile, shares):
    return feats.new_empty(splits.shape[0] - 1, feats.shape[1], grad.shape[1])


@torch.library.register_fake("tsp3d::sum_pool", lib=LIBRARY)
def _(feats, in_rows, out_rows, splits, num_out):
    return feats.new_empty(num_out, feats.shape[1])


@torch.library.register_fake("tsp3d::max_pool", lib=LIBRARY)
def _(feats, in_rows, out_rows, splits, num_out):
    shape = (num_out, feats.shape[1])
    return feats.new_empty(shape), feats.new_empty(shape, dtype=torch.int32)


@torch.library.register_fake("tsp3d::max_pool_grad", lib=LIBRARY)
def _(grad, argmax, num_in):
    return grad.new_empty(num_in, grad.shape[1])


@torch.library.register_fake("tsp3d::interpolation_weights", lib=LIBRARY)
def _(coords, points, stride):
    return points.new_empty(points.shape[0], 8, dtype=torch.int64), points.new_empty(points.shape[0], 8)


@torch.library.register_fake("tsp3d::interpolate", lib=LIBRARY)
def _(feats, rows, weights):
    return feats.new_empty(rows.shape[0], feats.shape[1])


@torch.library.register_fake("tsp3d::splat", lib=LIBRARY)
def _(grad, rows, weights, num_in):
    return grad.new_empty(num_in, grad.shape[1])


@torch.library.register_fake("tsp3d::attention", lib=LIBRARY)
def _(q, k, v, q_splits, k_splits, scale):
    return q.new_empty(q.shape[0], q.shape[1], v.shape[2])


@torch.library.register_fake("tsp3d::spatial_attention", lib=LIBRARY)
def _(q, k, v, ask, xyz, splits):
    return q.new_empty(q.shape[0], q.shape[1], v.shape[2] + 7)


@torch.library.register_fake("tsp3d::linear", lib=LIBRARY)
def _(x, before_weight, before_bias, panels, channels, activation, factor, residual, after_weight, after_bias, eps):
    return x.new_empty(x.shape[0], channels)


@torch.library.register_fake("tsp3d::mean_mlp", lib=LIBRARY)
def _(x, first, hidden, second, channels, row, size):
    return x.new_empty(size, channels)


@torch.library.register_fake("tsp3d::attention_layer", lib=LIBRARY)
def _(query, *others):
    return torch.empty_like(query, memory_format=torch.contiguous_format)


@torch.library.register_fake("tsp3d::top_mask", lib=LIBRARY)
def _(scores, splits, keep):
    return scores.new_empty(scores.shape[0], dtype=torch.bool)


@torch.library.register_fake("tsp3d::box_iou_3d", lib=LIBRARY)
def _(a, b):
    return a.new_empty(a.shape[0], b.shape[0], dtype=torch.promote_types(a.dtype, b.dtype))


@torch.library.register_fake("tsp3d::nms_3d", lib=LIBRARY)
def _(boxes, scores, iou_threshold):
    return boxes.new_empty(_unknown_size(), dtype=torch.int64)
