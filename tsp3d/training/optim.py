"""Optimiser, schedule and averaged weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tsp3d.training.config import OptimConfig


def freeze(net: nn.Module, prefixes: list[str]) -> int:
    """Stop the gradients of the parameters whose name begins with one of ``prefixes``; returns how many.

    Raises:
        ValueError: a prefix fits no parameter.
    """
    count = 0
    for prefix in prefixes:
        found = [parameter for name, parameter in net.named_parameters() if name.startswith(prefix)]
        if not found:
            tops = sorted({name.split(".")[0] for name, _ in net.named_parameters()})
            raise ValueError(f"freeze: no parameter begins with {prefix!r}; the network's parts are {tops}")
        for parameter in found:
            parameter.requires_grad_(False)
        count += len(found)
    return count


def build_optimizer(net: nn.Module, config: OptimConfig, beside: nn.Module | None = None) -> torch.optim.AdamW:
    """AdamW over the trainable parameters. Vectors (biases, norms) do not decay, the text encoder has its own rate.

    Args:
        beside: a module that is trained with the network.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    more = [] if beside is None else [(f"beside.{name}", parameter) for name, parameter in beside.named_parameters()]
    for name, parameter in [*net.named_parameters(), *more]:
        if parameter.requires_grad:
            # A convolution's bias is (1, C): one row is as good as a vector.
            decays = parameter.ndim >= 2 and parameter.shape[0] > 1
            groups.setdefault((name.startswith(config.text_prefix), decays), []).append(parameter)
    if not groups:
        raise ValueError("no parameter is left to train: check 'freeze'")
    settings = [
        {
            "params": parameters,
            "lr": config.lr * (config.text_lr_scale if is_text else 1.0),
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for (is_text, decays), parameters in sorted(groups.items())
    ]
    optimizer = torch.optim.AdamW(settings, lr=config.lr, betas=(config.betas[0], config.betas[1]))
    for group in optimizer.param_groups:
        group["base_lr"] = group["lr"]
    return optimizer


def progress(config: OptimConfig, step: int, elapsed: float) -> float:
    """How far a run is, 0..1: the share of its steps or of its budget (``elapsed`` seconds), whichever is more."""
    share = step / max(config.steps, 1)
    if config.max_minutes > 0:
        share = max(share, elapsed / (60 * config.max_minutes))
    return min(share, 1.0)


def rate(config: OptimConfig, step: int, elapsed: float) -> float:
    """Factor on the learning rate at a step: warm-up times cosine, or times the steps of ``decay_at``."""
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps > 0 else 1.0
    done = progress(config, step, elapsed)
    if config.decay_at:
        return warm * 0.1 ** sum(done >= share for share in config.decay_at)
    cosine = 0.5 * (1 + math.cos(math.pi * done))
    return warm * (config.final_lr + (1 - config.final_lr) * cosine)


class AveragedWeights:
    """Exponential moving average of what training changes: trainable parameters and float buffers (statistics).

    The decay grows with the number of updates, min(decay, (1 + n) / (10 + n)): the first weights are soon forgotten.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.values: dict[str, Tensor] = {name: value.detach().clone() for name, value in self._live(net).items()}

    @staticmethod
    def _live(net: nn.Module) -> dict[str, Tensor]:
        parameters = {name: value for name, value in net.named_parameters() if value.requires_grad}
        buffers = {name: value for name, value in net.named_buffers() if value.is_floating_point()}
        return {**parameters, **buffers}

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Move the averages towards the network's values."""
        self.updates += 1
        weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        live = self._live(net)
        torch._foreach_lerp_(list(self.values.values()), [live[name].detach() for name in self.values], weight)

    @contextmanager
    def applied(self, net: nn.Module) -> Iterator[nn.Module]:
        """The network with the averages in the place of its weights, within the block."""
        live = self._live(net)
        kept = {name: live[name].detach().clone() for name in self.values}
        try:
            self._copy(self.values, live)
            yield net
        finally:
            self._copy(kept, live)

    @staticmethod
    @torch.no_grad()
    def _copy(source: dict[str, Tensor], destination: dict[str, Tensor]) -> None:
        for name, value in source.items():
            destination[name].copy_(value)

    def state_dict(self) -> dict[str, object]:
        """Values and the number of updates."""
        return {"values": self.values, "updates": self.updates}

    def load_state_dict(self, state: dict) -> None:
        """Take over what :meth:`state_dict` gave; the names must be the same."""
        if state["values"].keys() != self.values.keys():
            odd = sorted(state["values"].keys() ^ self.values.keys())
            raise ValueError(f"averaged weights of another network or 'freeze': {odd[:5]} (of {len(odd)}) differ")
        self.updates = int(state["updates"])
        self._copy(state["values"], self.values)
