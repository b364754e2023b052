"""NPY and NPZ; nothing pickled is ever loaded."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tsp3d.io.cloud import Chunk, field_colours
from tsp3d.io.errors import ScanError

CHUNK = 1_000_000
_POINTS = ("xyz", "points", "coords", "coord", "pos", "positions", "vertices", "xyz_mm", "pc", "pcd", "arr_0")
_COLOURS = ("rgb", "colors", "color", "colours", "colour")


def read_npy(path: Path) -> Iterator[Chunk]:
    """(N, 3), (N, 6) or wider (xyz, then rgb), or a structured array: x, y, z and r, g, b or a packed rgb."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:  # NumPy's own advice is to unpickle, which runs what the file says
        raise ScanError(f"{path}: no array of numbers, or cut short; write it with numpy.save(path, xyz)") from error
    if not isinstance(array, np.ndarray):
        raise ScanError(f"{path}: this is an NPZ archive; name it so (.npz)")
    yield from _split(array, None, path)


def read_npz(path: Path) -> Iterator[Chunk]:
    """Points under one of the usual names (``xyz``, ``points``, ``coords`` …), colours under ``rgb``, ``colors`` …"""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            if file.read(4) == b"PK\3\4":
                raise ScanError(f"{path}: the NPZ archive is cut short; copy or export it again")
        raise ScanError(f"{path}: not an NPZ archive (no zip inside); write it with numpy.savez(path, xyz=…, rgb=…)")
    with np.load(path, allow_pickle=False) as archive:
        names = {name.lower(): name for name in archive.files}
        points = next((names[name] for name in _POINTS if name in names), None)
        if points is None:
            found = ", ".join(archive.files) or "nothing"
            raise ScanError(f"{path}: holds {found}, but no points; save them as 'xyz' (N, 3), with 'rgb' (N, 3)")
        colours = next((names[name] for name in _COLOURS if name in names), None)
        yield from _split(archive[points], archive[colours] if colours else None, path)


def _split(array: np.ndarray, rgb: np.ndarray | None, path: Path) -> Iterator[Chunk]:
    names = {name.lower(): name for name in array.dtype.names or ()}
    if names:
        if not {"x", "y", "z"} <= set(names):
            raise ScanError(f"{path}: the array's fields are {', '.join(names)}, but x, y and z are needed")
        array = array.reshape(-1)
    elif array.ndim != 2 or array.shape[1] < 3:
        raise ScanError(f"{path}: the array has shape {array.shape}, but points must be (N, 3) xyz or (N, 6) xyz rgb")
    if rgb is not None and (rgb.ndim != 2 or rgb.shape[1] not in (3, 4) or len(rgb) != len(array)):
        raise ScanError(f"{path}: {len(array)} points, but the colours have shape {rgb.shape}; they must be (N, 3)")
    for start in range(0, len(array), CHUNK):
        part = array[start : start + CHUNK]
        if names:
            xyz = np.stack([part[names[axis]] for axis in "xyz"], axis=1)
            colour = field_colours(part, names)
        else:
            xyz, colour = part[:, :3], part[:, 3:6] if part.shape[1] >= 6 else None
        if rgb is not None:
            colour = rgb[start : start + CHUNK, :3]
        yield Chunk(xyz, colour)
