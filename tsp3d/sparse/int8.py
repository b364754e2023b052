"""Convolutions on integers of 8 bits at inference on the CPU: which, and between what bounds their features lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tsp3d.sparse import ops
from tsp3d.sparse.nn import Convolution
from tsp3d.sparse.reference_int8 import quantise, step_and_zero
from tsp3d.sparse.tensor import SparseTensor

LEAST_CHANNELS = 8
"""Fewer of them, on either side, gain little; and what begins a network, coordinates and colours, is six, which 8 bits
are few for."""
SAMPLES = 1 << 14
"""Features, about, of each call of a convolution that its bounds are chosen by, besides the lowest and the highest."""

Ranges = Mapping[str, tuple[float, float]]


def gains(conv: Convolution) -> bool:
    """Whether a convolution is worth doing in integers: what visits one voxel alone is torch's own product."""
    return conv.kernel.ndim == 3 and min(conv.cin, conv.cout) >= LEAST_CHANNELS


def use_int8(module: nn.Module, ranges: Ranges) -> None:
    """Let convolutions of a module that batch norm follows multiply in int8, at inference on the CPU.

    :func:`tsp3d.sparse.fused.reduce_precision` with None undoes it.

    Args:
        ranges: for each of them by its name in the module the lowest and highest feature that it tells apart
            (:func:`watch_ranges` finds them); those beyond count as that. Convolutions without stay as they are.

    Raises:
        RuntimeError: the kernels are not compiled.
        ValueError: a name that no convolution over several voxels has, or a range that is none.
    """
    if "conv_int8" in ops.ON_REFERENCE:
        raise RuntimeError("convolutions in int8 need the compiled kernels, which are missing (python -m tsp3d.info)")
    found = {name: part for name, part in module.named_modules() if isinstance(part, Convolution)}
    for name, (low, high) in ranges.items():
        if name not in found or found[name].kernel.ndim != 3:
            raise ValueError(f"no convolution over several voxels is called {name}")
        step_and_zero(low, high)  # or ValueError
    for name, (low, high) in ranges.items():
        found[name].inference_dtype, found[name].inference_range = torch.int8, (low, high)


@contextmanager
def watch_ranges(module: nn.Module) -> Iterator[dict[str, tuple[float, float]]]:
    """While the block runs the module in evaluation mode, see what its convolutions get.

    What the block is given holds the ranges for :func:`use_int8` when it is done: of those convolutions that ran and
    that gain by it.
    """
    ranges: dict[str, tuple[float, float]] = {}
    seen: dict[str, list[Tensor]] = {}
    handles = []
    for name, part in module.named_modules():
        if isinstance(part, Convolution) and gains(part):

            def watch(_: nn.Module, inputs: tuple[SparseTensor, ...], __: SparseTensor, name: str = name) -> None:
                feats = inputs[0].feats.detach()
                if feats.numel():
                    some = feats[:: max(1, feats.numel() // SAMPLES)].flatten()
                    seen.setdefault(name, []).append(torch.cat([some, torch.stack(feats.aminmax())]))

            handles.append(part.register_forward_hook(watch))
    try:
        yield ranges
    finally:
        for handle in handles:
            handle.remove()
    found = {name: torch.cat(values) for name, values in seen.items()}
    ranges |= {name: closest_range(values) for name, values in found.items() if values.any()}


def closest_range(values: Tensor) -> tuple[float, float]:
    """Of 0.3 to 1 times the values' own range the one whose levels are closest to them, by their mean square."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    best, least = (low, high), float("inf")
    for share in torch.linspace(0.3, 1, 36).tolist():
        step, zero = step_and_zero(share * low, share * high)
        error = float((quantise(values, step, zero) * step - values).square().mean())
        if error < least:
            best, least = (share * low, share * high), error
    return best
