"""PLY: ascii or binary, point clouds and meshes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from plyfile import PlyData, PlyElement, PlyElementParseError

from tsp3d.io.cloud import Chunk
from tsp3d.io.errors import ScanError
from tsp3d.io.surface import MIN_VERTICES, sample_surface

CHUNK = 1_000_000
_COLOURS = (("red", "green", "blue"), ("diffuse_red", "diffuse_green", "diffuse_blue"), ("r", "g", "b"))
_FACES = ("vertex_indices", "vertex_index")


def read_ply(path: Path) -> Iterator[Chunk]:
    """Vertices with their colours; of a mesh of few vertices, points sampled on its faces instead."""
    data = _parse(path, _check_header(path))
    if "vertex" not in data:
        raise ScanError(f"{path}: the PLY file has no 'vertex' element, so no points; export it as points or a mesh")
    vertices = data["vertex"].data
    names = vertices.dtype.names or ()
    if not {"x", "y", "z"} <= set(names):
        raise ScanError(f"{path}: the PLY vertices have {', '.join(names) or 'nothing'}, but x, y and z are needed")
    colours = next((group for group in _COLOURS if set(group) <= set(names)), None)
    if 0 < len(vertices) < MIN_VERTICES and "face" in data and len(data["face"].data):
        triangles = _triangles(data["face"], path)
        if len(triangles):
            xyz, rgb = _columns(vertices, ("x", "y", "z")), colours and _columns(vertices, colours)
            yield sample_surface(xyz, triangles, str(path), rgb if isinstance(rgb, np.ndarray) else None)
            return
    for start in range(0, len(vertices), CHUNK):
        part = vertices[start : start + CHUNK]
        yield Chunk(_columns(part, ("x", "y", "z")), _columns(part, colours) if colours else None)


def _parse(path: Path, header: bytes) -> PlyData:
    def source() -> str | io.BytesIO:
        if header.isascii():
            return str(path)
        # plyfile takes no other letters, in comments either.
        plain = header.decode("ascii", "replace").encode("ascii", "replace")
        return io.BytesIO(plain + path.read_bytes()[len(header) :])

    # Knowing that faces are triangles makes plyfile map them instead of looping over them in Python.
    for known in ({"face": {name: 3}} for name in _FACES):
        try:
            return PlyData.read(source(), known_list_len=known)
        except (PlyElementParseError, KeyError, ValueError):
            continue
    return PlyData.read(source())


def _check_header(path: Path) -> bytes:
    """The header. Refuses one that promises more than the file can hold: the parser would reserve all of it first."""
    header, least, count = b"", 0, 0
    with path.open("rb") as file:
        for _ in range(1000):
            line = file.readline(10_000)
            header += line
            words = line.decode("latin-1").split()
            if words[:1] == ["element"] and len(words) == 3 and words[2].isdecimal():
                count = int(words[2])
            elif words[:1] == ["property"]:
                least += count  # a byte each, whatever the type
            elif words == ["end_header"]:
                break
    if least > path.stat().st_size:
        raise ScanError(f"{path}: the file is too short for what its header promises; export or copy it again")
    return header


def _columns(rows: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    return np.stack([np.asarray(rows[name]) for name in names], axis=1)


def _triangles(faces: PlyElement, path: Path) -> np.ndarray:
    """Faces as triangles (F, 3) int64; polygons become fans."""
    names = faces.data.dtype.names or ()
    name = next((candidate for candidate in _FACES if candidate in names), None)
    if name is None:
        return np.zeros((0, 3), dtype=np.int64)
    column = faces.data[name]
    if column.dtype != object:
        return np.asarray(column, dtype=np.int64).reshape(len(column), -1)[:, :3]
    fans = []
    for size in sorted({len(face) for face in column}):
        if size < 3:
            continue
        polygons = np.array([face for face in column if len(face) == size], dtype=np.int64)
        fans += [polygons[:, [0, corner, corner + 1]] for corner in range(1, size - 1)]
    return np.concatenate(fans) if fans else np.zeros((0, 3), dtype=np.int64)
