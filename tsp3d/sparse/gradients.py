"""Gradients of the operators.

A kernel map read with its columns swapped is the map of the transposed operator, already in the right order.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tsp3d.sparse.library import LIBRARY

_ops = torch.ops.tsp3d


def _conv_setup(ctx, inputs, output):
    feats, weight, in_rows, out_rows, splits, _ = inputs
    ctx.save_for_backward(feats, weight, in_rows, out_rows, splits)


def _conv_backward(ctx, grad):
    feats, weight, in_rows, out_rows, splits = ctx.saved_tensors
    grad_feats = grad_weight = None
    if ctx.needs_input_grad[0]:
        grad_feats = _ops.conv(grad, weight.transpose(1, 2), out_rows, in_rows, splits, feats.shape[0])
    if ctx.needs_input_grad[1]:
        grad_weight = _ops.conv_weight_grad(feats, grad, in_rows, out_rows, splits)
    return grad_feats, grad_weight, None, None, None, None


def _weight_grad_setup(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _weight_grad_backward(ctx, grad):
    feats, grad_out, in_rows, out_rows, splits = ctx.saved_tensors
    grad_feats = _ops.conv(grad_out, grad.transpose(1, 2), out_rows, in_rows, splits, feats.shape[0])
    return grad_feats, _ops.conv(feats, grad, in_rows, out_rows, splits, grad_out.shape[0]), None, None, None


def _sum_pool_setup(ctx, inputs, output):
    feats, in_rows, out_rows, splits, _ = inputs
    ctx.save_for_backward(in_rows, out_rows, splits)
    ctx.num_in = feats.shape[0]


def _sum_pool_backward(ctx, grad):
    in_rows, out_rows, splits = ctx.saved_tensors
    return _ops.sum_pool(grad, out_rows, in_rows, splits, ctx.num_in), None, None, None, None


def _max_pool_setup(ctx, inputs, output):
    ctx.save_for_backward(output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.num_in = inputs[0].shape[0]


def _max_pool_backward(ctx, grad, _):
    return _ops.max_pool_grad(grad, ctx.saved_tensors[0], ctx.num_in), None, None, None, None


def _merge_setup(ctx, inputs, output):
    a, b, rows_a, rows_b = inputs
    ctx.save_for_backward(rows_a, rows_b)
    ctx.sizes = (a.shape[0], b.shape[0])


def _merge_backward(ctx, grad):
    one = grad.new_ones(grad.shape[0], 1)
    grads = [
        _ops.splat(grad, rows[:, None], one, size) if needed else None
        for rows, size, needed in zip(ctx.saved_tensors, ctx.sizes, ctx.needs_input_grad, strict=False)
    ]
    return *grads, None, None


def _interpolate_setup(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _weights_grad(feats: Tensor, grad: Tensor, rows: Tensor) -> Tensor:
    """(M, J): the inner products of feats[rows[m, j]] and grad[m]."""
    one = feats.new_ones(rows.shape[0], 1)
    return torch.stack(
        [(_ops.interpolate(feats, rows[:, j : j + 1], one) * grad).sum(1) for j in range(rows.shape[1])], 1
    )


def _interpolate_backward(ctx, grad):
    feats, rows, weights = ctx.saved_tensors
    grad_feats = grad_weights = None
    if ctx.needs_input_grad[0]:
        grad_feats = _ops.splat(grad, rows, weights, feats.shape[0])
    if ctx.needs_input_grad[2]:
        grad_weights = _weights_grad(feats, grad, rows)
    return grad_feats, None, grad_weights


def _splat_setup(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:3])


def _splat_backward(ctx, grad):
    values, rows, weights = ctx.saved_tensors
    grad_values = grad_weights = None
    if ctx.needs_input_grad[0]:
        grad_values = _ops.interpolate(grad, rows, weights)
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
    torch.library.register_autograd(f"tsp3d::{_name}", _backward, setup_context=_setup, lib=LIBRARY)
