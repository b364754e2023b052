"""The scan with the boxes drawn in, as a PLY that any viewer opens, in the frame of the input."""

from __future__ import annotations

import os

import numpy as np
from plyfile import PlyData, PlyElement

from tsp3d.io import Scan
from tsp3d.io.write import replacing
from tsp3d.results import Grounding, lengths, turned
from tsp3d.viz.png import height_colours, tinted
from tsp3d.viz.render import BOX_EDGES, box_corners

BEST = (232, 17, 45)
OTHERS = (245, 158, 11)
MASK_TINT = 0.6
SPACING_M = 0.008
"""Distance of the points that a box's edges are made of."""


def write_annotated_ply(path: str | os.PathLike[str], scan: Scan, grounding: Grounding) -> None:
    """Write points, then the boxes: their edges as coloured points (seen everywhere) and as a PLY ``edge`` element.
    Points of an object's mask are tinted in the colour of its box.

    Coordinates are in the input's frame and unit. Raises UserError if the place cannot be written to.
    """
    boxes = np.asarray(grounding.boxes_m, dtype=np.float64).reshape(-1, 6)
    colours = [height_colours(scan.xyz.astype(np.float64)) if scan.rgb is None else scan.rgb]
    for rank in range(len(grounding.masks) - 1, -1, -1):
        colours[0] = tinted(colours[0], grounding.masks[rank], BEST if rank == 0 else OTHERS, MASK_TINT)
    points = [scan.xyz.astype(np.float64)]
    edges = []
    count = len(scan)
    for rank, box in enumerate(boxes):
        corners = box_corners(box)
        drawn = np.concatenate([corners, *(_line(corners[a], corners[b]) for a, b in BOX_EDGES)])
        edges += [(count + a, count + b) for a, b in BOX_EDGES]
        points.append(drawn)
        colours.append(np.tile(np.array(BEST if rank == 0 else OTHERS, dtype=np.uint8), (len(drawn), 1)))
        count += len(drawn)
    xyz, rgb = scan.input_frame.to_input(np.concatenate(points)), np.concatenate(colours)
    # Float32 has 24 bits: survey coordinates of kilometres need float64 to keep their millimetres.
    far = float(np.abs(xyz).max()) > 2**11 / np.abs(scan.input_frame.transform[:3, :3]).max()
    kind = "f8" if far else "f4"
    vertex = np.empty(len(xyz), dtype=[(a, kind) for a in "xyz"] + [(c, "u1") for c in ("red", "green", "blue")])
    for column, axis in enumerate("xyz"):
        vertex[axis] = xyz[:, column]
    for column, name in enumerate(("red", "green", "blue")):
        vertex[name] = rgb[:, column]
    elements = [PlyElement.describe(vertex, "vertex")]
    if edges:
        lines = np.zeros(
            len(edges), dtype=[("vertex1", "i4"), ("vertex2", "i4")] + [(c, "u1") for c in ("red", "green", "blue")]
        )
        lines["vertex1"], lines["vertex2"] = np.array(edges).T
        first = len(BOX_EDGES)
        for channel, name in enumerate(("red", "green", "blue")):
            lines[name][:first], lines[name][first:] = BEST[channel], OTHERS[channel]
        elements.append(PlyElement.describe(lines, "edge"))
    unit = grounding.frame.unit
    text = "".join(c if c.isascii() and c.isprintable() else "?" for c in grounding.text)  # PLY headers are ASCII
    comments = [f"tsp3d: {text}"] + [
        f"box {rank}: centre {lengths(box.center, unit, ' ')} size {lengths(box.size, unit, ' ')} {unit} "
        f"score {box.score:.3f}{turned(box)}".replace("°", " degrees")
        for rank, box in enumerate(grounding.boxes, 1)
    ]
    with replacing(path) as temporary:
        PlyData(elements, text=False, byte_order="<", comments=comments).write(str(temporary))


def _line(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Points (n, 3) along an edge."""
    count = int(np.clip(np.linalg.norm(end - start) / SPACING_M, 2, 5000))
    share = np.linspace(0, 1, count)[:, None]
    return start * (1 - share) + end * share
