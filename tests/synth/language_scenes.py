"""Random rooms made of boxes alone, for testing the language without meshes or scans."""

from __future__ import annotations

import math

import numpy as np

from tsp3d.synth.types import COLORS, SceneDescription, SceneObject

# name: width, depth, height in metres.
FURNITURE = {
    "chair": (0.5, 0.5, 0.9), "office chair": (0.6, 0.6, 1.0), "armchair": (0.8, 0.8, 0.9), "stool": (0.4, 0.4, 0.6),
        "sofa": (2.0, 0.9, 0.8),
    "bed": (1.6, 2.0, 0.6), "table": (1.4, 0.8, 0.75), "coffee table": (1.0, 0.6, 0.45), "desk": (1.4, 0.7, 0.75),
        "nightstand": (0.45, 0.4, 0.5),
    "bookshelf": (0.9, 0.3, 1.9), "cabinet": (0.9, 0.45, 1.1), "wardrobe": (1.2, 0.6, 2.0), "dresser": (1.0, 0.5,
        0.9), "lamp": (0.35, 0.35, 1.6),
    "plant": (0.5, 0.5, 1.0), "trash can": (0.3, 0.3, 0.4), "box": (0.4, 0.4, 0.35), "refrigerator": (0.7, 0.7, 1.8),
        "bag": (0.35, 0.25, 0.4),
}  # fmt: skip
SMALL = {"lamp": (0.25, 0.25, 0.4), "laptop": (0.35, 0.25, 0.2), "books": (0.2, 0.25, 0.15), "vase": (0.15, 0.15,
    0.3), "monitor": (0.5, 0.2, 0.4),
         "bottle": (0.08, 0.08, 0.25), "plant": (0.2, 0.2, 0.3), "box": (0.25, 0.2, 0.15)}  # fmt: skip
HUNG = {"picture": (0.6, 0.05, 0.45, 1.6), "window": (1.2, 0.1, 1.2, 1.5), "clock": (0.3, 0.05, 0.3, 2.0),
    "mirror": (0.5, 0.05, 0.9, 1.4),
        "whiteboard": (1.5, 0.05, 1.0, 1.5), "tv": (1.1, 0.08, 0.65, 1.3)}  # fmt: skip
MATERIALS = ("wooden", "metal", "leather", "fabric", "plastic", None, None)


def box_object(
    i: int, name: str, x: float, y: float, z: float, dx: float, dy: float, dz: float, **more: object
) -> SceneObject:
    """An object from its centre and size."""
    return SceneObject(i, name, (x, y, z, dx, dy, dz), **more)  # type: ignore[arg-type]


def random_scene(seed: int, furniture: int = 12) -> SceneDescription:
    """A room with furniture on the floor, small things on it, and things on the walls."""
    rng = np.random.default_rng(seed)
    width, depth = rng.uniform(3.5, 7.0, 2)
    room = (0.0, 0.0, 1.3, float(width), float(depth), 2.6)
    objects: list[SceneObject] = []
    taken: list[tuple[float, float, float, float]] = []

    def attributes() -> dict:
        return {
            "color": None if rng.random() < 0.1 else COLORS[int(rng.integers(len(COLORS)))],
            "material": MATERIALS[int(rng.integers(len(MATERIALS)))],
        }

    names = [list(FURNITURE)[k] for k in rng.integers(len(FURNITURE), size=max(2, furniture // 3))]
    for _ in range(furniture):
        name = names[int(rng.integers(len(names)))]
        w, d, h = np.array(FURNITURE[name]) * rng.uniform(0.8, 1.25)
        quarter = int(rng.integers(4))
        dx, dy = (d, w) if quarter % 2 == 0 else (w, d)
        for _try in range(20):
            x, y = (
                rng.uniform(-width / 2 + dx / 2, width / 2 - dx / 2),
                rng.uniform(-depth / 2 + dy / 2, depth / 2 - dy / 2),
            )
            if all(abs(x - a) > (dx + p) / 2 + 0.05 or abs(y - b) > (dy + q) / 2 + 0.05 for a, b, p, q in taken):
                taken.append((x, y, dx, dy))
                objects.append(
                    box_object(len(objects), name, x, y, h / 2, dx, dy, h, front=quarter * math.pi / 2, **attributes())
                )
                break
    for base in [o for o in objects if o.name in ("table", "desk", "coffee table", "nightstand", "dresser", "cabinet")]:
        for _ in range(int(rng.integers(3))):
            name = list(SMALL)[int(rng.integers(len(SMALL)))]
            w, d, h = SMALL[name]
            x, y = (base.box[k] + rng.uniform(-0.4, 0.4) * (base.box[k + 3] - 0.2) for k in (0, 1))
            z = base.box[2] + base.box[5] / 2 + h / 2
            objects.append(
                box_object(len(objects), name, x, y, z, w, d, h, support="object", support_id=base.id, **attributes())
            )
    for _ in range(int(rng.integers(2, 6))):
        name = list(HUNG)[int(rng.integers(len(HUNG)))]
        w, d, h, z = HUNG[name]
        wall = int(rng.integers(4))
        along = float(rng.uniform(-0.4, 0.4)) * (depth if wall < 2 else width)
        sign = 1 if wall % 2 else -1
        x, y = (sign * (width - d) / 2, along) if wall < 2 else (along, sign * (depth - d) / 2)
        dx, dy = (d, w) if wall < 2 else (w, d)
        front = (math.pi if sign > 0 else 0.0) if wall < 2 else (-sign * math.pi / 2)
        objects.append(box_object(len(objects), name, x, y, z, dx, dy, h, front=front, support="wall", **attributes()))
    entrance = (float(-width / 2 + 0.1), float(rng.uniform(-0.3, 0.3) * depth), 0.0)
    objects.append(box_object(len(objects), "door", entrance[0] - 0.05, entrance[1], 1.0, 0.1, 0.9, 2.0, front=0.0))
    return SceneDescription(f"random{seed}", tuple(objects), room, entrance)
