"""Weights of the public TSP3D release into a :class:`~tsp3d.models.net.GroundingNet` of tsp3d-base.

The release was trained with MinkowskiEngine, whose kernels have our names, layout and order of offsets (x fastest), so
that tensors are renamed and never permuted.
"""

from __future__ import annotations

import argparse
import collections
import pathlib
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .config import ModelConfig

_numpy: Any = np.core if np.__version__.startswith("1.") else np._core  # type: ignore[attr-defined]
SAFE: tuple[Any, ...] = (
    argparse.Namespace, collections.OrderedDict, collections.defaultdict, pathlib.PosixPath, pathlib.PurePosixPath,
    np.dtype, np.ndarray, _numpy.multiarray.scalar, (_numpy.multiarray.scalar, "numpy.core.multiarray.scalar"),
    *(type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "int32", "bool")),
)  # fmt: skip
"""What a checkpoint may hold beside tensors and plain values. None of these runs code when it is read."""

WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes that DistributedDataParallel and torch.compile put before every name."""

BACKBONE = "vision_backbone."
"""What the names of the backbone's weights begin with."""

IGNORED = ("text_encoder.embeddings.position_ids",)
"""Buffers that older versions of transformers saved; they hold 0, 1, 2, …"""


@dataclass
class Release:
    """What a release checkpoint holds."""

    state: dict[str, Tensor]
    """Tensors by the release's names, without wrappers' prefixes."""
    epoch: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    """The training's command line, as far as it is plain values."""


@dataclass
class Conversion:
    """What became of each tensor."""

    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Names of the network that the checkpoint has nothing for."""
    unexpected: list[str] = field(default_factory=list)
    """Names of the checkpoint that the network has no place for."""
    shape: list[str] = field(default_factory=list)
    """"NAME: (27, 6, 64) in the checkpoint, (27, 6, 32) in the network"."""
    text_missing: list[str] = field(default_factory=list)
    """Names of the text encoder that the checkpoint lacks; it was frozen, so the pretrained ones are right."""

    @property
    def complete(self) -> bool:
        """Every weight that inference needs came from the checkpoint (or from the frozen pretrained encoder)."""
        return not self.missing and not self.shape


def compatible(config: ModelConfig) -> ModelConfig:
    """The same configuration with the release's quirks on, as its weights need (spec: tsp3d-model, release)."""
    config.compat.prune_sign = True
    config.compat.no_half_voxel = True
    config.compat.rgb_mean = True
    config.compat.rgb_256 = True
    config.pruning.keep_min = [1, 1]  # the thresholds alone decide, as in the release, which stops where all fall
    config.completion.select = "scattered"  # the release draws at random
    config.head.min_score = 0.0  # the release always answers with its best box
    return config


def read_release(path: str | Path) -> Release:
    """Read a checkpoint without running any code that it may hold.

    Accepts the release's dict with ``model`` (or ``state_dict``), or a bare state dict.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a checkpoint, or one that holds other things than tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; give the .pth file of the TSP3D release")
    try:
        with torch.serialization.safe_globals(list(SAFE)):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds something else than tensors and plain values, and is not loaded because that could run "
            "code; or it is no checkpoint. Where you trust it, save its state dict alone: "
            "torch.save(checkpoint['model'], 'weights.pth')"
        ) from error
    except (RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is not a PyTorch checkpoint, or is cut off ({_first_line(error)})") from error
    state: Any = content
    if isinstance(content, Mapping):
        inner = [content[key] for key in ("model", "state_dict") if isinstance(content.get(key), Mapping)]
        state = inner[0] if inner else content
    tensors: dict[str, Tensor] = {}
    if isinstance(state, Mapping):
        tensors = {_unwrap(str(name)): value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        found = sorted(map(str, content))[:8] if isinstance(content, Mapping) else type(content).__name__
        raise ValueError(f"{path} has no state dict: expected a dict with 'model', found {found}")
    if not any(name.startswith(BACKBONE) for name in tensors):
        raise ValueError(
            f"{path} is no checkpoint of TSP3D: no weight's name begins with {BACKBONE}, its first are "
            f"{', '.join(sorted(tensors)[:4])}"
        )
    options = content.get("config") if isinstance(content, Mapping) else None
    options = vars(options) if isinstance(options, argparse.Namespace) else options
    epoch = content.get("epoch") if isinstance(content, Mapping) else None
    return Release(
        tensors,
        int(epoch) if isinstance(epoch, int | np.integer) else None,
        _plain(options) if isinstance(options, Mapping) else {},
    )


def our_name(name: str) -> str | None:
    """Name in :class:`GroundingNet` of a release tensor (without wrappers); None where it is to be left out."""
    if name in IGNORED:
        return None
    if name.startswith("text_encoder."):
        return "text_encoder.model." + name.removeprefix("text_encoder.")
    return name


def convert(release: Mapping[str, Tensor], net: nn.Module) -> Conversion:
    """Copy the release's tensors into ``net``, each by its name; ``net`` keeps its own where one does not fit."""
    own, result = net.state_dict(), Conversion()
    usable: dict[str, Tensor] = {}
    for name, value in release.items():
        ours = our_name(name)
        if ours is None:
            continue
        if ours not in own:
            result.unexpected.append(name)
        elif own[ours].shape != value.shape:
            result.shape.append(
                f"{name}: {tuple(value.shape)} in the checkpoint, {tuple(own[ours].shape)} in the network"
            )
        else:
            usable[ours] = value.to(own[ours].dtype)
            result.loaded.append(ours)
    covered = {our_name(name) for name in release}
    for name in own:
        if name not in covered and not name.endswith("num_batches_tracked"):
            (result.text_missing if name.startswith("text_encoder.") else result.missing).append(name)
    net.load_state_dict(usable, strict=False)
    return result


def describe(result: Conversion, limit: int = 40) -> str:
    """The conversion in words, one line for each tensor that did not go its way."""
    lines = [f"{len(result.loaded)} tensors converted"]
    for title, names in (
        ("missing in the checkpoint", result.missing),
        ("of another shape", result.shape),
        ("in the checkpoint, but with no place in the network", result.unexpected),
    ):
        if names:
            lines += [f"{len(names)} {title}:", *_listed(names, limit)]
    if result.text_missing:
        count = len(result.text_missing)
        lines.append(f"{count} tensors of the text encoder are not in the checkpoint: the pretrained ones stay")
    return "\n".join(lines)


def _listed(names: Iterable[str], limit: int) -> list[str]:
    names = list(names)
    more = [f"  … and {len(names) - limit} more"] if len(names) > limit else []
    return [f"  {name}" for name in names[:limit]] + more


def _unwrap(name: str) -> str:
    while name.startswith(WRAPPERS):
        name = name.split(".", 1)[1]
    return name


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    return {str(k): v for k, v in options.items() if v is None or isinstance(v, str | int | float | bool)}


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
