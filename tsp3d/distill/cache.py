"""Teachers' answers on disk, found again by what they were computed from."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors.torch import load, save
from torch import Tensor

from tsp3d.files import replacing

log = logging.getLogger(__name__)

Part = str | int | float | bytes | np.ndarray | Tensor


def content_key(parts: Sequence[Part]) -> str:
    """SHA-256 in hex over the parts in their order, with their types, shapes and lengths."""
    digest = hashlib.sha256()
    for part in parts:
        value = part.detach().cpu().numpy() if isinstance(part, Tensor) else part
        if isinstance(value, np.ndarray):
            head, body = f"array {value.dtype.str} {value.shape}", np.ascontiguousarray(value).tobytes()
        elif isinstance(value, bytes):
            head, body = "bytes", value
        else:
            head, body = type(value).__name__, repr(value).encode()
        digest.update(f"{head} {len(body)}\n".encode() + body)
    return digest.hexdigest()


class TensorCache:
    """A folder of named tensors by key. An entry is written whole or not at all, and verified when it is read.

    The parts of a key must name everything that an answer depends on: the data and the teacher's weights or their hash.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def get(self, parts: Sequence[Part], compute: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The tensors stored for ``parts``, on the CPU; computed and stored where there are none, or broken ones."""
        key = content_key(parts)
        path = self.folder / key[:2] / f"{key[2:]}.bin"
        if path.is_file():
            stored = path.read_bytes()
            if hashlib.sha256(stored[32:]).digest() == stored[:32]:
                return load(stored[32:])
            log.warning("%s is damaged; it is computed again", path)
        values = {name: value.detach().cpu().contiguous() for name, value in compute().items()}
        data = save(values)
        with replacing(path) as partial:
            partial.write_bytes(hashlib.sha256(data).digest() + data)
        return values
