"""Saving and finding the state of a run, and starting from the weights of another."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from tsp3d.files import replacing, save_tensors
from tsp3d.io.errors import one_line
from tsp3d.pretrained import WEIGHTS

log = logging.getLogger(__name__)


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], keep: int = 2) -> Path:
    """Write ``step-00001234.pt`` (tensors and plain values only) atomically; of those up to it keep ``keep``.

    Raises:
        OSError: it cannot be written.
    """
    path = folder / f"step-{step:08d}.pt"
    with replacing(path) as partial:
        try:
            torch.save(state, partial)
        except RuntimeError as error:  # torch's own, which does not say that the disk is full
            raise OSError(
                f"{path} cannot be written ({one_line(error)}): is the disk full? The checkpoints before it stay"
            ) from error
    # One of a later step could not be read, or this run would have begun there: it must not count as the newest.
    for old in sorted(old for old in folder.glob("step-*.pt") if old.name <= path.name)[: -max(keep, 1)]:
        old.unlink(missing_ok=True)
    return path


def load_checkpoint(folder: Path, needed: Collection[str] = ("step",)) -> dict[str, Any] | None:
    """The newest state of ``folder`` that can be read and has what is ``needed``, or None where it has none. No pickled
    code is run.

    Raises:
        ValueError: there are some, and none can be read.
    """
    paths = sorted(folder.glob("step-*.pt"), reverse=True)
    for path in paths:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            if not isinstance(state, dict) or not set(needed) <= state.keys():
                raise ValueError("it is no state of a run")
            return state
        except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
            log.warning("%s cannot be read (%s); trying the one before it", path, one_line(error))
    if paths:
        raise ValueError(f"none of the checkpoints in {folder} can be read; remove them to begin anew, or pass name=…")
    return None


def save_weights(path: Path, net: nn.Module) -> None:
    """Write all of a network's weights, training-only parts included, atomically (safetensors)."""
    save_tensors(path, {name: value.clone() for name, value in net.state_dict().items()})  # some may share memory


def read_weights(source: str | Path) -> dict[str, Tensor]:
    """Weights by name from a run's folder, a folder that ``save_pretrained`` wrote, a safetensors file, or the name of
    bundled weights.

    A run's folder gives everything (``averaged.safetensors``); a folder of ``save_pretrained`` lacks the training-only
    parts and keeps the text encoder in its ``text`` folder.

    Raises:
        FileNotFoundError: none of these.
        ValueError: a file that is no safetensors file.
    """
    path = Path(source)
    if not path.exists() and (WEIGHTS / path / "model.safetensors").is_file():
        path = WEIGHTS / path
    for file in (path, path / "averaged.safetensors"):
        if file.is_file():
            return _load(file)
    if not (path / "model.safetensors").is_file():
        raise FileNotFoundError(
            f"init_from: {path} has no weights; give a run's folder (runs/NAME), its export, a .safetensors file, "
            "or tsp3d-tiny"
        )
    state = _load(path / "model.safetensors")
    if (path / "text").is_dir():
        from tsp3d.models.text import load_text_encoder

        encoder = load_text_encoder(path / "text")
        state |= {f"text_encoder.{name}": value for name, value in encoder.state_dict().items()}
    return state


def _load(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(f"init_from: {file} is no whole safetensors file ({one_line(error)})") from error


def load_weights(net: nn.Module, source: str | Path, strict: bool = True, skip: Sequence[str] = ()) -> list[str]:
    """Copy weights that :func:`read_weights` finds into ``net``.

    Args:
        strict: False skips weights that are missing on either side or differ in shape.
        skip: weights whose name begins with one of these stay as they are in ``net``.

    Returns:
        What was not loaded, one line each: "missing NAME", "unused NAME", "shape NAME (..) is (..) here".

    Raises:
        ValueError: ``strict`` and something was not loaded, nothing fits at all, or nothing is to be skipped.
    """
    found, there = read_weights(source), net.state_dict()
    for prefix in skip:
        if not any(name.startswith(prefix) for name in [*found, *there]):
            raise ValueError(f"init_skip: no weight's name begins with {prefix!r}, e.g. {next(iter(there))}")
    stored, own = (
        {name: value for name, value in weights.items() if not name.startswith(tuple(skip))}
        for weights in (found, there)
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
