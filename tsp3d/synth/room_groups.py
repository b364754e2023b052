"""Groups of furniture that belong together: a desk with its chair, a bed with its nightstands, a table and chairs."""

from __future__ import annotations

import numpy as np

from tsp3d.synth.room_geometry import Wall
from tsp3d.synth.room_placement import Placer

_SURFACES = (
    "table",
    "desk",
    "coffee table",
    "cabinet",
    "dresser",
    "nightstand",
    "bookshelf",
    "kitchen cabinet",
    "fireplace",
    "piano",
)


def chance(p: Placer, probability: float) -> bool:
    """True with this probability."""
    return bool(p.rng.random() < probability)


def some(p: Placer, low: int, high: int) -> int:
    """A number from ``low`` to ``high``."""
    return int(p.rng.integers(low, high + 1))


def doors(p: Placer) -> int | None:
    """One door or two; returns the first one's index."""
    first: int | None = None
    for _ in range(1 if chance(p, 0.72) else 2):
        index = p.against_wall(p.asset("door"), 0.95, gap=0.002, support="wall")
        first = index if first is None else first
    return first


def windows(p: Placer, count: int, curtains: float = 0.6, radiators: float = 0.6) -> None:
    """Windows with their curtains and radiators."""
    design = p.library.design("window", p.rng)
    drape = p.library.design("curtain", p.rng)
    hot = p.library.design("radiator", p.rng)
    curtain_asset = p.asset("curtain", drape)
    window_asset = p.asset("window", design)
    for _ in range(count):
        sill = float(p.rng.uniform(0.82, 1.0))
        wall = p.outline.walls[int(p.rng.choice(len(p.outline.walls)))]
        index = p.on_wall(window_asset, sill, sill + 0.02, tries=6, wall=wall)
        if index is None:
            continue
        f = p.placed[index].footprint
        if chance(p, radiators):
            asset = p.asset("radiator", hot)
            if asset.mesh.size[2] < sill - 0.02:
                p.against_wall(asset, 0.0, wall=wall, along=place_along(wall, f.x, f.y), gap=0.03, tries=1)
        if chance(p, curtains):
            width = curtain_asset.mesh.size[0]
            for side in (-1, 1):
                asset = curtain_asset if chance(p, 0.9) else p.asset("curtain", drape)
                height = asset.mesh.size[2]
                z = min(max(0.02, p.outline.height - height - float(p.rng.uniform(0.1, 0.3))), 0.5)
                place = place_along(wall, f.x, f.y) + side * (f.half_x + width / 2 + 0.06)
                if width / 2 < place < wall.length - width / 2 and z + height < p.outline.height:
                    p.against_wall(asset, 0.0, z=z, wall=wall, along=place, gap=0.02, tries=1, support="wall")


def place_along(wall: Wall, x: float, y: float) -> float:
    """How far along the wall the point (x, y) is."""
    return (x - wall.start[0]) * wall.direction[0] + (y - wall.start[1]) * wall.direction[1]


def chairs_around(p: Placer, table: int, key: str = "chair", most: int = 6) -> None:
    """Chairs at the sides of a table: of one design, mostly of one colour."""
    f = p.placed[table].footprint
    design = p.library.design(key, p.rng)
    first = p.asset(key, design)
    mixed = chance(p, 0.35)
    wide = first.mesh.size[0] + 0.12
    seats: list[tuple[float, float]] = []
    for side, half in ((-np.pi / 2, f.half_x), (np.pi / 2, f.half_x), (0.0, f.half_y), (np.pi, f.half_y)):
        count = min(3, int(2 * half / wide))
        spread = 2 * half / max(count, 1)
        seats += [(side, (k + 0.5) * spread - half) for k in range(count)]
    p.rng.shuffle(seats)
    for side, along in seats[:most]:
        asset = p.asset(key, design, avoid=first.color) if mixed and chance(p, 0.5) else first
        p.at_front(asset, table, along + float(p.rng.normal(0, 0.03)), side, float(p.rng.uniform(-0.1, 0.28)))


def desk_set(p: Placer) -> None:
    """A desk with its chair, computer and what lies around it."""
    desk = p.against_wall(p.asset("desk"), 0.75, reserve=False)
    if desk is None:
        return
    computer = p.rng.random()
    if computer < 0.65:
        design = p.library.design("monitor", p.rng)
        for _ in range(1 if chance(p, 0.65) else 2):
            p.on_top(p.asset("monitor", design), desk, "back", yaw=float(p.rng.normal(0, 0.08)))
        p.on_top(p.asset("keyboard"), desk, "front", yaw=float(p.rng.normal(0, 0.08)))
    if computer > 0.6:
        p.on_top(p.asset("laptop"), desk, "any", yaw=float(p.rng.normal(0, 0.25)))
    for key, probability in (
        ("lamp", 0.5),
        ("books", 0.45),
        ("box:small", 0.25),
        ("bottle", 0.2),
        ("plant:small", 0.2),
        ("clutter", 0.5),
    ):
        if chance(p, probability):
            on_surface(p, key, desk, "back" if key == "lamp" else "any")
    key = "office chair" if chance(p, 0.7) else "chair"
    p.at_front(p.asset(key), desk, float(p.rng.normal(0, 0.12)), gap=float(p.rng.uniform(-0.08, 0.3)), turn=0.4)
    if chance(p, 0.45):
        p.near_wall(p.asset("trash can"))


def on_surface(p: Placer, key: str, piece: int, at: str = "any") -> int | None:
    """A small thing on a piece, where the library has one."""
    if key not in p.library.keys:
        return None
    asset = p.asset(key)
    turn = float(p.rng.normal(0, 0.3)) if asset.has_front else float(p.rng.uniform(-np.pi, np.pi))
    if max(asset.mesh.size[:2]) > 0.3:
        turn = float(p.rng.normal(0, 0.1))
    return p.on_top(asset, piece, at, yaw=turn, labelled=key != "clutter")


def bed_set(p: Placer) -> None:
    """A bed with pillows and nightstands."""
    bed_asset = p.asset("bed")
    bed = p.against_wall(bed_asset, 0.45, corner=bed_asset.mesh.size[0] < 1.2 and chance(p, 0.6))
    if bed is None:
        return
    pillows(p, bed, some(p, 1, 4))
    design = p.library.design("nightstand", p.rng)
    first = p.asset("nightstand", design)
    lamp = p.library.design("lamp", p.rng)
    shade = p.asset("lamp", lamp)
    for side in (-1, 1):
        if not chance(p, 0.85):
            continue
        asset = first if chance(p, 0.75) else p.asset("nightstand", design)
        stand = p.beside(asset, bed, side, float(p.rng.uniform(0.03, 0.12)))
        if stand is not None:
            if chance(p, 0.7):
                p.on_top(shade if chance(p, 0.75) else p.asset("lamp", lamp), stand, "back")
            if chance(p, 0.35):
                on_surface(p, "books", stand)
    if chance(p, 0.25):
        p.at_front(p.asset("bench"), bed, 0.0, gap=0.08, turn=0.02, tuck=False)


def pillows(p: Placer, piece: int, count: int) -> None:
    """Pillows on a bed (at its head) or a sofa (at its back)."""
    design = p.library.design("pillow", p.rng)
    first = p.asset("pillow", design)
    for _ in range(count):
        draw = p.rng.random()
        asset = first if draw < 0.45 else p.asset("pillow", design, first.color) if draw < 0.8 else p.asset("pillow")
        p.on_top(asset, piece, "back", yaw=float(p.rng.normal(0, 0.12)))


def lounge(p: Placer) -> None:
    """Sofas, armchairs and a coffee table on a rug, perhaps before a television."""
    sofa = p.against_wall(p.asset("sofa"), 1.0, reserve=False)
    if sofa is None:
        return
    f = p.placed[sofa].footprint
    pillows(p, sofa, some(p, 0, 4))
    if chance(p, 0.8):
        asset = p.asset("coffee table")
        table = p.at_front(
            asset, sofa, float(p.rng.normal(0, 0.15)), gap=float(p.rng.uniform(0.3, 0.5)), turn=0.03, tuck=False
        )
        if table is not None:
            t = p.placed[table].footprint
            if chance(p, 0.6):
                p.lay_rug(p.asset("rug"), t.x, t.y, f.yaw)
            for key in ("books", "vase", "plant:small", "bottle", "clutter"):
                if chance(p, 0.35):
                    on_surface(p, key, table)
            design = p.library.design("armchair", p.rng)
            for side in (0.0, np.pi, -np.pi / 2):
                if chance(p, 0.45):
                    p.at_front(
                        p.asset("armchair", design), table, 0.0, side, float(p.rng.uniform(0.3, 0.6)), tuck=False
                    )
    if chance(p, 0.7):
        television(p)


def television(p: Placer) -> None:
    """A television on a cabinet or on the wall."""
    if chance(p, 0.3):
        p.on_wall(p.asset("tv:wall"), 0.9, 1.2)
        return
    tv = p.asset("tv")
    for _ in range(6):
        cabinet = p.asset("cabinet")
        if any(shelf.x1 - shelf.x0 > tv.mesh.size[0] and shelf.z < 1.1 for shelf in cabinet.shelves):
            index = p.against_wall(cabinet, 0.5)
            if index is not None:
                p.on_top(tv, index, "center", yaw=0.0, tries=12)
                return
    p.on_wall(p.asset("tv:wall"), 0.9, 1.2)


def dining(p: Placer) -> None:
    """A table with chairs around it and things on it."""
    table_asset = p.asset("table")
    table = None
    for _ in range(30):
        half_x, half_y = (side / 2 + 0.55 for side in table_asset.mesh.size[:2])
        yaw = float(p.rng.integers(4)) * np.pi / 2 + float(p.rng.normal(0, 0.04))
        x = float(p.rng.uniform(-0.4, 0.4)) * p.outline.width
        y = float(p.rng.uniform(-0.4, 0.4)) * p.outline.depth
        wide = p.footprint(table_asset, x, y, 0.0, yaw)
        grown = type(wide)(x, y, half_x, half_y, yaw, 0.0, wide.z1)
        if p.free(grown):
            table = p.put(table_asset, x, y, 0.0, yaw)
            break
    if table is None:
        table = p.against_wall(table_asset, 0.6, reserve=False)
    if table is None:
        return
    f = p.placed[table].footprint
    if chance(p, 0.35):
        p.lay_rug(p.asset("rug"), f.x, f.y, f.yaw)
    chairs_around(p, table, "chair" if chance(p, 0.9) else "stool", some(p, 2, 6))
    if chance(p, 0.45):
        p.hang(p.asset("lamp:ceiling"), f.x, f.y)
    for key in ("vase", "bottle", "bottle", "books", "plant:small", "laptop", "clutter", "clutter"):
        if chance(p, 0.3):
            on_surface(p, key, table, "center" if key == "vase" else "any")


def along_walls(p: Placer, weights: dict[str, float], count: int) -> None:
    """Cases and shelves at the walls; a class that comes twice often comes as the same model."""
    names = list(weights)
    shares = np.array([weights[name] for name in names])
    previous: dict[str, object] = {}
    for _ in range(count):
        key = names[int(p.rng.choice(len(names), p=shares / shares.sum()))]
        known = previous.get(key)
        if known is not None and chance(p, 0.55):
            design, color = known  # type: ignore[misc]
            asset = p.asset(key, design, avoid=color if chance(p, 0.5) else None)
        else:
            design = p.library.design(key, p.rng)
            asset = p.asset(key, design)
            previous[key] = (design, asset.color)
        p.against_wall(asset, 0.45)


def decorate(p: Placer, pictures: int, surfaces: int, floor: int) -> None:
    """Pictures, clocks and mirrors on walls, small things on furniture, boxes, bags and plants on the floor."""
    frame = p.library.design("picture", p.rng)
    for _ in range(pictures):
        draw = p.rng.random()
        key = "picture" if draw < 0.75 else "clock" if draw < 0.87 else "mirror"
        asset = p.asset(key, frame if key == "picture" and chance(p, 0.4) else None)
        p.on_wall(asset, *((1.7, 1.9) if key == "clock" else (1.0, 1.6)))
    hosts = p.of(*_SURFACES)
    keys = ("books", "vase", "lamp", "box:small", "plant:small", "books", "bottle", "clock", "clutter", "clutter")
    for _ in range(surfaces):
        if hosts:
            key = keys[int(p.rng.integers(len(keys)))]
            if key == "clock":
                continue
            on_surface(p, key, hosts[int(p.rng.integers(len(hosts)))])
    card = p.library.design("box", p.rng)
    for _ in range(floor):
        draw = p.rng.random()
        if draw < 0.42:
            p.near_wall(p.asset("box", card if chance(p, 0.6) else None))
        elif draw < 0.6:
            p.near_wall(p.asset("bag"))
        elif draw < 0.75:
            p.near_wall(p.asset("plant"))
        elif draw < 0.88:
            p.near_wall(p.asset("trash can"))
        elif draw < 0.94:
            p.near_wall(p.asset("lamp:floor"))
        elif "clutter" in p.library.keys:
            p.standing(p.asset("clutter"), square=False)
