"""Files written whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
import safetensors.torch
from torch import Tensor


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``path`` (folders are made), and rename it to ``path`` when the block succeeds.

    If the block fails, the temporary file goes and whatever was at ``path`` stays. A link stays one: the file that it
    leads to is replaced. A device or a pipe, which a rename would destroy, is written to when the block succeeds.

    Raises:
        OSError: the place cannot be written to, or is a disk.
    """
    path = Path(path)
    # The suffix stays last: writers such as matplotlib choose the format by it.
    stem = os.fsdecode(os.fsencode(path.stem)[:100])
    name = f".{stem}.{os.getpid()}-{threading.get_native_id()}.tmp{path.suffix}"
    if is_stream(path):
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / name
            with open(Path(folder) / name, "rb") as source, open(path, "ab") as sink:
                shutil.copyfileobj(source, sink)
        return
    path = Path(os.path.realpath(path))
    temporary = path.with_name(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    finally:
        with suppress(OSError):  # where the folder could not be made, there is nothing to remove
            temporary.unlink()


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Whether there is a terminal, pipe or other device that can only be written into, or an open file by its number
    (/dev/stdout). Raises OSError for a disk."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False  # nothing there, or out of reach: the writing says so
    if stat.S_ISBLK(mode):
        raise OSError("it is a disk")
    opened = re.fullmatch(r"/dev/(stdout|stderr|fd/\d+)|/proc/[^/]+/fd/\d+", os.path.abspath(path))
    return bool(opened) or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text through :func:`replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_tensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor] | Mapping[str, np.ndarray],
    metadata: dict[str, str] | None = None,
) -> None:
    """Write a safetensors file of tensors, of any device, or of arrays, through :func:`replacing`.

    Raises OSError where it cannot be written."""
    with replacing(path) as temporary:
        try:
            if any(isinstance(value, np.ndarray) for value in tensors.values()):
                # Of an array in another order safetensors writes the numbers as they lie in memory.
                arrays = {name: np.asarray(value, order="C") for name, value in tensors.items()}
                safetensors.numpy.save_file(arrays, temporary, metadata)
            else:
                plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}  # type: ignore[union-attr]
                safetensors.torch.save_file(plain, temporary, metadata)
        except safetensors.SafetensorError as error:
            raise OSError(f"{path} cannot be written ({error}): is the disk full?") from error
        temporary.chmod(0o644)  # safetensors makes files that only their owner reads
