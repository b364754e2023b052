"""What is made of weights at inference, kept for as long as they do not change."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.optim.optimizer import register_optimizer_step_post_hook

T = TypeVar("T")


def inferring(x: Tensor) -> bool:
    """Whether nothing is learnt from x, traced or cast: what is fixed may be worked out once, steps put together."""
    return not (
        torch.is_grad_enabled()
        or forward_ad._current_level >= 0
        or torch.compiler.is_compiling()
        or torch.is_autocast_enabled(x.device.type)
        or x.dtype not in (torch.float32, torch.float64)
    )


def native(x: Tensor) -> bool:
    """Whether operators for inference serve, which there are on the CPU alone."""
    return x.is_cpu and inferring(x)


def unaltered(module: nn.Module, forwards: Collection[Callable]) -> bool:
    """Whether a module does what one of these functions of a class says: without hooks, and without a forward of its
    own."""
    return type(module).forward in forwards and not (
        module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    )


def countable(weights: Sequence[Tensor]) -> bool:
    """Whether the weights count their changes; those made in inference mode do not."""
    return not any(weight.is_inference() for weight in weights)


@dataclass(frozen=True)
class _Kept:
    state: tuple
    weights: list[Tensor]
    """Held, so that no other weight comes to lie where one of them was."""
    made: Any


_KEPT: WeakKeyDictionary[nn.Module, _Kept] = WeakKeyDictionary()
_STEPS = itertools.count(1)
_stepped = 0


def _after_step(*_: object) -> None:
    """torch's fused optimizers do not count what they write."""
    global _stepped
    _stepped = next(_STEPS)


register_optimizer_step_post_hook(_after_step)


def forget_packed_weights() -> None:
    """Forget all that is kept. For weights that were written where it is not seen: through ``weight.data``, by a
    collective of ``torch.distributed``, or by another process that shares their memory."""
    _KEPT.clear()


def kept(module: nn.Module, weights: Sequence[Tensor], make: Callable[[], T], kind: object = None) -> T:
    """What ``make`` gives, made once for a module, and again where its weights changed or another kind is asked for.

    weights: all that it is made of, :func:`countable`, and of a batch norm ``num_batches_tracked``, too: its averages
    are written uncounted. What is not seen: :func:`forget_packed_weights`.
    """
    state = (kind, _stepped, *[(weight.data_ptr(), weight._version) for weight in weights])
    found = _KEPT.get(module)
    if found is None or found.state != state:
        with torch.inference_mode(False), torch.no_grad():
            found = _KEPT[module] = _Kept(state, [weight.detach() for weight in weights], make())
    return found.made
