"""A small folder in exactly ScanNet's layout, with made-up boxes for objects."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from plyfile import PlyData, PlyElement

ALIGN = np.array([[0.0, -1, 0, 1.5], [1, 0, 0, -2.0], [0, 0, 1, 0.25], [0, 0, 0, 1]])
"""A quarter turn and a shift."""

LAYOUT = (
    ("chair", 5, (1.0, 1.0, 0.5), (0.5, 0.6, 1.0)),
    ("chair", 5, (3.0, 1.0, 0.5), (0.5, 0.5, 1.0)),
    ("office chair", 5, (1.0, 3.0, 0.5), (0.6, 0.6, 1.1)),
    ("table", 7, (3.0, 3.0, 0.4), (1.2, 0.8, 0.8)),
    ("refrigerator", 24, (5.0, 1.0, 0.9), (0.7, 0.7, 1.8)),
    ("lamp", 35, (5.0, 3.0, 0.7), (0.3, 0.3, 1.4)),
)
"""Raw label, NYU40 label, centre and size in the scan's own frame, of the objects 0, 1, …"""


def write_scene(scans: Path, scene_id: str, seed: int = 0, each: int = 40, floor: int = 60) -> Path:
    """Write one scene of ``LAYOUT``, each object two segments of ``each`` vertices in all, on a floor."""
    rng = np.random.default_rng(seed)
    folder = scans / scene_id
    folder.mkdir(parents=True)
    xyz, labels, segments = [rng.uniform(0, 6, (floor, 3)) * (1, 1, 0)], [np.full(floor, 2)], [np.full(floor, 900)]
    groups = []
    for number, (label, nyu40, centre, size) in enumerate(LAYOUT):
        own = (rng.random((each, 3)) - 0.5) * size
        own[0], own[1] = np.array(size) / 2, -np.array(size) / 2  # the box is known
        xyz.append(own + centre)
        labels.append(np.full(each, nyu40))
        pair = [10 * number + 3, 10 * number + 7]
        segments.append(rng.permutation(np.repeat(pair, [each // 2, each - each // 2])))
        groups.append({"id": number, "objectId": number, "segments": pair, "label": label})
    points = np.concatenate(xyz)
    order = rng.permutation(len(points))
    colors = rng.integers(0, 256, (len(points), 3))
    rows = np.zeros(
        len(points), dtype=[*((a, "f4") for a in "xyz"), *((c, "u1") for c in ("red", "green", "blue", "alpha"))]
    )
    for axis, name in enumerate("xyz"):
        rows[name] = points[order, axis]
    for channel, name in enumerate(("red", "green", "blue")):
        rows[name] = colors[:, channel]
    faces = np.zeros(2, dtype=[("vertex_indices", "i4", (3,))])
    faces["vertex_indices"] = [[0, 1, 2], [2, 3, 4]]
    stem = f"{scene_id}_vh_clean_2"
    parts = [PlyElement.describe(rows, "vertex"), PlyElement.describe(faces, "face")]
    PlyData(parts).write(str(folder / f"{stem}.ply"))
    labelled = np.zeros(len(points), dtype=[*rows.dtype.descr, ("label", "u2")])
    for name in rows.dtype.names or ():
        labelled[name] = rows[name]
    labelled["label"] = np.concatenate(labels)[order]
    PlyData([PlyElement.describe(labelled, "vertex"), parts[1]]).write(str(folder / f"{stem}.labels.ply"))
    segs = {
        "params": {"kThresh": "0.0001"},
        "sceneId": scene_id,
        "segIndices": np.concatenate(segments)[order].tolist(),
    }
    (folder / f"{stem}.0.010000.segs.json").write_text(json.dumps(segs))
    aggregation = {"sceneId": f"scannet.{scene_id}", "appId": "Aggregator.v2", "segGroups": groups}
    (folder / f"{scene_id}.aggregation.json").write_text(json.dumps(aggregation))
    numbers = " ".join(f"{value:.6f}" for value in ALIGN.flatten())
    (folder / f"{scene_id}.txt").write_text(f"axisAlignment = {numbers} \ncolorHeight = 968\nnumDepthFrames = 9\n")
    return folder


def aligned_box(number: int) -> np.ndarray:
    """Box (6,) of object ``number`` after the alignment: a quarter turn swaps the sides."""
    centre, size = np.array(LAYOUT[number][2]), np.array(LAYOUT[number][3])
    return np.concatenate([ALIGN[:3, :3] @ centre + ALIGN[:3, 3], size[[1, 0, 2]]])
