"""How a room lies in its scan: which way is up, and along which directions its walls run."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

CELL_M = 0.12
"""Side of the cells that each give one normal."""
LEAST_POINTS = 8
"""Points that a cell needs for a normal."""
FLAT = 0.04
"""Least eigenvalue of a cell's covariance over the middle one, up to which its points count as a plane."""
LEAST_CELLS = 60
"""Planes that a direction is told from."""
MOST_POINTS = 60_000
"""More than these are thinned first…"""
AREA_M2, BLOCK_M = 40.0, 1.2
"""…after as many blocks of a larger floor plan have been drawn as cover this: points spread over all of it would be too
few in a cell."""
LEVEL = np.deg2rad(2.0)
"""A scan that is tilted by less stays as it is…"""
STRAIGHT = np.deg2rad(4.0)
"""…and so does one whose walls are nearer to the axes than this. `tsp3d-tiny` loses nothing by either."""
CLEARER = 0.7
"""A tilt counts only where levelling leaves less than this share of the planes' misfit."""
WALL_TOLERANCE = np.deg2rad(6.0)
"""Walls count as running one way within this angle…"""
WALL_SHARE = 0.3
"""…and as telling the room's directions from this share of all upright planes on, where chance would be 0.13."""


def cell_normals(xyz: np.ndarray, cell: float = CELL_M) -> np.ndarray:
    """Unit normals (C, 3) of the cells of a grid in which the points (N, 3; metres) lie on a plane, signs arbitrary."""
    low = xyz.min(axis=0)
    index = np.floor((xyz - low) / cell).astype(np.int64)
    size = index.max(axis=0) + 1
    keys = (index[:, 0] * size[1] + index[:, 1]) * size[2] + index[:, 2]
    _, which, count = np.unique(keys, return_inverse=True, return_counts=True)
    centre = np.stack([np.bincount(which, xyz[:, k]) for k in range(3)], axis=1) / count[:, None]
    offset = xyz - centre[which]
    moments = np.empty((len(count), 3, 3))
    for a in range(3):
        for b in range(a, 3):
            moments[:, a, b] = moments[:, b, a] = np.bincount(which, offset[:, a] * offset[:, b])
    moments = moments[count >= LEAST_POINTS]
    values, vectors = np.linalg.eigh(moments)  # ascending
    return vectors[values[:, 0] < FLAT * values[:, 1], :, 0]


def gravity(normals: np.ndarray) -> np.ndarray:
    """The direction (3,) that most planes (normals, (C, 3)) lie across or along, found from +z on, within 45 degrees.

    Gupta, Arbeláez and Malik, "Perceptual Organization and Recognition of Indoor Scenes from RGB-D Images" (CVPR 2013),
    section 3: floors and tables are parallel to one another, walls at right angles to them.
    """
    up = np.array([0.0, 0.0, 1.0])
    for degrees in (45,) * 5 + (15,) * 5:
        angle = np.abs(normals @ up)
        across = normals[angle > np.cos(np.deg2rad(degrees))]
        along = normals[angle < np.sin(np.deg2rad(degrees))]
        _, vectors = np.linalg.eigh(along.T @ along - across.T @ across)
        up = vectors[:, 0] * (1 if vectors[2, 0] >= 0 else -1)
    return up


def wall_direction(normals: np.ndarray) -> float | None:
    """The angle, within 45 degrees either way of the x axis, along which or across which walls run, of normals (C, 3)
    with z up; None where too few agree."""
    upright = normals[np.abs(normals[:, 2]) < 0.2]
    if len(upright) < LEAST_CELLS:
        return None
    angle = np.arctan2(upright[:, 1], upright[:, 0])
    quarter = np.pi / 2

    def apart(direction: np.ndarray) -> np.ndarray:
        return (angle - direction + quarter / 2) % quarter - quarter / 2

    candidates = np.deg2rad(np.arange(-45, 45))
    near = np.array([(np.abs(apart(c)) < WALL_TOLERANCE).sum() for c in candidates])
    best = candidates[near.argmax()]
    for _ in range(3):
        off = apart(best)
        best += off[np.abs(off) < WALL_TOLERANCE].mean()
    if (np.abs(apart(best)) < WALL_TOLERANCE).mean() < WALL_SHARE:
        return None
    return float((best + quarter / 2) % quarter - quarter / 2)


def turn_upright(up: np.ndarray) -> np.ndarray:
    """The smallest rotation (3, 3) that takes the direction ``up`` (3,) to +z."""
    x, y, z = up
    share = 1 / (1 + z)
    return np.array([[1 - x * x * share, -x * y * share, -x], [-x * y * share, 1 - y * y * share, -y], [x, y, z]])


class Alignment(NamedTuple):
    """How a scan lies, and what sets it right."""

    turn: np.ndarray
    """Rotation (3, 3) that levels the points and turns the walls along x and y."""
    tilt: float
    """Radians by which the floor leans; 0 where it is left as it is."""
    walls: float
    """Radians, within a quarter of a turn, by which the walls are off the axes after that; 0 likewise."""


def alignment(xyz: np.ndarray) -> Alignment | None:
    """How points (N, 3; metres, z roughly up) lie; None where they lie level and straight, within :data:`LEVEL` and
    :data:`STRAIGHT`, or where too little tells how they should."""
    some = _blocks(xyz)
    normals = cell_normals(some[:: -(-len(some) // MOST_POINTS)])
    if len(normals) < LEAST_CELLS:
        return None
    turn, tilt, walls = np.eye(3), 0.0, 0.0
    up = gravity(normals)
    if up[2] < np.cos(LEVEL) and _misfit(normals, up) < CLEARER * _misfit(normals, np.array([0.0, 0.0, 1.0])):
        turn, tilt = turn_upright(up), float(np.arccos(up[2]))
    direction = wall_direction(normals @ turn.T)
    if direction is not None and abs(direction) > STRAIGHT:
        cos, sin = np.cos(direction), np.sin(direction)
        turn, walls = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]]) @ turn, direction
    return Alignment(turn, tilt, walls) if tilt or walls else None


def _blocks(xyz: np.ndarray) -> np.ndarray:
    """The points (n, 3) of some blocks of the floor plan, drawn at random but always the same; all of a room's."""
    index = np.floor((xyz[:, :2] - xyz[:, :2].min(axis=0)) / BLOCK_M).astype(np.int64)
    size = index.max(axis=0) + 1
    keys = index[:, 0] * size[1] + index[:, 1]
    filled = np.flatnonzero(np.bincount(keys))
    count = int(AREA_M2 / BLOCK_M**2)
    if len(filled) <= 2 * count:
        return xyz
    drawn = np.zeros(size[0] * size[1], dtype=bool)
    drawn[np.random.default_rng(0).permutation(filled)[:count]] = True
    return xyz[drawn[keys]]


def _misfit(normals: np.ndarray, up: np.ndarray) -> float:
    """How far the planes are from lying along or across ``up``: their mean square angle, large ones cut off."""
    angle = np.arccos(np.clip(np.abs(normals @ up), 0.0, 1.0))
    return float((np.minimum(np.minimum(angle, np.pi / 2 - angle), np.deg2rad(15.0)) ** 2).mean())
