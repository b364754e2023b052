"""PCD, the Point Cloud Library's format: ascii, binary, compressed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pypcd4 import PointCloud

from tsp3d.io.cloud import Chunk
from tsp3d.io.errors import ScanError


def read_pcd(path: Path) -> Iterator[Chunk]:
    """Points with the packed ``rgb``/``rgba`` field or separate r, g, b fields as colours."""
    data = PointCloud.from_path(str(path)).pc_data
    names = {name.lower(): name for name in data.dtype.names or ()}
    if not {"x", "y", "z"} <= set(names):
        raise ScanError(f"{path}: the PCD fields are {', '.join(names) or 'none'}, but x, y and z are needed")
    data = data.reshape(-1)
    xyz = np.stack([data[names[axis]] for axis in "xyz"], axis=1)
    yield Chunk(xyz, _colours(data, names))


def _colours(data: np.ndarray, names: dict[str, str]) -> np.ndarray | None:
    for packed in ("rgb", "rgba"):
        if packed in names:
            column = np.ascontiguousarray(data[names[packed]])
            if column.dtype.kind == "f" and column.dtype.itemsize != 4:
                column = column.astype(np.float32)  # an ascii file may declare 8 bytes for the packed float
            bits = column.view(np.uint32) if column.dtype.itemsize == 4 else column.astype(np.uint32)
            return np.stack([(bits >> shift) & 255 for shift in (16, 8, 0)], axis=1).astype(np.uint8)
    for group in (("r", "g", "b"), ("red", "green", "blue")):
        if set(group) <= set(names):
            return np.stack([data[names[name]] for name in group], axis=1)
    return None
