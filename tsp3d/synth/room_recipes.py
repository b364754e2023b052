"""What stands in which kind of room. Each recipe furnishes a :class:`~tsp3d.synth.room_placement.Placer`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tsp3d.synth.room_groups import (
    along_walls,
    bed_set,
    chance,
    desk_set,
    dining,
    lounge,
    on_surface,
    place_along,
    some,
    television,
)
from tsp3d.synth.room_placement import Placer


def bedroom(p: Placer) -> None:
    """A bedroom."""
    bed_set(p)
    if chance(p, 0.25):
        bed_set(p)
    along_walls(
        p, {"wardrobe": 3, "dresser": 2, "bookshelf": 1, "cabinet": 1, "armchair": 0.7, "chair": 0.6}, some(p, 2, 4)
    )
    if chance(p, 0.5):
        desk_set(p)
    if chance(p, 0.35):
        beds = p.of("bed")
        if beds:
            f = p.placed[beds[0]].footprint
            out = f.half_y * 0.6
            p.lay_rug(p.asset("rug"), f.x + float(np.sin(f.yaw)) * out, f.y - float(np.cos(f.yaw)) * out, f.yaw)
    if chance(p, 0.3):
        television(p)


def living_room(p: Placer) -> None:
    """A living room."""
    if chance(p, 0.3):
        p.against_wall(p.asset("fireplace"), 0.7)
    lounge(p)
    if chance(p, 0.3):
        piano = p.against_wall(p.asset("piano"), 0.7, reserve=False)
        if piano is not None:
            p.at_front(p.asset("stool"), piano, 0.0, gap=0.05)
    if chance(p, 0.55):
        dining(p)
    along_walls(
        p,
        {"bookshelf": 3, "cabinet": 2.5, "armchair": 1, "dresser": 0.6, "lamp:floor": 1.2, "plant": 1},
        some(p, 2, 5),
    )


def office(p: Placer) -> None:
    """An office."""
    for _ in range(some(p, 1, 3)):
        desk_set(p)
    if chance(p, 0.4):
        dining(p)
    if chance(p, 0.75):
        p.on_wall(p.asset("whiteboard"), 0.8, 1.05, tries=25)
    along_walls(p, {"bookshelf": 3, "cabinet": 3, "chair": 1, "plant": 0.8, "office chair": 0.6}, some(p, 2, 5))


def kitchen(p: Placer) -> None:
    """A kitchen: units in a row along one wall or two, a table with chairs."""
    walls = sorted(p.outline.walls, key=lambda wall: -wall.length * float(p.rng.uniform(0.6, 1.0)))
    design = p.library.design("kitchen cabinet", p.rng)
    unit = p.asset("kitchen cabinet", design)
    row = ["kitchen cabinet"] * some(p, 2, 5) + ["sink:kitchen", "oven"]
    p.rng.shuffle(row)
    row = (["refrigerator"] if chance(p, 0.85) else []) + row + (["washing machine"] if chance(p, 0.5) else [])
    for wall in walls[: 1 + int(chance(p, 0.5))]:
        place = float(p.rng.uniform(0.02, 0.3)) if wall is walls[0] else 0.7
        while row:
            asset = unit if row[0] == "kitchen cabinet" else p.asset(row[0])
            wide = asset.mesh.size[0]
            if place + wide > wall.length:
                break
            index = p.against_wall(asset, 0.5, wall=wall, along=place + wide / 2, gap=0.015, tries=1)
            if index is not None or place + wide + 0.3 > wall.length:
                row.pop(0)
                place += wide + 0.015
            else:
                place += 0.15
    units = p.of("kitchen cabinet")
    for key, probability in (
        ("microwave", 0.8),
        ("bottle", 0.6),
        ("bottle", 0.4),
        ("clutter", 0.6),
        ("clutter", 0.5),
        ("box:small", 0.25),
        ("plant:small", 0.2),
    ):
        if units and chance(p, probability):
            host = units[int(p.rng.integers(len(units)))]
            if key == "microwave":
                p.on_top(p.asset(key), host, "back", yaw=0.0)
            else:
                on_surface(p, key, host)
    if chance(p, 0.8):
        dining(p)
    if chance(p, 0.5):
        stool = p.library.design("stool", p.rng)
        for _ in range(some(p, 1, 3)):
            p.standing(p.asset("stool", stool))
    if chance(p, 0.6):
        p.near_wall(p.asset("trash can"))
    along_walls(p, {"cabinet": 2, "bookshelf": 1, "plant": 0.7, "chair": 0.7}, some(p, 0, 2))


def bathroom(p: Placer) -> None:
    """A bathroom."""
    sink = p.library.design("sink", p.rng)
    for key, probability in (("bathtub", 0.6), ("shower", 0.6), ("toilet", 0.95), ("washing machine", 0.7)):
        if chance(p, probability):
            p.against_wall(p.asset(key), 0.45, corner=key in ("bathtub", "shower"))
    for _ in range(some(p, 1, 2)):
        index = p.against_wall(p.asset("sink", sink), 0.5)
        if index is not None and chance(p, 0.75):
            f = p.placed[index].footprint
            wall = min(
                p.outline.walls, key=lambda w: abs((f.x - w.start[0]) * w.normal[0] + (f.y - w.start[1]) * w.normal[1])
            )
            height, place = float(p.rng.uniform(1.05, 1.2)), place_along(wall, f.x, f.y)
            mirror = p.asset("mirror")
            p.against_wall(mirror, 0.0, z=height, wall=wall, along=place, gap=0.004, tries=1, support="wall")
    along_walls(
        p, {"cabinet": 2, "stool": 1.5, "radiator": 1, "plant": 0.6, "trash can": 1.5, "box": 0.7}, some(p, 2, 4)
    )
    if chance(p, 0.6):
        w, d = p.outline.width, p.outline.depth
        p.lay_rug(p.asset("rug"), float(p.rng.uniform(-0.2, 0.2)) * w, float(p.rng.uniform(-0.2, 0.2)) * d, 0.0)


def mixed(p: Placer) -> None:
    """A studio: some of everything."""
    parts: list[Callable[[Placer], None]] = [lounge, dining, desk_set, bed_set]
    p.rng.shuffle(parts)  # type: ignore[arg-type]
    for part in parts[: some(p, 2, 3)]:
        part(p)
    weights = {
        "bookshelf": 2, "cabinet": 2, "dresser": 1, "wardrobe": 1, "refrigerator": 0.6, "sink": 0.5, "armchair": 1,
        "chair": 1, "stool": 0.7, "washing machine": 0.4, "piano": 0.5, "bench": 0.8, "fireplace": 0.4, "lamp:floor": 1,
    }  # fmt: skip
    along_walls(p, weights, some(p, 3, 6))


RECIPES: dict[str, tuple[Callable[[Placer], None], float]] = {
    "bedroom": (bedroom, 0.22),
    "living room": (living_room, 0.22),
    "office": (office, 0.18),
    "kitchen": (kitchen, 0.15),
    "bathroom": (bathroom, 0.10),
    "mixed": (mixed, 0.14),
}
"""Kinds of rooms: their recipe and share."""
