"""Convolution and max-pooling by spconv 2, over our kernel maps: ``backends.use("spconv")`` or TSP3D_BACKEND=spconv.

Only spconv's arithmetic is used (its "native" gather, matrix product, scatter); coordinates, maps and the order of rows
stay ours, so every layer runs on it: strided, dilated, generative and transposed.

**On the CPU spconv 2.3.8 has a data race**: on two or more threads its sums are wrong, by as much as the values
themselves and differently each time. Every call below therefore runs on one thread, forward and backward.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import spconv.core_cc as core
import spconv.pytorch.ops as spconv_ops
import torch
from spconv.core import ConvAlgo
from torch import Tensor
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from tsp3d.sparse.kernel_map import KernelMap, Region

if not torch.cuda.is_available():
    # Its backward on the CPU asks for a CUDA stream, which it does not use; without CUDA in PyTorch that fails.
    spconv_ops.get_current_stream = lambda: 0
_LIBRARY = ctypes.CDLL(core.__file__)
_pairs: WeakKeyDictionary[KernelMap, tuple[Tensor, Tensor]] = WeakKeyDictionary()


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for spconv, and the threads that there were again afterwards."""
    before = torch.get_num_threads()
    # spconv shares PyTorch's OpenMP where the loader binds it so, and has one of its own otherwise.
    torch.set_num_threads(1)
    with suppress(AttributeError):  # built without OpenMP
        _LIBRARY.omp_set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _indice_pairs(kernel_map: KernelMap) -> tuple[Tensor, Tensor]:
    """The map in spconv's form: rows (2, K, longest) int32, padded with -1, and how many there are (K,) int32."""
    if kernel_map not in _pairs:
        counts = kernel_map.splits.diff()
        longest = int(counts.max()) if len(counts) else 0
        pairs = kernel_map.in_rows.new_full((2, len(counts), longest), -1)
        real = torch.arange(longest, device=counts.device) < counts[:, None]  # (K, longest)
        pairs[0][real], pairs[1][real] = kernel_map.in_rows, kernel_map.out_rows
        _pairs[kernel_map] = pairs, counts.int()
    return _pairs[kernel_map]


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, feats: Tensor, weight: Tensor, pairs: Tensor, counts: Tensor, num_out: int
    ) -> Tensor:
        filters = weight.permute(2, 0, 1)[:, :, None, None].contiguous()  # (Cout, K, 1, 1, Cin): spconv's order
        ctx.save_for_backward(feats, filters, pairs, counts)
        with one_thread():
            return spconv_ops.indice_conv(feats, filters, pairs, counts, num_out, algo=ConvAlgo.Native)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        feats, filters, pairs, counts = ctx.saved_tensors
        with one_thread():
            grad_feats, grad_filters = spconv_ops.indice_conv_backward(
                feats, filters, grad.contiguous(), pairs, counts, algo=ConvAlgo.Native
            )
        return grad_feats, grad_filters[:, :, 0, 0].permute(1, 2, 0), None, None, None


def conv(feats: Tensor, weight: Tensor, kernel_map: KernelMap, num_out: int, _: Region) -> Tensor:
    """(num_out, Cout) of feats (N, Cin) float32 and weight (K, Cin, Cout)."""
    result = _Convolution.apply(feats.contiguous(), weight, *_indice_pairs(kernel_map), num_out)
    return result  # type: ignore[return-value]


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, feats: Tensor, pairs: Tensor, counts: Tensor, num_out: int) -> Tensor:  # type: ignore[override]
        with one_thread():
            best = spconv_ops.indice_maxpool(feats, pairs, counts, num_out)
        ctx.save_for_backward(feats, best, pairs, counts)
        return best

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        feats, best, pairs, counts = ctx.saved_tensors
        with one_thread():
            return spconv_ops.indice_maxpool_backward(feats, best, grad, pairs, counts), None, None, None


def max_pool(feats: Tensor, kernel_map: KernelMap, num_out: int, _: Region) -> Tensor | None:
    """(num_out, C) maxima of feats (N, C), or None where spconv's would be wrong: it starts from zero, so it cannot
    pool negative features (behind a ReLU there are none). Among equal values each gets the gradient, not the first."""
    if bool(feats.detach().amin() < 0):
        return None
    return _MaxPool.apply(feats.contiguous(), *_indice_pairs(kernel_map), num_out)  # type: ignore[return-value]
