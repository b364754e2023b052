"""PCD, the Point Cloud Library's format: ascii, binary, compressed."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tsp3d.io.cloud import Chunk, field_colours
from tsp3d.io.errors import ScanError, one_line


def read_pcd(path: Path) -> Iterator[Chunk]:
    """Points with the packed ``rgb``/``rgba`` field or separate r, g, b fields as colours."""
    from pypcd4 import PointCloud  # for which other formats need not wait

    fields = _check_header(path)
    # PointCloud asks for COUNT, which the format lets files leave out where it is 1.
    if "COUNT" in fields:
        data = PointCloud.from_path(str(path)).pc_data
    else:
        count = b"COUNT" + b" 1" * len(fields["SIZE"]) + b"\n"
        data = PointCloud.from_fileobj(io.BytesIO(count + path.read_bytes())).pc_data  # type: ignore[arg-type]
    names = {name.lower(): name for name in data.dtype.names or ()}
    if not {"x", "y", "z"} <= set(names):
        raise ScanError(f"{path}: the PCD fields are {', '.join(names) or 'none'}, but x, y and z are needed")
    data = data.reshape(-1)
    xyz = np.stack([data[names[axis]] for axis in "xyz"], axis=1)
    yield Chunk(xyz, field_colours(data, names))


def _check_header(path: Path) -> dict[str, list[str]]:
    """The header's lines by their first word. Refuses one that promises more than the file can hold: the parser would
    reserve all of it first."""
    size = path.stat().st_size
    fields: dict[str, list[str]] = {}
    with path.open("rb") as file:
        for _ in range(50):
            line = file.readline(100_000)
            words = line.decode("latin-1").split()
            if words and not words[0].startswith("#"):
                fields[words[0].upper()] = words[1:]
            if not line or "DATA" in fields:
                break
        body = size - file.tell()
        packed = struct.unpack("<II", file.read(8).ljust(8, b"\0"))
    kind = " ".join(fields.get("DATA", [])).lower()
    if kind not in ("ascii", "binary", "binary_compressed"):
        raise ScanError(f"{path}: no PCD header that ends in DATA ascii, binary or binary_compressed; check the file")
    try:
        sizes = [int(value) for value in fields["SIZE"]]
        counts = [int(value) for value in fields.get("COUNT", ["1"] * len(sizes))]
        points = int(fields["POINTS"][0]) if "POINTS" in fields else int(fields["WIDTH"][0]) * int(fields["HEIGHT"][0])
        row = sum(width * count for width, count in zip(sizes, counts, strict=True))
    except (KeyError, IndexError, ValueError) as error:
        raise ScanError(f"{path}: the PCD header is damaged ({one_line(error)}); export the scan again") from error
    needed = {"ascii": points * sum(counts) * 2 - 1, "binary": points * row, "binary_compressed": packed[0] + 8}[kind]
    unpacked = packed[1] if kind == "binary_compressed" else points * row
    if min([points, *sizes, *counts]) < 0 or needed > body or unpacked != points * row:
        raise ScanError(f"{path}: the file does not hold the {points} points that its header promises; copy it again")
    return fields
