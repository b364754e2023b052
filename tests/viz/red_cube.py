"""A room with a red cube, and an answer about it."""

from __future__ import annotations

import numpy as np

from tsp3d.io import Scan
from tsp3d.results import Box, Grounding


def make_room(colour: bool = True, up: str = "z", unit: str = "m") -> Scan:
    """4 × 3 × 2.4 m with floor, ceiling, four walls and a red cube at (1, 0.5, 0.4)."""
    rng = np.random.default_rng(0)
    sides = []
    for axis in range(3):
        for end in (0.0, 1.0):
            face = rng.random((4000, 3))
            face[:, axis] = end
            sides.append(face * [4, 3, 2.4] - [2, 1.5, 0])
    cube = rng.random((3000, 3)) * 0.8 + [0.6, 0.1, 0.0]
    xyz = np.concatenate([*sides, cube])
    rgb = np.full((len(xyz), 3), 180, dtype=np.uint8)
    rgb[-3000:] = (200, 20, 20)
    rgb[:4000] = 90
    if up == "y":
        xyz = np.stack([xyz[:, 0], xyz[:, 2], -xyz[:, 1]], axis=1)
    return Scan.from_arrays(xyz * {"m": 1, "mm": 1000}[unit], rgb if colour else None, up=up, unit=unit, source="r.ply")


def make_grounding(scan: Scan, boxes: np.ndarray, text: str = "the red cube") -> Grounding:
    rows = scan.input_frame.boxes_to_input(boxes)
    answers = tuple(Box(tuple(row[:3]), tuple(row[3:]), 0.0, 0.9 - 0.2 * i) for i, row in enumerate(rows.tolist()))
    return Grounding(text, answers, boxes, scan.input_frame, best_score=0.2)


CUBE = np.array([[1.0, 0.5, 0.4, 0.8, 0.8, 0.8], [-1.0, 0.0, 1.0, 0.5, 0.5, 0.5]])
