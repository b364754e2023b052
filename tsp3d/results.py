"""What grounding returns, and the front door of its writers."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tsp3d.io import Frame, UserError
from tsp3d.io.load import OUTPUT_MARK
from tsp3d.io.write import write_text

if TYPE_CHECKING:
    from tsp3d.grounder import ScanResult


@dataclass(frozen=True)
class Box:
    """A box in the frame and unit of the input scan."""

    center: tuple[float, float, float]
    size: tuple[float, float, float]
    """Full extents along the input's x, y and z, turned by ``yaw`` or ``rotation``."""
    yaw: float
    """Radians about the up axis (right-handed); 0 where the box is aligned with the axes."""
    score: float
    """0…1."""
    rotation: tuple[tuple[float, float, float], ...] | None = None
    """Rows of the matrix that turns the input's axes into the box's, where the scan was turned; of a tilted scan it
    says more than ``yaw``. None where they are the same."""

    @property
    def turned(self) -> float:
        """Degrees between the input's axes and the box's."""
        cosine = 1.0 if self.rotation is None else (np.trace(np.array(self.rotation)) - 1) / 2
        return float(np.rad2deg(np.arccos(np.clip(cosine, -1, 1))))

    @property
    def corners(self) -> np.ndarray:
        """(8, 3) float64 in the frame and unit of the input; corner i has the signs of the bits of i (x lowest)."""
        signs = ((np.arange(8)[:, None] >> np.arange(3)) & 1) - 0.5
        turn = np.eye(3) if self.rotation is None else np.array(self.rotation)
        return np.array(self.center) + signs * np.array(self.size) @ turn.T

    def to_json(self) -> dict[str, Any]:
        """``{"center", "size", "yaw", "score"}``, and ``"rotation"`` where there is one."""
        center, size = ([round(value, 6) for value in values] for values in (self.center, self.size))
        entry = {"center": center, "size": size, "yaw": round(self.yaw, 6), "score": round(self.score, 6)}
        if self.rotation is not None:
            entry["rotation"] = [[round(value, 9) for value in row] for row in self.rotation]
        return entry


@dataclass(frozen=True, eq=False)
class Grounding:
    """The answer to one sentence about one scan."""

    text: str
    boxes: tuple[Box, ...]
    """Best first, in the frame and unit of the input; empty for the ``reason`` given."""
    boxes_m: Any
    """The same boxes as an array (K, 6) float64: centre and size in the scan's metres, z up (as ``Scan.xyz``)."""
    frame: Frame
    reason: str = ""
    """Why there is no box; empty where there is one."""
    presence: float | None = None
    """Probability that anything in the scan fits the sentence, where the network says it (calibrated if the weights
    are)."""
    best_score: float = 0.0
    """Score of the best candidate, even if below ``min_score``: how near a miss was."""
    timings_ms: dict[str, float] = field(default_factory=dict)
    """``encode`` (the scan, shared by its sentences), ``ground`` (this sentence), ``total``."""
    trace: Any = None
    """What the network kept at each level, if it says."""
    masks: tuple[Any, ...] = ()
    """For each box the points of its object: indices (int64, ascending) into ``Scan.xyz``. Empty where the weights have
    no mask head: they give boxes alone."""

    @property
    def mask(self) -> Any:
        """The points of the best box's object, or None where nothing was found or the weights have no mask head."""
        return self.masks[0] if self.masks else None

    @property
    def found(self) -> bool:
        """Whether there is any box."""
        return bool(self.boxes)

    def to_json(self) -> dict[str, Any]:
        """One entry of ``queries`` in the result file."""
        return {
            "text": self.text,
            "found": self.found,
            **({} if self.found or not self.reason else {"reason": self.reason}),
            **({} if self.presence is None else {"presence": round(self.presence, 6)}),
            "boxes": [
                {**box.to_json(), **({"mask": runs(self.masks[rank])} if self.masks else {})}
                for rank, box in enumerate(self.boxes)
            ],
            "timings_ms": {name: round(value, 3) for name, value in self.timings_ms.items()},
        }


def runs(indices: Any) -> list[int]:
    """Ascending indices (n,) as runs: ``[start, length, start, length, …]``."""
    indices = np.asarray(indices, dtype=np.int64)
    starts = np.flatnonzero(np.diff(indices, prepend=-2) != 1)
    lengths = np.diff(starts, append=len(indices))
    return np.stack([indices[starts], lengths], axis=1).ravel().tolist()


def scan_to_json(
    source: str, model: str, config_hash: str, frame: Frame, groundings: Sequence[Grounding]
) -> dict[str, Any]:
    """The result of one scan, as written to the result file."""
    return {
        "scan": source,
        "model": model,
        "config_hash": config_hash,
        "frame": frame.to_json(),
        "queries": [grounding.to_json() for grounding in groundings],
    }


def dumps(content: object) -> str:
    """JSON text, strict (no NaN) and readable in any language."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, indent=2)
    # Lists of numbers on one line. Line breaks in strings are escaped, so that none of them can match.
    return (
        re.sub(r"\[\n\s+([-+.\deE,\s]+?)\n\s+\]", lambda m: f"[{', '.join(m[1].replace(',', ' ').split())}]", text)
        + "\n"
    )


def document(entries: Sequence[dict[str, Any]], single: bool) -> object:
    """The result file's content: the scan's object, or a list of them if a folder or pattern was given."""
    return entries[0] if single and len(entries) == 1 else list(entries)


def write_json(path: str | os.PathLike[str], content: object) -> None:
    """Write a result file, whole or not at all; to standard output for "-". Raises UserError."""
    if os.fspath(path) == "-":
        try:
            sys.stdout.buffer.write(dumps(content).encode("utf-8"))  # UTF-8 whatever the terminal's encoding
            sys.stdout.buffer.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python tries the rest again at exit
            raise UserError(f"standard output cannot be written to ({error.strerror or error})") from error
    else:
        write_text(path, dumps(content))


def print_table(result: ScanResult, console: Console, files: Sequence[Path] = ()) -> None:
    """Print a scan's boxes as a table, then the files that were written for it."""
    unit = result.groundings[0].frame.unit if result.groundings else "m"
    table = Table(title=escape(result.source), title_justify="left")
    masked = any(grounding.masks for grounding in result.groundings)
    twisted = any(box.rotation for grounding in result.groundings for box in grounding.boxes)
    more = [name for name, wanted in (("turned", twisted), ("points", masked)) if wanted]
    for name in ("text", "score", f"centre ({unit})", f"size ({unit})", *more, "ms"):
        table.add_column(name, justify="left" if name == "text" else "right", overflow="fold")
    for grounding in result.groundings:
        total = f"{grounding.timings_ms.get('total', 0.0):.0f}"
        if not grounding.found:
            reason = grounding.reason or f"not found (best {grounding.best_score:.2f})"
            table.add_row(escape(grounding.text), escape(reason), "", "", *([""] * len(more)), total)
        for rank, box in enumerate(grounding.boxes):
            centre, size = (lengths(values, unit) for values in (box.center, box.size))
            cells = {"turned": f"{box.turned:.0f}°", "points": f"{len(grounding.masks[rank]):,}" if masked else ""}
            text, time = (escape(grounding.text), total) if rank == 0 else ("", "")
            table.add_row(text, f"{box.score:.2f}", centre, size, *(cells[name] for name in more), time)
    console.print(table)
    for path in files:
        console.print(f"  {escape(str(path))}", highlight=False)


def write_pictures(result: ScanResult, folder: str | os.PathLike[str], prefix: str | None = None) -> list[Path]:
    """Write an annotated PLY and a PNG for each sentence of a scan.

    Names are ``<prefix>-<number>-<words>.tsp3d.png`` and ``.ply``; the prefix is the scan's file name by default.

    Returns:
        The files written, PNG and PLY in turn. Raises UserError if the folder cannot be written to.
    """
    from tsp3d.viz import write_annotated_ply, write_png  # matplotlib only where a picture is wanted

    if result.scan is None:
        return []
    written = []
    stem = prefix if prefix is not None else Path(result.source).stem
    for number, grounding in enumerate(result.groundings, 1):
        name = f"{slug(stem, 80)}-{number}-{slug(grounding.text)}{OUTPUT_MARK}"
        png, ply = Path(folder) / f"{name}png", Path(folder) / f"{name}ply"
        write_png(png, result.scan, grounding)
        write_annotated_ply(ply, result.scan, grounding)
        written += [png, ply]
    return written


def try_pictures(
    result: ScanResult, folder: str | os.PathLike[str] | None, prefix: str | None = None
) -> tuple[list[Path], str | None]:
    """What :func:`write_pictures` has written, if there is a folder for it, and what the user should hear of the scan:
    its error, or that of the pictures."""
    try:
        return write_pictures(result, folder, prefix) if folder else [], result.error
    except UserError as error:
        return [], str(error)


def turned(box: Box) -> str:
    """ ", turned by 43°" of a box that is not aligned with the input's axes; "" of others."""
    return "" if box.rotation is None else f", turned by {box.turned:.0f}°"


def lengths(values: Sequence[float], unit: str, between: str = ", ") -> str:
    """Numbers in ``unit`` as text, to the millimetre whatever their size: survey coordinates have seven digits."""
    decimals = {"m": 3, "cm": 1, "mm": 0}[unit]
    return between.join(f"{round(value, decimals) + 0.0:.{decimals}f}" for value in values)


def paired_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two axis-aligned boxes (6,): centre and size in one unit."""
    low = np.maximum(a[:3] - a[3:] / 2, b[:3] - b[3:] / 2)
    high = np.minimum(a[:3] + a[3:] / 2, b[:3] + b[3:] / 2)
    shared = float(np.prod(np.maximum(high - low, 0.0)))
    return shared / max(float(np.prod(a[3:]) + np.prod(b[3:])) - shared, 1e-12)


def slug(text: str, limit: int = 40) -> str:
    """Part of a file name from any text: letters of any script, digits, single dashes; never empty."""
    words = re.sub(r"[^\w.]+", "-", text.lower()).strip("-._")
    return words[:limit].encode("utf-8")[:120].decode("utf-8", "ignore").rstrip("-._") or "text"


def unique_prefixes(sources: Sequence[str | os.PathLike[str]]) -> list[str]:
    """A name for each scan's results: its stem, or with the extension and a number where two scans share it."""
    taken: set[str] = set()
    prefixes = []
    for source in sources:
        path = Path(source)
        candidates = [path.stem, path.name.replace(".", "-")]
        name = next((c for c in candidates if slug(c, 80) not in taken), None)
        number = 2
        while name is None:
            candidate = f"{path.stem[:60]}-{number}"
            name = candidate if slug(candidate, 80) not in taken else None
            number += 1
        taken.add(slug(name, 80))
        prefixes.append(name)
    return prefixes
