"""Linear layers of rows with their neighbours (layer norm, activation, residual) in one pass, where nothing is learnt.

On the CPU, at inference, ``ops.linear`` serves; everywhere else the same layers run one after the other in PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsp3d.sparse import ops
from tsp3d.sparse.functional import segment_mean
from tsp3d.sparse.kept import countable, kept, native, unaltered
from tsp3d.sparse.reference import PANEL

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor] | None] = {"none": None, "relu": F.relu, "gelu": F.gelu}
_PLAIN = frozenset((nn.Linear.forward, nn.ReLU.forward, nn.Sequential.forward))
_CODES = {name: code for code, name in enumerate(ACTIVATIONS)}


@dataclass(frozen=True)
class Packed:
    """A linear layer as ``ops.linear`` takes it."""

    panels: Tensor
    """(P, Cin + 1, 32)"""
    channels: int
    """Cout"""

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None) -> Packed:
        """From a weight (Cout, Cin) and bias (Cout,) as ``nn.Linear`` has them."""
        bias = weight.new_zeros(len(weight)) if bias is None else bias
        columns = F.pad(torch.cat([weight.T, bias[None]]), (0, -len(weight) % PANEL))  # (Cin + 1, P * 32)
        return cls(columns.unflatten(1, (-1, PANEL)).transpose(0, 1).contiguous(), len(weight))

    def __call__(
        self,
        x: Tensor,
        before: nn.LayerNorm | None = None,
        activation: str = "none",
        factor: Tensor | None = None,
        residual: Tensor | None = None,
        after: nn.LayerNorm | None = None,
    ) -> Tensor:
        """As :func:`linear`, by the operator."""
        return ops.linear(
            x, *_affine(before), self.panels, self.channels, _CODES[activation], factor, residual, *_affine(after),
            _eps(before, after),
        )  # fmt: skip


def _affine(norm: nn.LayerNorm | None) -> tuple[Tensor | None, Tensor | None]:
    if norm is None:
        return None, None
    assert norm.weight is not None and norm.bias is not None, "the operators take layer norms with weight and bias"
    return norm.weight, norm.bias


def _eps(before: nn.LayerNorm | None, after: nn.LayerNorm | None) -> float:
    assert before is None or after is None or before.eps == after.eps, "the operators have one eps for both norms"
    norm = before or after
    return 0.0 if norm is None else norm.eps


def attention_layer(
    layers: Sequence[Packed],
    query: Tensor,
    value: Tensor | None,
    splits: tuple[Tensor, Tensor],
    heads: int,
    before: nn.LayerNorm | None = None,
    residual: Tensor | None = None,
    after: nn.LayerNorm | None = None,
    xyz: Tensor | None = None,
) -> Tensor:
    """(Nq, C): ``ops.attention_layer``, from its layers: of the query, of the value where there is one, the last."""
    first, second, out = layers[0], layers[1].panels if len(layers) > 2 else None, layers[-1]
    return ops.attention_layer(
        query, value, *_affine(before), first.panels, first.channels, second, out.panels, xyz, *splits, heads, residual,
        *_affine(after), _eps(before, after),
    )  # fmt: skip


def packed(layers: Sequence[Layer], dropout: nn.Dropout | None = None) -> TypeGuard[Sequence[Packed]]:
    """Whether operators serve all of the layers, and nothing is dropped after them."""
    return not _drops(dropout) and all(isinstance(layer, Packed) for layer in layers)


def _drops(dropout: nn.Dropout | None) -> bool:
    return dropout is not None and dropout.training and dropout.p > 0


Layer = nn.Linear | Packed | Callable[[Tensor], Tensor]


def layers_of(
    module: nn.Module,
    x: Tensor,
    weights: list[Tensor],
    make: Callable[[], Sequence[tuple[Tensor, Tensor]]],
    kind: object = None,
) -> list[Layer]:
    """The layers for x that ``make`` gives as pairs of weight (Cout, Cin) and bias (Cout,).

    At inference they are packed once and kept with the module, until one of the weights that they are made of changes,
    or another kind is asked for.
    """
    if not (native(x) and countable(weights)):
        return [partial(F.linear, weight=weight, bias=bias) for weight, bias in make()]
    return kept(module, weights, lambda: [Packed.of(*pair) for pair in make()], kind)


def linear(
    x: Tensor,
    layer: Layer,
    before: nn.LayerNorm | None = None,
    activation: str = "none",
    dropout: nn.Dropout | None = None,
    factor: Tensor | None = None,
    residual: Tensor | None = None,
    after: nn.LayerNorm | None = None,
) -> Tensor:
    """(N, Cout): ``after(residual + factor * dropout(activation(layer(before(x)))))``, without what is None.

    x (N, Cin); factor and residual (N, Cout); activation: a key of ``ACTIVATIONS``.
    """
    if isinstance(layer, nn.Linear) and unaltered(layer, _PLAIN):
        weight, bias = layer.weight, layer.bias
        layer = layers_of(layer, x, [weight, bias], lambda: [(weight, bias)])[0]
    if isinstance(layer, Packed) and not _drops(dropout):
        return layer(x, before, activation, factor, residual, after)
    y = layer(x if before is None else before(x))
    function = ACTIVATIONS[activation]
    y = y if function is None else function(y)
    y = y if dropout is None else dropout(y)
    y = y if factor is None else y * factor
    y = y if residual is None else residual + y
    return y if after is None else after(y)


def mean_mlp(mlp: nn.Sequential, x: Tensor, row: Tensor, size: int) -> Tensor:
    """(size, C): mean of ``mlp(x)`` over the rows of each group, zero where it has none.

    mlp: two linear layers, a ReLU after each; x (N, Cin); row (N,) int64 in 0..size - 1, the group of each row. At
    inference on the CPU what the layers make of a row is added up at once, which for many rows is most of the time.
    """
    first, _, second, _ = mlp
    if not (isinstance(first, nn.Linear) and isinstance(second, nn.Linear)) or not all(
        unaltered(part, _PLAIN) for part in (mlp, *mlp)
    ):
        return segment_mean(mlp(x), row, size)
    pairs = [(first.weight, first.bias), (second.weight, second.bias)]
    layers = layers_of(mlp, x, [part for pair in pairs for part in pair], lambda: pairs)
    if not packed(layers):
        return segment_mean(mlp(x), row, size)
    one, two = layers
    return ops.mean_mlp(x, one.panels, one.channels, two.panels, two.channels, row, size)
