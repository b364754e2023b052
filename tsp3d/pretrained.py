"""Where weights are, and the device and precision that they run in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from tsp3d.io import UserError
from tsp3d.io.errors import one_line

if TYPE_CHECKING:
    from tsp3d.models.net import GroundingNet

WEIGHTS = Path(__file__).parent / "weights"
"""Folder of the weights that come with the package."""


def find_weights(name: str) -> Path:
    """The folder of a bundled model, a folder given, or a download from the Hugging Face hub. Raises UserError."""
    bundled = sorted(entry.parent.name for entry in WEIGHTS.glob("*/text"))  # a text encoder alone has no such folder
    choices = f"bundled: {', '.join(bundled) or 'none'}; or pass a folder with config.json and model.safetensors"
    if name in bundled:
        return WEIGHTS / name
    folder = Path(name)
    if folder.is_dir():
        missing = [part for part in ("config.json", "model.safetensors") if not (folder / part).is_file()]
        if missing:
            raise UserError(
                f"{name}: the folder has no {' and no '.join(missing)}, so it is no saved model ({choices})"
            )
        return folder
    if folder.exists():
        raise UserError(f"{name}: this is a file; {choices}")
    if name.count("/") == 1 and not name.startswith((".", "/")):
        try:
            from huggingface_hub import snapshot_download

            return Path(snapshot_download(name))
        except Exception as error:  # the hub's errors range from requests' to its own
            raise UserError(
                f"{name}: no such folder, and the hub did not give it ({one_line(error)}); {choices}"
            ) from error
    raise UserError(f"{name!r}: no such model; {choices}")


def pick_device(name: str) -> torch.device:
    """The torch device for "auto", "cpu", "cuda", "cuda:1" … Raises UserError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"unknown device {name!r}: use auto, cpu or cuda") from error
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"unknown device {name!r}: use auto, cpu or cuda")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device {name!r} is not there: torch sees {torch.cuda.device_count()} CUDA devices; use cpu or auto"
        )
    return device


def load_network(name: str, device: torch.device, precision: str = "float32") -> GroundingNet:
    """A network by name or folder (:func:`find_weights`), in evaluation mode. Raises UserError where there is none, or
    no such precision."""
    from tsp3d.models.net import GroundingNet

    net = GroundingNet.from_pretrained(find_weights(name), device)
    set_precision(net, precision, device)
    return net


def set_precision(network: torch.nn.Module, precision: str, device: torch.device) -> None:
    """Let a network's convolutions multiply in "float32" or "bfloat16". Raises UserError where the device cannot."""
    from tsp3d.sparse.fused import reduce_precision

    if precision not in ("float32", "bfloat16"):
        raise UserError(f"unknown precision {precision!r}: use float32 or bfloat16")
    if precision == "float32":
        return
    if device.type != "cpu":
        raise UserError(f"precision bfloat16 is for the CPU; leave it out on {device}")
    try:
        reduce_precision(network)
    except RuntimeError as error:
        raise UserError(f"{error}; use float32") from error
