"""Where weights are, and the device and precision that they run in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from tsp3d.files import write_text
from tsp3d.io import UserError
from tsp3d.io.errors import one_line

if TYPE_CHECKING:
    from tsp3d.models.net import GroundingNet

WEIGHTS = Path(__file__).parent / "weights"
"""Folder of the weights that come with the package."""
INT8 = "int8.json"
"""What int8 needs to know, beside the weights."""


def find_weights(name: str) -> Path:
    """The folder of a bundled model, a folder given, or a download from the Hugging Face hub. Raises UserError."""
    bundled = sorted(entry.parent.name for entry in WEIGHTS.glob("*/text"))  # a text encoder alone has no such folder
    choices = f"bundled: {', '.join(bundled) or 'none'}; or pass a folder with config.json and model.safetensors"
    if name in bundled:
        return WEIGHTS / name
    folder = Path(name)
    if name and folder.is_dir():
        try:
            missing = [part for part in ("config.json", "model.safetensors") if not (folder / part).is_file()]
        except OSError as error:
            raise UserError(f"{name}: the folder cannot be read ({error.strerror or error}); choose another") from error
        if missing:
            where = f"a run has its own in {folder / 'export'}" if (folder / "export").is_dir() else choices
            raise UserError(f"{name}: the folder has no {' and no '.join(missing)}, so it is no saved model ({where})")
        return folder
    if name and folder.exists():
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


def pick_device(name: str | torch.device) -> torch.device:
    """The torch device for "auto", "cpu", "cuda", "cuda:1" … Raises UserError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise UserError(f"unknown device {name!r}: use auto, cpu or cuda") from error
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"unknown device {name!r}: use auto, cpu or cuda")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device {name!r} is not there: torch sees {torch.cuda.device_count()} CUDA devices; use cpu or auto"
        )
    return device


def load_network(name: str, device: torch.device, precision: str = "float32") -> GroundingNet:
    """A network by name or folder (:func:`find_weights`), in evaluation mode. Raises UserError where there is none, it
    is damaged, or there is no such precision."""
    from tsp3d.models.net import GroundingNet

    folder = find_weights(name)
    try:
        net = GroundingNet.from_pretrained(folder, device)
    except Exception as error:  # safetensors and yaml have errors of their own
        raise UserError(
            f"{folder}: the weights cannot be loaded ({one_line(error)}); fetch or save them again"
        ) from error
    set_precision(net, precision, device, folder)
    return net


def set_precision(network: torch.nn.Module, precision: str, device: torch.device, folder: Path) -> None:
    """Let a network's convolutions multiply in "float32", "bfloat16" or "int8".

    ``folder`` holds the weights and, for int8, the ranges of features that tools/calibrate_int8.py found. Raises
    UserError where there are none, or the device cannot.
    """
    from tsp3d.sparse.fused import reduce_precision
    from tsp3d.sparse.int8 import use_int8

    if precision not in ("float32", "bfloat16", "int8"):
        raise UserError(f"unknown precision {precision!r}: use float32, bfloat16 or int8")
    if precision == "float32":
        return
    if device.type != "cpu":
        raise UserError(f"precision {precision} is for the CPU; leave it out on {device}")
    ranges = read_ranges(folder) if precision == "int8" else None
    try:
        if ranges is None:
            reduce_precision(network)
        else:
            use_int8(network, ranges)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{error}; use float32") from error


def read_ranges(folder: Path) -> dict[str, tuple[float, float]]:
    """The ranges of features that :func:`write_ranges` wrote beside these weights. Raises UserError without them."""
    path, remedy = folder / INT8, "python tools/calibrate_int8.py finds the ranges that int8 needs"
    if not path.is_file():
        raise UserError(f"{folder}: these weights have no {INT8}; {remedy}")
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        weights, ranges = stored["weights"], {name: (float(a), float(b)) for name, (a, b) in stored["ranges"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not readable ({one_line(error)}); {remedy}") from error
    if weights != _weights_hash(folder):
        raise UserError(f"{path}: made for other weights than those beside it; {remedy}")
    return ranges


def write_ranges(folder: Path, ranges: Mapping[str, tuple[float, float]], found_on: str) -> Path:
    """Write int8.json, for the weights that the folder holds, and give its path."""
    rounded = {name: [float(f"{bound:.5g}") for bound in between] for name, between in ranges.items()}
    stored = {"weights": _weights_hash(folder), "found_on": found_on, "ranges": rounded}
    write_text(folder / INT8, json.dumps(stored, indent=1) + "\n")
    return folder / INT8


def _weights_hash(folder: Path) -> str:
    """First 12 hex digits of the SHA-256 of the weights' file."""
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()[:12]
