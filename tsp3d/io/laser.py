"""Laser scanners' formats: LAS/LAZ and E57, read through optional packages."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

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
    _check_las_counts(path)
    # One thread: the parallel reader reserves memory for whatever a damaged chunk table claims, and aborts.
    backend = laspy.LazBackend.Lazrs if laspy.LazBackend.Lazrs.is_available() else None
    with laspy.open(str(path), laz_backend=backend) as reader:
        names = set(reader.header.point_format.dimension_names)
        for points in reader.chunk_iterator(CHUNK):
            xyz = np.stack([np.asarray(points.x), np.asarray(points.y), np.asarray(points.z)], axis=1)
            rgb = None
            if {"red", "green", "blue"} <= names:
                rgb = np.stack([np.asarray(points[name]) for name in ("red", "green", "blue")], axis=1)
            yield Chunk(xyz, rgb)


def _check_las_counts(path: Path) -> None:
    """Refuse counts that the file has no room for: laspy would loop over billions of records that are not there."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(375).ljust(375, b"\0")
        chunks = _laz_chunks(file, struct.unpack_from("<I", head, 96)[0], size) if head[104] & 0x80 else 0
    records, points = struct.unpack_from("<I", head, 100)[0], struct.unpack_from("<I", head, 107)[0]
    if head[25] >= 4:  # LAS 1.4 has a second list of records, and a wider count
        records += struct.unpack_from("<I", head, 243)[0]
        points = max(points, struct.unpack_from("<Q", head, 247)[0])
    # LAZ hardly gets below a byte a point.
    if head[:4] != b"LASF" or records * 54 > size or points > size * 100 or chunks > size:
        raise ScanError(f"{path}: the LAS header is damaged, or the file was cut short; export or download it again")


def _laz_chunks(file: BinaryIO, start: int, size: int) -> int:
    """Number of compressed chunks that the table says there are: lazrs reserves memory for them unseen."""
    file.seek(min(start, size))
    place = struct.unpack("<q", file.read(8).ljust(8, b"\0"))[0]
    if place == -1 and size >= 8:  # written at the file's end instead
        file.seek(size - 8)
        place = struct.unpack("<q", file.read(8))[0]
    if not start < place <= size - 8:
        return size + 1
    file.seek(place + 4)
    return struct.unpack("<I", file.read(4))[0]


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
