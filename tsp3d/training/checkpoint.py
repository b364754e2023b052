"""Saving and finding the state of a run, and starting from the weights of another."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tsp3d.files import replacing

log = logging.getLogger(__name__)


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], keep: int = 2) -> Path:
    """Write ``step-00001234.pt`` (tensors and plain values only) atomically; delete all but the newest ``keep``."""
    path = folder / f"step-{step:08d}.pt"
    with replacing(path) as partial:
        torch.save(state, partial)
    for old in sorted(folder.glob("step-*.pt"))[: -max(keep, 1)]:
        old.unlink(missing_ok=True)
    return path


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest state of ``folder`` that can be read, or None where there is none. No pickled code is run."""
    for path in sorted(folder.glob("step-*.pt"), reverse=True):
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            log.warning("%s cannot be read (%s); trying the one before it", path, error)
    return None


def save_weights(path: Path, net: nn.Module) -> None:
    """Write all of a network's weights, training-only parts included, atomically (safetensors)."""
    state = {name: value.detach().cpu().contiguous().clone() for name, value in net.state_dict().items()}
    with replacing(path) as partial:
        save_file(state, partial)


def read_weights(source: str | Path) -> dict[str, Tensor]:
    """Weights by name from a run's folder, a folder that ``save_pretrained`` wrote, or a safetensors file.

    A run's folder gives everything (``averaged.safetensors``); a folder of ``save_pretrained`` lacks the training-only
    parts and keeps the text encoder in its ``text`` folder.

    Raises:
        FileNotFoundError: none of these.
    """
    path = Path(source)
    for file in (path, path / "averaged.safetensors"):
        if file.is_file():
            return load_file(file)
    if not (path / "model.safetensors").is_file():
        raise FileNotFoundError(
            f"init_from: {path} has no weights; give a run's folder (runs/NAME), its export, or a .safetensors file"
        )
    state = load_file(path / "model.safetensors")
    if (path / "text").is_dir():
        from tsp3d.models.text import load_text_encoder

        encoder = load_text_encoder(path / "text")
        state |= {f"text_encoder.{name}": value for name, value in encoder.state_dict().items()}
    return state


def load_weights(net: nn.Module, source: str | Path, strict: bool = True, skip: Sequence[str] = ()) -> list[str]:
    """Copy weights that :func:`read_weights` finds into ``net``.

    Args:
        strict: False skips weights that are missing on either side or differ in shape.
        skip: weights whose name begins with one of these stay as they are in ``net``.

    Returns:
        What was not loaded, one line each: "missing NAME", "unused NAME", "shape NAME (..) is (..) here".

    Raises:
        ValueError: ``strict`` and something was not loaded, or nothing fits at all.
    """
    stored, own = (
        {name: value for name, value in weights.items() if not name.startswith(tuple(skip))}
        for weights in (read_weights(source), net.state_dict())
    )
    usable = {name: value for name, value in stored.items() if name in own and own[name].shape == value.shape}
    notes = [f"missing {name}" for name in own if name not in stored]
    notes += [f"unused {name}" for name in stored if name not in own]
    notes += [
        f"shape {name} {tuple(stored[name].shape)} is {tuple(own[name].shape)} here"
        for name in stored
        if name in own and name not in usable
    ]
    if not usable or (strict and notes):
        raise ValueError(
            f"init_from: {source} does not fit the network: {notes[:8]} ({len(notes)} in all); "
            "choose the model configuration that it was trained with, or set strict=false"
        )
    net.load_state_dict(usable, strict=False)
    return notes
