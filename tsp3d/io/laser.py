"""Laser scanners' formats: LAS/LAZ and E57, read through optional packages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tsp3d.io.cloud import Chunk
from tsp3d.io.errors import ScanError

CHUNK = 1_000_000


def read_las(path: Path) -> Iterator[Chunk]:
    """Points of a LAS or LAZ file, with colours where the point format has them."""
    try:
        import laspy
    except ImportError as error:
        raise ScanError(f"{path}: reading LAS/LAZ needs laspy: pip install 'laspy[lazrs]'") from error
    with laspy.open(str(path)) as reader:
        names = set(reader.header.point_format.dimension_names)
        for points in reader.chunk_iterator(CHUNK):
            xyz = np.stack([np.asarray(points.x), np.asarray(points.y), np.asarray(points.z)], axis=1)
            rgb = None
            if {"red", "green", "blue"} <= names:
                rgb = np.stack([np.asarray(points[name]) for name in ("red", "green", "blue")], axis=1)
            yield Chunk(xyz, rgb)


def read_e57(path: Path) -> Iterator[Chunk]:
    """Points of all scans in an E57 file, in the file's common frame."""
    try:
        import pye57
    except ImportError as error:
        raise ScanError(f"{path}: reading E57 needs pye57: pip install pye57") from error
    with path.open("rb") as file:  # libE57 would try to write to what it cannot read
        if file.read(8) != b"ASTM-E57":
            raise ScanError(f"{path}: this is no E57 file (its first bytes are not ASTM-E57); check the download")
    book = pye57.E57(str(path))
    try:
        for index in range(book.scan_count):
            data = book.read_scan(index, colors=True, ignore_missing_fields=True, transform=True)
            xyz = np.stack([data[f"cartesian{axis}"] for axis in "XYZ"], axis=1)
            colours = ("colorRed", "colorGreen", "colorBlue")
            yield Chunk(xyz, np.stack([data[c] for c in colours], axis=1) if set(colours) <= set(data) else None)
    finally:
        book.close()
