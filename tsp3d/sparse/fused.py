"""Convolution, batch norm, addition and ReLU in one pass over the result, where nothing is to be learnt."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsp3d.sparse import backends, ops
from tsp3d.sparse.nn import BatchNorm, Convolution
from tsp3d.sparse.tensor import SparseTensor

_Folded = tuple[tuple[tuple[int, int], ...], Tensor, Tensor]
_FOLDED: WeakKeyDictionary[Convolution, _Folded] = WeakKeyDictionary()
"""Per convolution the versions of the tensors that were folded, and the weight and bias that came of them."""


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
    if not _at_inference(conv, norm, x):
        out = norm(conv(x, *like))
        feats = out.feats if residual is None else out.feats + residual
        return out.replace(feats.relu() if relu else feats)
    conv.check(x)
    weight, bias = _folded(conv, norm)
    target, m = conv.places(x, *like)
    if m is not None:
        weight = weight if weight.ndim == 3 else weight[None]
        args = (x.feats, weight, bias, residual, m.in_rows, m.out_rows, m.splits, target.rows, relu)
        return SparseTensor.over(ops.conv_fused(*args), target)
    feats = F.linear(x.feats, weight.T, bias)
    feats = feats if residual is None else feats.add_(residual)
    return x.replace(feats.relu_() if relu else feats)


class ConvNorm(nn.Sequential):
    """A convolution and its batch norm, then ReLU."""

    def __init__(self, conv: Convolution, norm: BatchNorm):
        super().__init__(conv, norm)

    def forward(self, x: SparseTensor, *like: SparseTensor, relu: bool = True) -> SparseTensor:
        conv, norm = self
        assert isinstance(conv, Convolution) and isinstance(norm, BatchNorm)
        return conv_norm(conv, norm, x, *like, relu=relu)


def _parts(conv: Convolution, norm: BatchNorm) -> list[Tensor]:
    bn = norm.bn
    parts = (conv.kernel, conv.bias, bn.weight, bn.bias, bn.running_mean, bn.running_var)
    return [part for part in parts if part is not None]


def _at_inference(conv: Convolution, norm: BatchNorm, x: SparseTensor) -> bool:
    return not (
        torch.is_grad_enabled()
        or norm.training
        or backends.peer is not None
        or torch.compiler.is_compiling()
        or torch.is_autocast_enabled(x.feats.device.type)
        or x.dtype not in (torch.float32, torch.float64)
        or conv._forward_hooks
        or norm._forward_hooks
        or any(part.is_inference() or part.dtype != x.dtype for part in _parts(conv, norm))
    )


@torch.inference_mode(False)
@torch.no_grad()
def _folded(conv: Convolution, norm: BatchNorm) -> tuple[Tensor, Tensor]:
    """Weight like ``conv.kernel`` and bias (Cout,)."""
    versions = tuple((part.data_ptr(), part._version) for part in _parts(conv, norm))
    found = _FOLDED.get(conv)
    if found is None or found[0] != versions:
        bn = norm.bn
        assert bn.running_mean is not None and bn.running_var is not None
        scale = bn.weight * torch.rsqrt(bn.running_var + bn.eps)
        mean = bn.running_mean if conv.bias is None else bn.running_mean - conv.bias[0]
        found = (versions, conv.kernel * scale, bn.bias - mean * scale)
        _FOLDED[conv] = found
    return found[1], found[2]
