"""Features on disk, found again by the content of what they were made from."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tsp3d.files import save_tensors

log = logging.getLogger(__name__)


def content_hash(*parts: Any) -> str:
    """Hexadecimal SHA-256 of values: tensors, arrays, the content of the file of a Path, dataclasses, tuples, lists,
    dicts, text, numbers, None. Types and shapes count.

    Raises:
        TypeError: another type. OSError: a file cannot be read.
    """
    digest = hashlib.sha256()
    _feed(digest, parts)
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        value = value.detach().cpu().contiguous().numpy()
    if isinstance(value, np.ndarray):
        digest.update(f"array {value.dtype.str} {value.shape}:".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Path):
        digest.update(b"file " + hashlib.sha256(value.read_bytes()).digest())
    elif is_dataclass(value) and not isinstance(value, type):
        digest.update(f"{type(value).__name__}(".encode())
        _feed(digest, {field.name: getattr(value, field.name) for field in fields(value)})
    elif isinstance(value, dict):
        _feed(digest, sorted(value.items()))
    elif isinstance(value, (tuple, list)):
        digest.update(f"{len(value)} values:".encode())
        for item in value:
            _feed(digest, item)
    elif value is None or isinstance(value, (str, bytes, bool, int, float)):
        text = repr(value)
        digest.update(f"{type(value).__name__} {len(text)}:{text}".encode())
    else:
        raise TypeError(f"cannot hash a {type(value).__name__}")


class FeatureCache:
    """A folder of tensors by key; several processes may share it.

    Args:
        folder: made when first written to; may be deleted at any time.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def get(self, key: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """The tensors stored under ``key`` (see :func:`content_hash`); computed and stored where there are none, or
        where the stored ones are damaged, which is logged."""
        path = self.folder / f"{key}.safetensors"
        if path.is_file():
            try:
                return _read(path)
            except (SafetensorError, OSError, ValueError) as error:
                log.warning("%s is damaged (%s); it is computed again", path, error)
        tensors = {name: value.detach().cpu().contiguous() for name, value in compute().items()}
        save_tensors(path, tensors, {"sha256": content_hash(tensors)})
        return tensors


def _read(path: Path) -> dict[str, Tensor]:
    with safe_open(str(path), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
        if (file.metadata() or {}).get("sha256") != content_hash(tensors):
            raise ValueError("its checksum differs")
    return tensors
