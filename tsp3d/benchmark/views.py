"""How fast views are rendered: five of each object of a generated room."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsp3d.benchmark.rooms import surface_points
from tsp3d.benchmark.timing import alternate
from tsp3d.synth.assets import AssetLibrary
from tsp3d.synth.room import build_room
from tsp3d.views.cameras import ObjectViews
from tsp3d.views.objects import object_views
from tsp3d.views.render import spacing_radius

SIZES = (32, 128, 224)
"""Pixels of a side: LAR's two, and that of common encoders."""


def furnished_room(points: int, objects: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Points (points, 3), colours (points, 3) 0…1 and boxes (objects, 6) of the first generated room with so many
    pieces.

    Raises:
        ValueError: none of a hundred rooms has.
    """
    for index in range(100):
        rng = np.random.default_rng([seed, index])
        room = build_room(AssetLibrary("val"), rng, "living room")
        if len(room.placed) < objects:
            continue
        boxes = []
        for piece in room.placed[:objects]:
            vertices = piece.asset.mesh.placed(piece.x, piece.y, piece.z, piece.yaw).vertices
            low, high = vertices.min(axis=0), vertices.max(axis=0)
            boxes.append(np.concatenate([(low + high) / 2, high - low]))
        mesh, _ = room.mesh()
        xyz, rgb = surface_points(mesh, math.sqrt(float(mesh.areas().sum()) / (1.01 * points)), rng)
        chosen = rng.permutation(len(xyz))[:points]
        arrays = xyz[chosen], rgb[chosen] / 255, np.array(boxes)
        return tuple(torch.from_numpy(a.astype(np.float32)) for a in arrays)  # type: ignore[return-value]
    raise ValueError(f"no generated room has {objects} pieces; ask for fewer")


def time_views(points: int = 300_000, objects: int = 40, rounds: int = 7) -> dict[str, Any]:
    """Milliseconds for all objects' images by image size, the points' spacing included, and for the spacing alone.

    They are of the processor on one thread: what a clock shows on an idle machine, whatever else runs meanwhile.
    """
    xyz, rgb, boxes = furnished_room(points, objects)
    work: dict[str, Any] = {
        f"{size} px": lambda size=size: object_views(xyz, rgb, boxes, ObjectViews(size=size)) for size in SIZES
    }
    work["spacing"] = lambda: spacing_radius(xyz)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = alternate(work, rounds, torch.device("cpu"), now=lambda _: time.process_time())
    finally:
        torch.set_num_threads(threads)
    return {
        "clock": "processor time of one thread", "points": len(xyz), "objects": len(boxes),
        "views": len(ObjectViews().angles), "rounds": rounds,
        "times": {name: timing.to_json() for name, timing in times.items()},
    }  # fmt: skip
