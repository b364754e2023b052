"""A tiny prepared dataset of coloured boxes, written in milliseconds: for tests, and to try the training loop."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from tsp3d.files import save_tensors
from tsp3d.synth.types import CLASSES, SceneObject, Sentence

COLORS = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (40, 60, 200), "white": (230, 230, 230)}


def write_toy_dataset(
    folder: Path, train: int = 4, val: int = 2, objects: int = 5, points: int = 600, shard: int = 2, seed: int = 0
) -> Path:
    """Write scenes of boxes on a floor, in the layout of :mod:`tsp3d.data.scenes`.

    Args:
        train, val: number of scenes of each split. objects: boxes in each scene. points: points of each scene.
        shard: scenes in a shard.

    Returns:
        ``folder``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", train), ("val", val)):
        path = folder / split
        path.mkdir(exist_ok=True)
        tensors: dict[str, np.ndarray] = {}
        scenes, sentences = [], []
        for index in range(count):
            scene_id = f"{split}-{index:04d}"
            rng = np.random.default_rng([seed, split == "val", index])
            xyz, rgb, instance, records = _scene(rng, objects, points)
            name = f"scenes-{index // shard:05d}.safetensors"
            parts = {"xyz_mm": xyz, "rgb": rgb, "instance": instance}
            tensors |= {f"{scene_id}.{key}": value for key, value in parts.items()}
            scenes.append(
                {
                    "scene_id": scene_id,
                    "shard": name,
                    "num_points": len(xyz),
                    "room": [0, 0, 1.3, 6, 6, 2.6],
                    "entrance": None,
                    "objects": [asdict(item) for item in records],
                }
            )
            sentences += [{"scene_id": scene_id, **asdict(item)} for item in _sentences(records)]
            if (index + 1) % shard == 0 or index + 1 == count:
                save_tensors(path / name, tensors)
                tensors = {}
        (path / "scenes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scenes))
        (path / "sentences.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sentences))
    info = {
        "format": "tsp3d-scenes",
        "version": 1,
        "classes": list(CLASSES),
        "seed": seed,
        "generator": {"name": "toy"},
    }
    (folder / "dataset.json").write_text(json.dumps({**info, "splits": {"train": train, "val": val}}))
    return folder


def _scene(
    rng: np.random.Generator, objects: int, points: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[SceneObject]]:
    """Boxes in the cells of a grid, so that none overlap; instance ids 10, 11, …; half of the points are floor."""
    cells = rng.permutation(16)[:objects]
    each = points // (2 * max(objects, 1))
    floor = points - each * objects
    xyz = [np.concatenate([rng.uniform(-3000, 3000, (floor, 2)), np.zeros((floor, 1))], 1)]
    rgb, instance = [np.full((floor, 3), 120)], [np.full(floor, -1)]
    records = []
    for index, cell in enumerate(cells):
        size = rng.uniform(300, 1200, 3)
        centre = np.array([(cell % 4 - 1.5) * 1500, (cell // 4 - 1.5) * 1500, size[2] / 2])
        own = np.round(centre + (rng.random((each, 3)) - 0.5) * size)
        color = list(COLORS)[int(rng.integers(len(COLORS)))]
        xyz.append(own)
        rgb.append(np.tile(COLORS[color], (each, 1)))
        instance.append(np.full(each, 10 + index))
        lower, upper = own.min(0) / 1000, own.max(0) / 1000
        box = tuple(float(v) for v in (*((lower + upper) / 2), *(upper - lower)))
        name = CLASSES[int(rng.integers(4)) * 5]
        records.append(SceneObject(10 + index, name, box, color, model="toy/box"))  # type: ignore[arg-type]
    arrays = np.concatenate(xyz), np.concatenate(rgb), np.concatenate(instance)
    order = rng.permutation(len(arrays[0]))
    types = (np.int16, np.uint8, np.int16)
    points_mm, colors, owners = (np.ascontiguousarray(a[order].astype(t)) for a, t in zip(arrays, types, strict=True))
    return points_mm, colors, owners, records


def _sentences(records: list[SceneObject]) -> list[Sentence]:
    """Two sentences for each object: by its place in the row (view-dependent) and with the object farthest from it."""
    result = []
    for item in records:
        same = sum(other.name == item.name for other in records) - 1
        rank = sorted(records, key=lambda other: other.box[0]).index(item) + 1
        text = f"the {item.color} {item.name}, number {rank} from the left"
        result.append(Sentence(text, item.id, (), "ordinal", True, same == 0, same, 1))
        place = np.array([other.box[:3] for other in records])
        far = int(np.linalg.norm(place - np.array(item.box[:3]), axis=1).argmax())
        text = f"the {item.color} {item.name}, number {rank} from the left, far from the {records[far].name}"
        result.append(Sentence(text, item.id, (records[far].id,), "far", False, same == 0, same, 2))
    return result
