"""What is raced: kernel maps, single layers, and a whole residual backbone, for any peer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tsp3d.benchmark.peers import KERNELS, Layer, Peer
from tsp3d.benchmark.precision import dtype_of
from tsp3d.sparse import ops

CHANNELS = (32, 64, 128, 256)
BLOCKS = 2
INPUTS = 6


def kernel_pairs(coords: Tensor, kind: str) -> int:
    """Pairs of the map of ``KERNELS[kind]`` over a set at stride 1."""
    size, stride = KERNELS[kind]
    target = coords if stride == 1 else ops.unique_coords(coords, stride)[0]
    return len(ops.kernel_map(coords, target, size, 1)[0])


def random_weight(kind: str, cin: int, cout: int, seed: int) -> Tensor:
    """(K, Cin, Cout) with which a layer's output is of order one."""
    volume = 27 if kind == "map3" else 8
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(volume, cin, cout, generator=generator) / (10 * cin) ** 0.5


@dataclass
class Layers:
    """A peer's layers of one workload, by the names of the weights."""

    peer: Peer
    layers: dict[str, Layer]

    def zero_grad(self) -> None:
        for layer in self.layers.values():
            layer.parameter.grad = None


class Work(ABC):
    """One workload: its input, and its weights by name in our layout; a name ends with the layer's level."""

    name: str
    flop: float
    """Useful floating-point operations of a forward pass."""
    levels: int
    """How often the output is halved."""
    deep = False
    """Whether rounding switches ReLUs on the way, so that gradients do not compare."""

    def __init__(
        self, coords: Tensor, channels: int, weights: dict[str, Tensor], precision: str = "float32", seed: int = 0
    ):
        self.coords, self.precision, dtype = coords, precision, dtype_of(precision)
        self.weights = {name: weight.to(coords.device, dtype) for name, weight in weights.items()}
        generator = torch.Generator().manual_seed(seed)
        self.feats = torch.randn(len(coords), channels, generator=generator).to(coords.device, dtype)  # (N, C)

    def layers(self, peer: Peer, dtype: torch.dtype | None = None) -> Layers:
        """The peer's layers with this workload's weights."""
        made = {n: peer.layer(w.to(dtype or w.dtype), int(n.rsplit(".", 1)[1])) for n, w in self.weights.items()}
        return Layers(peer, made)

    @abstractmethod
    def forward(self, own: Layers, x: Any) -> Any:
        """Run on a peer's tensor."""


class LayerWork(Work):
    """One convolution: 3^3 that keeps the voxels, or 2^3 of stride 2."""

    def __init__(self, coords: Tensor, kind: str, cin: int, cout: int, precision: str = "float32"):
        super().__init__(coords, cin, {"layer.0": random_weight(kind, cin, cout, cin + cout)}, precision)
        shape = "3^3" if kind == "map3" else "2^3 stride 2"
        self.kind, self.name = kind, f"{shape}, {cin} to {cout}"
        self.flop = 2.0 * kernel_pairs(coords, kind) * cin * cout
        self.levels = 0 if kind == "map3" else 1

    def forward(self, own: Layers, x: Any) -> Any:
        return own.layers["layer.0"](x)


class BackboneWork(Work):
    """Stem, then stages of residual blocks, a 2^3 stride-2 convolution between stages; batch norm and ReLU.

    Normalisation by the batch's own averages, ReLU and addition are the same PyTorch calls for every peer.
    """

    deep = True

    def __init__(
        self,
        coords: Tensor,
        channels: tuple[int, ...] = CHANNELS,
        blocks: tuple[int, ...] = (),
        precision: str = "float32",
    ):
        """blocks: of each stage, by default ``BLOCKS``."""
        blocks = blocks or (BLOCKS,) * len(channels)
        weights, flop, level, cin = {}, 0.0, coords, INPUTS
        for stage, (cout, count) in enumerate(zip(channels, blocks, strict=True)):
            kind, name = ("map2", f"down.{stage - 1}") if stage else ("map3", "stem.0")
            weights[name] = random_weight(kind, cin, cout, stage)
            flop += 2.0 * kernel_pairs(level, kind) * cin * cout
            if stage:
                level = ops.unique_coords(level, 2)[0]
                level[:, 1:] //= 2
            for i in range(2 * count):
                weights[f"conv{i}.{stage}"] = random_weight("map3", cout, cout, 100 + 10 * stage + i)
            flop += 2.0 * kernel_pairs(level, "map3") * cout * cout * 2 * count
            cin = cout
        super().__init__(coords, INPUTS, weights, precision)
        self.flop, self.blocks, self.levels = flop, blocks, len(channels) - 1
        self.name = f"backbone {', '.join(map(str, channels))}, with maps"

    def forward(self, own: Layers, x: Any) -> Any:
        x = self.step(own, "stem.0", x)
        for stage in range(self.levels + 1):
            if stage:
                x = self.step(own, f"down.{stage - 1}", x)
            for block in range(self.blocks[stage]):
                y = self.step(own, f"conv{2 * block}.{stage}", x)
                x = self.step(own, f"conv{2 * block + 1}.{stage}", y, own.peer.feats(x))
        return x

    def step(self, own: Layers, name: str, x: Any, residual: Tensor | None = None) -> Any:
        """A convolution and what follows it."""
        y = own.layers[name](x)
        feats = F.batch_norm(own.peer.feats(y), None, None, training=True)
        return own.peer.replace(y, F.relu(feats if residual is None else feats + residual))


class InferenceWork(BackboneWork):
    """The backbone with its norms folded into weights, for all peers: biases, additions and ReLUs are left of them."""

    def __init__(self, *args: Any, **settings: Any):
        super().__init__(*args, **settings)
        generator = torch.Generator().manual_seed(1)
        sizes = {name: weight.shape[2] for name, weight in self.weights.items()}
        self.biases = {n: torch.randn(size, generator=generator).to(self.feats) for n, size in sizes.items()}
        self.name += ", norms folded"

    def step(self, own: Layers, name: str, x: Any, residual: Tensor | None = None) -> Any:
        bias = self.biases[name].to(own.peer.feats(x).dtype)
        return own.peer.finished(own.layers[name], x, bias, residual)
