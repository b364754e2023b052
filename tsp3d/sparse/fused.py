"""Convolution, batch norm, addition and ReLU in one pass over the result, where nothing is to be learnt."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsp3d.sparse import backends, ops, reference_int8
from tsp3d.sparse.kept import countable, inferring, kept, unaltered
from tsp3d.sparse.linear import Packed
from tsp3d.sparse.nn import BatchNorm, Convolution, ConvTranspose3d, convolve
from tsp3d.sparse.reference import pack
from tsp3d.sparse.reference_int8 import step_and_zero
from tsp3d.sparse.tensor import SparseTensor


def conv_norm(
    conv: Convolution,
    norm: BatchNorm,
    x: SparseTensor,
    *like: SparseTensor,
    residual: Tensor | None = None,
    relu: bool = True,
) -> SparseTensor:
    """``norm(conv(x, *like))`` plus residual (M, Cout), then ReLU.

    In evaluation mode and without gradients the norm's averages are folded into the convolution's weight, once for as
    long as neither changes.
    """
    parts = _parts(conv, norm)
    if not _at_inference(conv, norm, x, parts):
        out = norm(conv(x, *like))
        feats = out.feats if residual is None else out.feats + residual
        return out.replace(feats.relu() if relu else feats)
    conv.check(x)
    target, m = conv.places(x, *like)
    tracked, eps = norm.bn.num_batches_tracked, norm.bn.eps
    parts = parts if tracked is None else [*parts, tracked]
    if m is not None and not x.feats.is_cuda:
        kind = (conv.inference_dtype, conv.inference_range, eps)
        operator, weight = kept(conv, parts, lambda: _packed(conv, norm), kind)
        return SparseTensor.over(
            operator(x.feats, *weight, residual, m.in_rows, m.out_rows, m.splits, target.rows, relu), target
        )
    if m is None and residual is None and x.feats.is_cpu:
        layer = kept(conv, parts, lambda: _rows(conv, norm), ("rows", eps))
        return x.replace(layer(x.feats, activation="relu" if relu else "none"))
    weight, bias = kept(conv, parts, lambda: _folded(conv, norm), eps)
    if m is not None:  # on CUDA the tuned kernels, which leave the rest to a pass of its own
        feats = convolve(x.feats, weight if weight.ndim == 3 else weight[None], m, target.rows).add_(bias)
    else:
        feats = F.linear(x.feats, weight.T, bias)
    feats = feats if residual is None else feats.add_(residual)
    return SparseTensor.over(feats.relu_() if relu else feats, target)


class ConvNorm(nn.Sequential):
    """A convolution and its batch norm, then ReLU."""

    def __init__(self, conv: Convolution, norm: BatchNorm):
        super().__init__(conv, norm)

    def forward(self, x: SparseTensor, *like: SparseTensor, relu: bool = True) -> SparseTensor:
        conv, norm = self
        assert isinstance(conv, Convolution) and isinstance(norm, BatchNorm)
        return conv_norm(conv, norm, x, *like, relu=relu)


def reduce_precision(module: nn.Module, dtype: torch.dtype | None = torch.bfloat16) -> None:
    """Let the convolutions of a module that batch norm follows multiply in bfloat16, at inference on the CPU.

    Features and weights are rounded to 8 bits of mantissa, sums stay in float32. None undoes it, and int8
    (:func:`tsp3d.sparse.int8.use_int8`). Raises RuntimeError where this processor does not multiply bfloat16 numbers
    (AVX-512 BF16).
    """
    if dtype not in (torch.bfloat16, None):
        raise ValueError(f"reduce_precision takes torch.bfloat16 or None, got {dtype}")
    if dtype is not None and not multiplies_bf16():
        raise RuntimeError(
            "this processor, or this build of the kernels, does not multiply bfloat16 numbers (AVX-512 BF16)"
        )
    for part in module.modules():
        if isinstance(part, Convolution):
            part.inference_dtype = dtype


@cache
def multiplies_bf16() -> bool:
    """Whether the compiled kernels multiply bfloat16 numbers on this processor."""
    if "conv_fused" in ops.ON_REFERENCE:
        return False
    one = torch.ones(1, 1, 1)
    row = torch.zeros(1, dtype=torch.int32)
    try:
        ops.conv_fused(one[0], pack(one.bfloat16()), 1, None, None, row, row, torch.tensor([0, 1]), 1, False)
    except RuntimeError:
        return False
    return True


_CONVOLUTIONS = frozenset((Convolution.forward, ConvTranspose3d.forward))
_NORMS = frozenset((BatchNorm.forward, nn.BatchNorm1d.forward, nn.SyncBatchNorm.forward))


def _parts(conv: Convolution, norm: BatchNorm) -> list[Tensor]:
    bn = norm.bn
    parts = (conv.kernel, conv.bias, bn.weight, bn.bias, bn.running_mean, bn.running_var)
    return [part for part in parts if part is not None]


def _at_inference(conv: Convolution, norm: BatchNorm, x: SparseTensor, parts: list[Tensor]) -> bool:
    return inferring(x.feats) and not (
        norm.training
        or backends.peer is not None
        or not unaltered(conv, _CONVOLUTIONS)
        or not unaltered(norm, _NORMS)
        or not unaltered(norm.bn, _NORMS)
        or not countable(parts)
        or any(part.dtype != x.dtype for part in parts)
    )


def _folded(conv: Convolution, norm: BatchNorm) -> tuple[Tensor, Tensor]:
    """The weight, like ``conv.kernel``, and the bias (Cout,) of both."""
    scale, shift = norm.scale_and_shift()
    return conv.kernel * scale, shift if conv.bias is None else shift + conv.bias[0] * scale


def _rows(conv: Convolution, norm: BatchNorm) -> Packed:
    weight, bias = _folded(conv, norm)
    return Packed.of(weight.T, bias)


def _packed(conv: Convolution, norm: BatchNorm) -> tuple[Callable[..., Tensor], tuple]:
    """The operator that convolves, and its arguments from weight to bias."""
    weight, bias = _folded(conv, norm)
    reduced = conv.inference_dtype if weight.dtype == torch.float32 else None
    if reduced == torch.int8 and conv.inference_range is not None:
        step, zero = step_and_zero(*conv.inference_range)
        levels, steps = reference_int8.pack(weight)
        return ops.conv_int8, (levels, steps * step, step, zero, bias)
    if weight.ndim == 2:
        weight = weight[None]
    elif reduced == torch.bfloat16:
        weight = weight.to(reduced)
    return ops.conv_fused, (pack(weight), conv.cout, bias)
