"""Convolution, batch norm, addition and ReLU in one pass over the result, where nothing is to be learnt."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsp3d.sparse import backends, ops
from tsp3d.sparse.linear import inferring
from tsp3d.sparse.nn import BatchNorm, Convolution, convolve
from tsp3d.sparse.reference_int8 import pack, step_and_zero
from tsp3d.sparse.tensor import SparseTensor


@dataclass(frozen=True)
class _Folded:
    versions: tuple
    """The state of what was folded."""
    weight: Tensor
    """Like ``conv.kernel``, or packed int8."""
    bias: Tensor
    """(Cout,)"""
    quantised: tuple[Tensor, float, int] | None = None
    """With int8: what sums are multiplied by (Cout,), and step and zero of the features."""


_FOLDED: WeakKeyDictionary[Convolution, _Folded] = WeakKeyDictionary()


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
    folded = _folded(conv, norm, parts)
    weight, bias = folded.weight, folded.bias
    target, m = conv.places(x, *like)
    weight = weight[None] if m is not None and weight.ndim == 2 else weight
    if m is not None and not x.feats.is_cuda:
        args = (bias, residual, m.in_rows, m.out_rows, m.splits, target.rows, relu)
        if folded.quantised is not None:
            return SparseTensor.over(ops.conv_int8(x.feats, weight, *folded.quantised, *args), target)
        return SparseTensor.over(ops.conv_fused(x.feats, weight, *args), target)
    if m is not None:  # on CUDA the tuned kernels, which leave the rest to a pass of its own
        feats = convolve(x.feats, weight, m, target.rows).add_(bias)
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
        ops.conv_fused(one[0], one.bfloat16(), None, None, row, row, torch.tensor([0, 1]), 1, False)
    except RuntimeError:
        return False
    return True


def _parts(conv: Convolution, norm: BatchNorm) -> list[Tensor]:
    bn = norm.bn
    parts = (conv.kernel, conv.bias, bn.weight, bn.bias, bn.running_mean, bn.running_var)
    return [part for part in parts if part is not None]


def _at_inference(conv: Convolution, norm: BatchNorm, x: SparseTensor, parts: list[Tensor]) -> bool:
    return inferring(x.feats) and not (
        norm.training
        or backends.peer is not None
        or conv._forward_hooks
        or norm._forward_hooks
        or any(part.is_inference() or part.dtype != x.dtype for part in parts)
    )


@torch.inference_mode(False)
@torch.no_grad()
def _folded(conv: Convolution, norm: BatchNorm, parts: list[Tensor]) -> _Folded:
    reduced = conv.inference_dtype if conv.kernel.dtype == torch.float32 and conv.kernel.device.type == "cpu" else None
    between = conv.inference_range if reduced == torch.int8 else None
    versions = (reduced, between, *((part.data_ptr(), part._version) for part in parts))
    found = _FOLDED.get(conv)
    if found is None or found.versions != versions:
        scale, shift = norm.scale_and_shift()
        weight, quantised = conv.kernel * scale, None
        bias = shift if conv.bias is None else shift + conv.bias[0] * scale
        if between is not None:
            step, zero = step_and_zero(*between)
            weight, steps = pack(weight)
            quantised = (steps * step, step, zero)
        elif reduced is not None and weight.ndim == 3:  # what visits one voxel alone is torch's own product
            weight = weight.to(reduced)
        found = _FOLDED[conv] = _Folded(versions, weight, bias, quantised)
    return found
