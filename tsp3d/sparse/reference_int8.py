"""Convolution on integers of 8 bits: how numbers become such, and the definition that the kernel is compared with.

Quantisation is that of Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018, section 2.1: a number is ``step * (level - zero)``, so that 0 is exact.
Features have one step, weights one for each output channel, and no zero (section 3 of Krishnamoorthi, "Quantizing deep
convolutional networks for efficient inference", 2018).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tsp3d.sparse import reference

LEVELS = 255
"""Steps from the lowest to the highest feature."""
WEIGHT_LEVELS = 127
DEPTH = 4
"""Input channels that lie side by side in a packed weight."""
LANES = 16
"""Output channels of a packed weight are padded to a multiple."""


def step_and_zero(low: float, high: float) -> tuple[float, int]:
    """The step of features between ``low`` and ``high``, and the level of 0. ValueError where the two are no range."""
    low, high = min(low, 0.0), max(high, 0.0)
    if not 0 < high - low < float("inf"):
        raise ValueError(f"no range of features: {low} to {high}")
    step = (high - low) / LEVELS
    return step, round(-low / step)


def quantise(feats: Tensor, step: float, zero: int) -> Tensor:
    """(N, C) float32 -> (N, C) int32, the nearest level (ties to even) less ``zero``; NaN becomes the lowest."""
    scaled = feats * (1 / step)
    scaled = torch.where(scaled > -zero, scaled, -float(zero)).clamp(max=LEVELS - zero)
    return scaled.round().int()


def pack(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weight (K, Cin, Cout) float -> levels (K, ceil(Cin / 4), Cout padded to 16s, 4) int8 and steps (Cout,) float."""
    steps = weight.abs().amax((0, 1)) / WEIGHT_LEVELS
    steps = torch.where(steps > 0, steps, 1.0)
    levels = (weight / steps).round().to(torch.int8)
    _, cin, cout = levels.shape
    levels = F.pad(levels, (0, -cout % LANES, 0, -cin % DEPTH))
    return levels.unflatten(1, (-1, DEPTH)).transpose(2, 3).contiguous(), steps


def unpack(levels: Tensor, cin: int, cout: int) -> Tensor:
    """Packed levels -> (K, Cin, Cout) int8."""
    return levels.transpose(2, 3).flatten(1, 2)[:, :cin, :cout]


def conv_int8(
    feats: Tensor,
    weight: Tensor,
    scales: Tensor,
    step: float,
    zero: int,
    bias: Tensor | None,
    residual: Tensor | None,
    in_rows: Tensor,
    out_rows: Tensor,
    splits: Tensor,
    num_out: int,
    relu: bool,
) -> Tensor:
    """(num_out, Cout): the exact convolution of quantised feats and packed weight times ``scales`` (Cout,), plus bias
    (Cout,) plus residual (num_out, Cout), then ReLU where asked."""
    levels = unpack(weight, feats.shape[1], scales.shape[0])
    # Integers below 2^53 are exact in float64, whose products every device has.
    sums = reference.conv(quantise(feats, step, zero).double(), levels.double(), in_rows, out_rows, splits, num_out)
    return reference.finish(sums.to(feats.dtype) * scales, bias, residual, relu)
