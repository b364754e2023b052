"""Points as text: XYZ, TXT, CSV, ASC, PTS."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tsp3d.io.cloud import Chunk
from tsp3d.io.errors import ScanError

log = logging.getLogger(__name__)

CHUNK_LINES = 200_000
BOM = "\u00ef\u00bb\u00bf"
"""What UTF-8 may begin with, read as Latin-1."""
HEADER_LINES = 100
"""Lines that may come before the first row of numbers."""

SEVEN = [0, 1, 2, 4, 5, 6]
"""Of the seven columns of PTS (x y z intensity r g b)."""
SEVEN_LINES = 20_000
"""By which seven columns without names are judged."""

_AXES = (("x", "y", "z"), ("//x", "y", "z"), ("#x", "y", "z"), ("x_m", "y_m", "z_m"))
_COLOURS = (("r", "g", "b"), ("red", "green", "blue"))


def read_text(path: Path) -> Iterator[Chunk]:
    """Rows of ``x y z``, ``x y z r g b``, ``x y z i r g b`` or ``x y z r g b label``, parted by spaces, tabs, commas or
    semicolons.

    Lines before the first row of numbers are a header; if it names the columns, they are taken by name.
    """
    with path.open("r", encoding="latin-1", errors="replace") as file:
        header: list[str] = []
        for number, line in enumerate(file, 1):
            if len(line) > 10_000 or number > HEADER_LINES:
                break
            line = line.removeprefix(BOM)
            if "\0" in line:
                raise ScanError(
                    f"{path}: this is no plain text (line {number} holds zero bytes); save it as UTF-8 text"
                )
            fields = line.split("#")[0]  # a row may end in a comment, as below
            delimiter = _delimiter(fields)
            row = _numbers(fields, delimiter)
            if len(row) >= 3:
                columns = _columns(header, delimiter, len(row), path, number)
                lines = [line, *itertools.islice(file, SEVEN_LINES if columns == SEVEN else 0)]
                if columns == SEVEN and path.suffix.lower() != ".pts":
                    columns = _seven(lines, delimiter, path)
                yield from _rows(itertools.chain(lines, file), delimiter, columns, number, path)
                return
            if line.strip():
                header.append(line)
    if not header:
        raise ScanError(f"{path}: it holds no points; each line needs x y z or x y z r g b")
    if all(re.fullmatch(r"[\s\d.,;eE+-]+", line) for line in header):
        raise ScanError(f"{path}: the lines have fewer than three numbers; each needs x y z or x y z r g b")
    raise ScanError(f"{path}: no line holds numbers alone, with decimal points; each needs x y z or x y z r g b")


def _delimiter(line: str) -> str | None:
    if ";" in line:
        return ";"
    return "," if "," in line else None


def _numbers(line: str, delimiter: str | None) -> list[float]:
    """The numbers of a row, or [] if some field is not one."""
    fields = [field for field in line.strip().split(delimiter) if field.strip()]
    try:
        return [float(field) for field in fields]
    except ValueError:
        return []


def _columns(header: list[str], delimiter: str | None, width: int, path: Path, number: int) -> list[int]:
    """Which columns are x, y, z and, if there are colours, r, g, b."""
    for line in reversed(header):  # a count of the points may stand between the names and the rows
        names = [name.strip().strip('"').lower() for name in re.split(r"[,;\s]+", line.strip().lstrip("#/ "))]
        axes = next((group for group in _AXES if set(group) <= set(names)), ())
        if axes and len(names) == width:
            colours = next((group for group in _COLOURS if set(group) <= set(names)), ())
            return [names.index(name) for name in (*axes, *colours)]
    if width in (3, 4, 5):
        return [0, 1, 2]
    if width == 7:
        return SEVEN
    if delimiter == ";" or width >= 6:
        return [0, 1, 2, 3, 4, 5]
    raise ScanError(f"{path}: line {number} has {width} columns; needed are x y z or x y z r g b")


def _seven(lines: list[str], delimiter: str | None, path: Path) -> list[int]:
    """Which of seven columns without names are x, y, z, r, g, b, with a warning: a label has few values, blue many."""
    rows = [row for row in (_numbers(line.split("#")[0], delimiter) for line in lines) if len(row) == 7]
    green, last = (len({row[column] for row in rows}) for column in (4, 6))
    label = 4 * last <= green
    log.warning(
        "%s: its seven columns are taken for x y z %s; if they are others, name them in a first line",
        path, "r g b label" if label else "intensity r g b",
    )  # fmt: skip
    return [0, 1, 2, 3, 4, 5] if label else SEVEN


def _rows(lines: Iterator[str], delimiter: str | None, columns: list[int], first: int, path: Path) -> Iterator[Chunk]:
    while block := list(itertools.islice(lines, CHUNK_LINES)):
        # Blank lines are skipped by loadtxt; a trailing delimiter would make an empty last field.
        block = [line.rstrip(" \t\r\n,;") if delimiter else line for line in block]
        try:
            table = np.loadtxt(block, delimiter=delimiter, usecols=columns, ndmin=2, comments="#", dtype=np.float64)
        except ValueError as error:
            raise ScanError(_blame(block, delimiter, columns, first, path)) from error
        first += len(block)
        if len(table):
            yield Chunk(table[:, :3], table[:, 3:6] if len(columns) == 6 else None)


def _blame(block: list[str], delimiter: str | None, columns: list[int], first: int, path: Path) -> str:
    """A message that names the first bad line."""
    for number, line in enumerate(block, first):
        text = line.split("#")[0].strip()
        if text and len(_numbers(text, delimiter)) <= max(columns):
            return f"{path}: line {number} ({text[:40]!r}) is not {max(columns) + 1} numbers; correct or remove it"
    return f"{path}: the lines after {first} are not rows of numbers"
