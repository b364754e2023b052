"""The engines that are raced, behind one small interface: ours, the plain-PyTorch reference, and other libraries.

Every peer gets the same coordinates and the same weights, in our layout: (K, Cin, Cout), x fastest. It turns them into
its own layout when a layer is made, which is not timed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from tsp3d.sparse import CoordinateSet, SparseTensor, reference
from tsp3d.sparse import nn as snn
from tsp3d.sparse.fused import conv_norm
from tsp3d.sparse.kept import inferring

KERNELS = {"map3": ((3, 3, 3), 1), "map2": ((2, 2, 2), 2)}
"""Kernel size and stride of what is raced: 3^3 that keeps the voxels, 2^3 of stride 2."""


class Unavailable(Exception):
    """The library is not installed, or does not run on this device. Its text says which."""


class Layer(ABC):
    """A convolution of a peer: called with the peer's sparse tensor, returns one."""

    parameter: Tensor

    @abstractmethod
    def __call__(self, x: Any) -> Any: ...

    def gradient(self) -> Tensor:
        """The weight's gradient in our layout (K, Cin, Cout)."""
        assert self.parameter.grad is not None
        return self.parameter.grad


class Peer(ABC):
    """One engine. ``Any`` below is the engine's own sparse tensor."""

    name: str
    note: str = ""
    """What a reader of a table of the CPU's timings has to know."""

    @abstractmethod
    def version(self) -> str:
        """Version of the library."""

    @abstractmethod
    def tensor(self, coords: Tensor, feats: Tensor) -> Any:
        """A tensor over a coordinate set (N, 4) int32 at stride 1, none negative, without any map."""

    @abstractmethod
    def layer(self, weight: Tensor, level: int) -> Layer:
        """A convolution with weight (27, Cin, Cout), or (8, Cin, Cout) of stride 2, for tensors at stride 2^level."""

    @abstractmethod
    def feats(self, x: Any) -> Tensor:
        """(N, C) features."""

    @abstractmethod
    def replace(self, x: Any, feats: Tensor) -> Any:
        """Other features over the same voxels."""

    @abstractmethod
    def coords(self, x: Any, level: int) -> Tensor:
        """(N, 4) int32 coordinates in base voxels, in the order of the rows of ``feats``."""

    @abstractmethod
    def build_map(self, x: Any, kind: str) -> None:
        """Build the kernel map of ``KERNELS[kind]`` for a fresh tensor."""

    def finished(self, layer: Layer, x: Any, bias: Tensor, residual: Tensor | None) -> Any:
        """The layer plus bias (Cout,) and residual (M, Cout), then ReLU; in place, without gradients."""
        out = layer(x)
        feats = self.feats(out).add_(bias)
        return self.replace(out, (feats if residual is None else feats.add_(residual)).relu_())

    def limits(self) -> AbstractContextManager[Any]:
        """What the engine's calls run under."""
        return nullcontext()


def _kind(weight: Tensor) -> str:
    return "map3" if len(weight) == 27 else "map2"


class _OwnLayer(Layer):
    def __init__(self, weight: Tensor):
        _, cin, cout = weight.shape
        self.module = snn.Conv3d(cin, cout, *KERNELS[_kind(weight)])
        self.module.kernel = self.parameter = nn.Parameter(weight.clone())
        self.norm: snn.BatchNorm | None = None

    def __call__(self, x: SparseTensor) -> SparseTensor:
        return self.module(x)


def _adding(bias: Tensor) -> snn.BatchNorm:
    """A batch norm that, at inference, adds a bias and nothing else."""
    norm = snn.BatchNorm(len(bias)).eval().to(bias.device, bias.dtype)
    assert norm.bn.running_var is not None
    norm.bn.running_var -= norm.bn.eps
    with torch.no_grad():
        norm.bn.bias.copy_(bias)
    return norm


class Ours(Peer):
    """This package, through its layers."""

    name = "tsp3d"

    def version(self) -> str:
        import tsp3d
        from tsp3d.sparse import backend_status

        return f"{getattr(tsp3d, '__version__', '0.1.0')} ({backend_status.name})"

    def tensor(self, coords: Tensor, feats: Tensor) -> SparseTensor:
        return SparseTensor.over(feats, CoordinateSet(coords))

    def layer(self, weight: Tensor, level: int) -> Layer:
        return _OwnLayer(weight)

    def feats(self, x: SparseTensor) -> Tensor:
        return x.feats

    def replace(self, x: SparseTensor, feats: Tensor) -> SparseTensor:
        return x.replace(feats)

    def coords(self, x: SparseTensor, level: int) -> Tensor:
        return x.coords

    def finished(self, layer: Layer, x: Any, bias: Tensor, residual: Tensor | None) -> SparseTensor:
        assert isinstance(layer, _OwnLayer)
        if not inferring(x.feats):  # half precision, of which no norm is folded
            return super().finished(layer, x, bias, residual)
        if layer.norm is None:
            layer.norm = _adding(bias)
        return conv_norm(layer.module, layer.norm, x, residual=residual)

    def build_map(self, x: SparseTensor, kind: str) -> None:
        x.coordinate_set.conv_map(*KERNELS[kind])


class _PlainConvolution(torch.autograd.Function):
    """The gradients that our operators have where no compiled kernel serves them."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, feats: Tensor, weight: Tensor, ins: Tensor, outs: Tensor, splits: Tensor, num_out: int
    ) -> Tensor:
        ctx.save_for_backward(feats, weight, ins, outs, splits)
        return reference.conv(feats, weight, ins, outs, splits, num_out)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        feats, weight, ins, outs, splits = ctx.saved_tensors
        grad_feats = reference.conv(grad, weight.transpose(1, 2), outs, ins, splits, len(feats))
        return grad_feats, reference.conv_weight_grad(feats, grad, ins, outs, splits), None, None, None, None


class _PlainLayer(Layer):
    def __init__(self, weight: Tensor, convolve: Callable[[SparseTensor, Tensor, str], SparseTensor]):
        self.parameter = nn.Parameter(weight.clone())
        self.kind, self.convolve = _kind(weight), convolve

    def __call__(self, x: SparseTensor) -> SparseTensor:
        return self.convolve(x, self.parameter, self.kind)


class Reference(Ours):
    """Plain PyTorch: maps by sort and search, convolution by gather, matrix product and index_add on ready maps."""

    name = "reference"
    finished = Peer.finished

    def __init__(self) -> None:
        # Maps of the coordinate sets of one fresh tensor, as CoordinateSet keeps ours.
        self._maps: dict[CoordinateSet, dict[str, tuple[CoordinateSet, tuple[Tensor, Tensor, Tensor]]]] = {}

    def version(self) -> str:
        return f"torch {torch.__version__}"

    def tensor(self, coords: Tensor, feats: Tensor) -> SparseTensor:
        self._maps = {}  # a fresh tensor has no maps
        return super().tensor(coords, feats)

    def _map(self, source: CoordinateSet, kind: str) -> tuple[CoordinateSet, tuple[Tensor, Tensor, Tensor]]:
        known = self._maps.setdefault(source, {})
        if kind not in known:
            size, stride = KERNELS[kind]
            target = source
            if stride > 1:
                step = source.stride * stride
                target = CoordinateSet(reference.unique_coords(source.coords, step)[0], step, source.batch_size)
            known[kind] = target, reference.kernel_map(source.coords, target.coords, size, source.stride)
        return known[kind]

    def layer(self, weight: Tensor, level: int) -> Layer:
        return _PlainLayer(weight, self._convolve)

    def _convolve(self, x: SparseTensor, weight: Tensor, kind: str) -> SparseTensor:
        target, maps = self._map(x.coordinate_set, kind)
        feats = _PlainConvolution.apply(x.feats, weight, *maps, len(target))
        return SparseTensor.over(feats, target)  # type: ignore[arg-type]

    def build_map(self, x: SparseTensor, kind: str) -> None:
        self._map(x.coordinate_set, kind)
