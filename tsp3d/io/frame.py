"""Where a scan's numbers live: unit, up axis, and the transform from the file's frame to ours (metres, z up)."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tsp3d.io.errors import UserError

log = logging.getLogger(__name__)

UNITS: dict[str, float] = {"m": 1.0, "cm": 0.01, "mm": 0.001}
"""Metres per unit."""

# Rows: our x, y, z in the file's axes. Proper rotations by quarter turns, so that an axis-aligned box stays one.
UP_ROTATIONS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "z": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "-z": ((1, 0, 0), (0, -1, 0), (0, 0, -1)),
    "y": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    "-y": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
    "x": ((0, 1, 0), (0, 0, 1), (1, 0, 0)),
    "-x": ((0, 0, 1), (0, 1, 0), (-1, 0, 0)),
}
"""For each up axis of a file, the rotation that turns it to +z."""

MAX_EXTENT_M = 60.0
"""Larger scans are refused. Beyond it grounding would take many minutes; the likely cause is the unit."""

LARGE_M = 35.0
"""Larger scans get a warning."""


@dataclass(frozen=True)
class Frame:
    """The frame of the input and its relation to ours.

    ``transform`` is 4×4: input coordinates (in the input's unit) → metres, z up, floor near 0, centred in x and y.
    """

    unit: str = "m"
    up: str = "z"
    transform: np.ndarray = field(default_factory=lambda: np.eye(4))

    def __post_init__(self) -> None:
        check_unit(self.unit)
        check_up(self.up)
        matrix = np.asarray(self.transform, dtype=np.float64)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
            raise UserError(f"Frame.transform must be a finite 4×4 matrix, got shape {matrix.shape}")
        if matrix[3].tolist() != [0, 0, 0, 1] or np.linalg.det(matrix[:3, :3]) == 0:
            raise UserError(
                "Frame.transform must have an inverse, the last row 0 0 0 1 and the shift in the last column, "
                f"got {matrix.tolist()}"
            )
        object.__setattr__(self, "transform", matrix)

    def __eq__(self, other: object) -> bool:
        """Whether unit, up axis and transform are the same."""
        if not isinstance(other, Frame):
            return NotImplemented
        same = (self.unit, self.up) == (other.unit, other.up)
        return same and np.array_equal(self.transform, other.transform)

    def __hash__(self) -> int:
        return hash((self.unit, self.up))

    @classmethod
    def make(
        cls, unit: str = "m", up: str = "z", shift: np.ndarray | None = None, turn: np.ndarray | None = None
    ) -> Frame:
        """Frame of files in ``unit`` with axis ``up`` pointing up, which then is turned by ``turn`` (3, 3) and shifted
        by ``shift`` (3,) metres."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.asarray(UP_ROTATIONS[check_up(up)], dtype=np.float64) * UNITS[check_unit(unit)]
        if turn is not None:
            matrix[:3, :3] = turn @ matrix[:3, :3]
        if shift is not None:
            matrix[:3, 3] = shift
        return cls(unit=unit, up=up, transform=matrix)

    def to_metres(self, xyz: np.ndarray) -> np.ndarray:
        """(N, 3) in the input's frame → (N, 3) float64, metres z up."""
        return np.asarray(xyz, dtype=np.float64) @ self.transform[:3, :3].T + self.transform[:3, 3]

    def to_input(self, xyz: np.ndarray) -> np.ndarray:
        """(N, 3) metres z up → (N, 3) float64 in the input's frame and unit."""
        linear = np.linalg.inv(self.transform[:3, :3])
        return (np.asarray(xyz, dtype=np.float64) - self.transform[:3, 3]) @ linear.T

    def boxes_to_input(self, boxes: np.ndarray) -> np.ndarray:
        """Axis-aligned boxes (K, 6) in metres → (K, 6) in the input's frame and unit: centres, and sizes along the axes
        that :attr:`box_rotation` turns."""
        boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 6)
        sizes = boxes[:, 3:] @ np.abs(np.asarray(UP_ROTATIONS[self.up], dtype=np.float64)) / self._scale
        return np.hstack([self.to_input(boxes[:, :3]), sizes])

    @property
    def _scale(self) -> float:
        """Metres per unit."""
        return float(np.cbrt(abs(np.linalg.det(self.transform[:3, :3]))))

    @property
    def _turn(self) -> np.ndarray:
        """What the frame turns by (3, 3) beside bringing its up axis to z."""
        return self.transform[:3, :3] / self._scale @ np.asarray(UP_ROTATIONS[self.up], dtype=np.float64).T

    @property
    def box_rotation(self) -> np.ndarray:
        """(3, 3): turns the input's axes into those of boxes that are aligned with ours; the identity where a scan
        needed no turning."""
        quarter = np.asarray(UP_ROTATIONS[self.up], dtype=np.float64)
        return quarter.T @ self._turn.T @ quarter

    @property
    def yaw(self) -> float:
        """Radians about the input's up axis by which such boxes are turned there (right-handed)."""
        return float(np.arctan2(self._turn[0, 1], self._turn[0, 0])) + 0.0

    def to_json(self) -> dict[str, Any]:
        """``{"unit", "up", "transform"}`` with the transform as rows."""
        rows = [[float(value) + 0.0 for value in row] for row in self.transform]
        return {"unit": self.unit, "up": self.up, "transform": rows}


def check_unit(unit: str) -> str:
    """Return ``unit`` if known. Raises UserError."""
    if not isinstance(unit, str) or unit not in UNITS:
        raise UserError(f"unknown unit {unit!r}: use one of {', '.join(UNITS)}")
    return unit


def check_up(up: str) -> str:
    """Return ``up`` if known. Raises UserError."""
    if not isinstance(up, str) or up not in UP_ROTATIONS:
        raise UserError(f"unknown up axis {up!r}: use one of {', '.join(UP_ROTATIONS)}")
    return up


def leveling_shift(xyz: np.ndarray) -> np.ndarray:
    """Shift (3,) in metres that puts the floor near z = 0 and the middle of the floor plan at the origin.

    The floor is the fullest 5 cm slice within half a metre of the lowest points, if it stands out; otherwise the lowest
    points (1st percentile), so that a few reflections below the floor do not count. Rounded to the millimetre.
    """
    low, high = np.percentile(xyz, [1.0, 99.0], axis=0)
    floor = low[2]
    if len(xyz) >= 1000 and high[2] - low[2] > 0.5:
        counts, edges = np.histogram(xyz[:, 2], bins=np.arange(low[2] - 0.1, low[2] + 0.5, 0.05))
        everywhere = 0.98 * len(xyz) * 0.05 / (high[2] - low[2])  # points in a slice if all slices were alike
        best = int(counts.argmax())
        if counts[best] > 2.0 * everywhere:
            inside = (xyz[:, 2] >= edges[best]) & (xyz[:, 2] <= edges[best + 1])
            floor = np.median(xyz[inside, 2])
    middle = (low + high) / 2
    return np.round(-np.array([middle[0], middle[1], floor]), 3)


def plausibility_warning(xyz: np.ndarray, unit: str, up: str) -> str | None:
    """Which flag to pass, when points (N, 3; metres, not yet levelled) have no room's extents; else None."""
    if len(xyz) < 100:
        return None
    low, high = np.percentile(xyz, [1.0, 99.0], axis=0)
    extent = high - low
    size = float(extent.max())
    text = " × ".join(f"{value:.3g}" for value in extent)
    if size > LARGE_M or size < 0.3:
        better = _better_unit(size / UNITS[unit], unit)
        advice = f"if the file is in {better}, pass --unit {better}" if better else "check the file's unit (--unit)"
        if size > LARGE_M:
            remedy = f"cut it into parts of {MAX_EXTENT_M:g} m" if size > MAX_EXTENT_M else "nothing need be done"
            advice += f"; if it is that large, {remedy}"
        return (
            f"the scan measures {text} m (x, y, z), too {'large' if size > LARGE_M else 'small'} for a room: {advice}"
        )
    if up == "z" and len(xyz) >= 1000:
        # A depth camera's own frame: everything lies in front of the origin (+z), and around its x and y.
        if low[2] > 0.2 and (low[:2] < 0).all() and (high[:2] > 0).all() and extent[1] < 1.2 * extent[2]:
            return "all points lie in front of the origin, as in a camera's frame (y down): if so, pass --up -y"
        short = int(extent.argmin())
        higher_than_wide = short != 2 and extent[2] > 1.15 * extent[short] and extent[2] > 2.0
        if higher_than_wide and not _furnished(xyz, low, high, short):
            axis = "xyz"[short]
            return (
                f"the scan measures {text} m (x, y, z): the {axis} axis is the shortest, as the vertical usually is. "
                f"If {axis} points up, pass --up {axis} (or --up -{axis} if it points down)"
            )
    return None


def _furnished(xyz: np.ndarray, low: np.ndarray, high: np.ndarray, other: int) -> bool:
    """Whether points lie low along z rather than high, and more so than they lie to one side of the ``other`` axis: as
    furniture does between floor and ceiling, in a bathroom or a corridor that is higher than wide."""

    def lean(axis: int) -> float:
        inner = (xyz[:, axis] > low[axis] + 0.12) & (xyz[:, axis] < high[axis] - 0.12)  # neither floor nor walls
        return float((xyz[inner, axis] < (low[axis] + high[axis]) / 2).mean()) - 0.5 if inner.any() else 0.0

    return lean(2) > 0.06 and lean(2) > abs(lean(other))


def _better_unit(size: float, unit: str) -> str | None:
    """The unit in which a largest extent of ``size`` (in file numbers) is nearest to a room's 5 m, if it is one's."""
    sizes = {name: size * factor for name, factor in UNITS.items() if name != unit and 0.5 <= size * factor <= LARGE_M}
    return min(sizes, key=lambda name: abs(np.log(sizes[name] / 5.0)), default=None)
