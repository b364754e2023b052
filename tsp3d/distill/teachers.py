"""Grounding networks as teachers."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from tsp3d.models.config import ModelConfig, load_model_config
from tsp3d.models.net import GroundingNet
from tsp3d.pretrained import find_weights


def load_teacher(name: str, random: bool = False) -> GroundingNet:
    """A trained network, or one of its architecture that knows nothing.

    Args:
        name: of bundled weights, or a folder that ``save_pretrained`` wrote.

    Raises:
        ValueError: no such weights.
    """
    if not name:
        raise ValueError("distill.teacher is empty: name the teacher's weights, distill.teacher=runs/NAME/export")
    folder = find_weights(name)
    if not random:
        return GroundingNet.from_pretrained(folder)
    config = load_model_config(folder / "config.json")
    return random_teacher(config, folder / "text")


def random_teacher(config: ModelConfig, text_folder: Path | None = None) -> GroundingNet:
    """A network with new weights, those of its text encoder shuffled: nothing in it was learnt."""
    config = copy.deepcopy(config)
    config.auxiliary.enabled = False
    net = GroundingNet(config, text_folder)
    with torch.no_grad():
        for parameter in net.text_encoder.parameters():
            parameter.copy_(parameter.flatten()[torch.randperm(parameter.numel())].view_as(parameter))
    return net


class Average(nn.Module):
    """The student's exponential moving average as a network of its own (Tarvainen and Valpola, NeurIPS 2017).

    It is part of the checkpoints, is not trained, and stays in evaluation mode.
    """

    updates: Tensor

    def __init__(self, student: GroundingNet, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.net = copy.deepcopy(student).requires_grad_(False).eval()
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def train(self, mode: bool = True) -> Average:
        """Stays in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def follow(self, student: nn.Module) -> None:
        """Move towards the student; the decay grows with the number of updates n, min(decay, (1 + n) / (10 + n))."""
        self.updates += 1
        n = int(self.updates)
        torch._foreach_lerp_(_floats(self.net), _floats(student), 1 - min(self.decay, (1 + n) / (10 + n)))


def _floats(net: nn.Module) -> list[Tensor]:
    return [value for value in net.state_dict().values() if value.is_floating_point()]
