"""Parametric tables, desks, cabinets and shelves. Models face -y; see :mod:`tsp3d.synth.parametric`."""

from __future__ import annotations

import numpy as np

from tsp3d.synth.mesh import MeshBuilder, Surface
from tsp3d.synth.palette import Rgb, sample_shade
from tsp3d.synth.parametric import Params, Shelf, parametric

_TABLE = {"legs": ("square", "round", "slab", "post"), "top": ("rectangle", "oval")}


def _table(b: MeshBuilder, p: Params, width: float, depth: float, height: float, thick: float = 0.04) -> list[Shelf]:
    color, surface = p.paint.rgb, p.paint.surface
    frame = color if p.rng.random() < 0.6 else p.metal
    if p.style["legs"] == "slab":
        for side in (-1, 1):
            b.box(
                (side * (width / 2 - 0.1), 0, (height - thick) / 2),
                (0.05, depth * 0.86, height - thick),
                frame,
                surface,
            )
    elif p.style["legs"] == "post":
        radius = min(width, depth) * 0.3
        b.cylinder((0, 0, 0), radius, 0.04, frame, surface, sides=18)
        b.cylinder((0, 0, 0.04), 0.05, height - thick - 0.04, frame, surface)
        if width > 1.3:
            b.box((0, 0, height - thick - 0.03), (width * 0.7, 0.08, 0.05), frame, surface)
    else:
        legs = p.uniform(0.05, 0.09)
        b.legs(width - 0.04, depth - 0.04, height - thick, legs, frame, surface, p.style["legs"] == "round")
    if p.style["top"] == "oval":
        profile = [(width / 2, 0.0), (width / 2, thick)]
        b.lathe((0, 0, height - thick), profile, color, surface, sides=28, squash=depth / width)
        x, y = width * 0.34, depth * 0.34
        return [Shelf(-x, x, -y, y, height)]
    b.box((0, 0, height - thick / 2), (width, depth, thick), color, surface)
    return [Shelf(-width / 2 + 0.02, width / 2 - 0.02, -depth / 2 + 0.02, depth / 2 - 0.02, height)]


@parametric("table", {"wood": 0.75, "painted": 0.25}, _TABLE)
def table(b: MeshBuilder, p: Params) -> list[Shelf]:
    """A dining table."""
    depth = p.uniform(0.7, 1.0)
    width = depth * p.uniform(1.0, 1.2) if p.rng.random() < 0.35 else p.uniform(1.2, 2.0)
    return _table(b, p, width, depth, p.uniform(0.7, 0.78))


@parametric("coffee table", {"wood": 0.7, "painted": 0.3}, _TABLE)
def coffee_table(b: MeshBuilder, p: Params) -> list[Shelf]:
    """A low table."""
    depth = p.uniform(0.45, 0.7)
    return _table(b, p, p.uniform(0.75, 1.25), depth, p.uniform(0.34, 0.48))


@parametric(
    "desk", {"wood": 0.65, "painted": 0.35}, {"left": ("legs", "slab", "drawers"), "right": ("legs", "slab", "drawers")}
)
def desk(b: MeshBuilder, p: Params) -> list[Shelf]:
    """A writing desk; someone sits at its front (-y)."""
    width, depth, height = p.uniform(1.05, 1.75), p.uniform(0.55, 0.82), p.uniform(0.7, 0.77)
    color, surface = p.paint.rgb, p.paint.surface
    for side, kind in ((-1, p.style["left"]), (1, p.style["right"])):
        if kind == "drawers":
            block = p.uniform(0.38, 0.46)
            _fronts(b, p, side * (width / 2 - block / 2), block, depth * 0.96, 0.0, height - 0.04, rows=3, columns=1)
        elif kind == "slab":
            b.box(
                (side * (width / 2 - 0.03), 0, height / 2 - 0.02), (0.04, depth * 0.95, height - 0.04), color, surface
            )
        else:
            for y in (-depth / 2 + 0.05, depth / 2 - 0.05):
                b.box(
                    (side * (width / 2 - 0.05), y, height / 2 - 0.02),
                    (0.05, 0.05, height - 0.04),
                    p.metal,
                    Surface.METAL,
                )
    b.box((0, 0, height - 0.02), (width, depth, 0.04), color, surface)
    if p.rng.random() < 0.5:
        b.box((0, depth / 2 - 0.03, height - 0.2), (width * 0.9, 0.02, 0.35), color, surface)
    return [Shelf(-width / 2 + 0.03, width / 2 - 0.03, -depth / 2 + 0.03, depth / 2 - 0.03, height)]


def _fronts(
    b: MeshBuilder, p: Params, x: float, width: float, depth: float, low: float, high: float, rows: int, columns: int,
    knobs: bool = True,
) -> None:  # fmt: skip
    """A carcass with rows x columns of doors or drawers on its front."""
    color, surface = p.paint.rgb, p.paint.surface
    b.box((x, 0.01, (low + high) / 2), (width, depth - 0.02, high - low), p.shade(0.86), surface)
    cell_x, cell_z = width / columns, (high - low) / rows
    handle: Rgb = p.metal
    style = int(p.rng.integers(3))
    for row in range(rows):
        for column in range(columns):
            cx = x - width / 2 + cell_x * (column + 0.5)
            cz = low + cell_z * (row + 0.5)
            b.box((cx, -depth / 2 + 0.01, cz), (cell_x - 0.012, 0.022, cell_z - 0.012), color, surface)
            if not knobs or style == 2:
                continue
            tall = cell_z > cell_x * 1.2
            hx = cx + (cell_x * 0.38 * (1 if column % 2 == 0 else -1) if tall else 0)
            size = (0.02, 0.02, 0.14) if tall else (0.14, 0.02, 0.02)
            b.box((hx, -depth / 2 - 0.012, cz), size if style else (0.03, 0.03, 0.03), handle, Surface.METAL)


def _closed(b: MeshBuilder, p: Params, size: tuple[float, float, float], rows: int, columns: int) -> list[Shelf]:
    width, depth, height = size
    base = 0.0
    if p.style.get("base") == "legs":
        base = p.uniform(0.1, 0.18)
        b.legs(width - 0.04, depth - 0.04, base, 0.05, p.wood, Surface.WOOD, round_=True)
    elif p.style.get("base") == "plinth":
        base = 0.07
        b.box((0, 0.02, base / 2), (width * 0.96, depth * 0.9, base), (50, 48, 46))
    _fronts(b, p, 0.0, width, depth, base, height - 0.025, rows, columns)
    b.box((0, 0, height - 0.0125), (width + 0.02, depth + 0.01, 0.025), p.shade(0.95), p.paint.surface)
    return [Shelf(-width / 2 + 0.02, width / 2 - 0.02, -depth / 2 + 0.03, depth / 2 - 0.02, height)]


_CASE = {"base": ("plinth", "legs", "flat"), "grid": ("even", "tall")}


@parametric("nightstand", {"wood": 0.7, "painted": 0.3}, {**_CASE, "front": ("drawers", "open")})
def nightstand(b: MeshBuilder, p: Params) -> list[Shelf]:
    """A bedside table."""
    width, depth, height = p.uniform(0.36, 0.52), p.uniform(0.32, 0.44), p.uniform(0.42, 0.62)
    if p.style["front"] == "open":
        color, surface = p.paint.rgb, p.paint.surface
        for side in (-1, 1):
            b.box((side * (width / 2 - 0.01), 0, height / 2), (0.02, depth, height), color, surface)
        b.box((0, depth / 2 - 0.01, height / 2), (width, 0.02, height), color, surface)
        for z in (0.06, height * 0.55, height - 0.012):
            b.box((0, 0, z), (width, depth, 0.024), color, surface)
        return [Shelf(-width / 2 + 0.02, width / 2 - 0.02, -depth / 2 + 0.02, depth / 2 - 0.02, height)]
    return _closed(b, p, (width, depth, height), 2 if p.style["grid"] == "even" else 3, 1)


@parametric("cabinet", {"wood": 0.55, "painted": 0.3, "metal": 0.15}, _CASE)
def cabinet(b: MeshBuilder, p: Params) -> list[Shelf]:
    """A sideboard or a cupboard of middle height."""
    if p.style["grid"] == "even":
        size = (p.uniform(0.8, 1.7), p.uniform(0.36, 0.5), p.uniform(0.65, 0.95))
        return _closed(b, p, size, 1, 2 if size[0] < 1.2 else 3)
    size = (p.uniform(0.45, 0.9), p.uniform(0.36, 0.5), p.uniform(1.05, 1.5))
    return _closed(b, p, size, 2, 1 if size[0] < 0.6 else 2)


@parametric("dresser", {"wood": 0.65, "painted": 0.35}, _CASE)
def dresser(b: MeshBuilder, p: Params) -> list[Shelf]:
    """A chest of drawers."""
    width = p.uniform(0.75, 1.4)
    rows = 3 if p.style["grid"] == "even" else 4
    return _closed(b, p, (width, p.uniform(0.4, 0.52), p.uniform(0.76, 1.1)), rows, 1 if width < 1.0 else 2)


@parametric(
    "wardrobe", {"wood": 0.6, "painted": 0.4}, {"base": ("plinth", "legs", "flat"), "doors": ("two", "three", "split")}
)
def wardrobe(b: MeshBuilder, p: Params) -> list[Shelf]:
    """A tall wardrobe."""
    columns = 3 if p.style["doors"] == "three" else 2
    width, depth, height = p.uniform(0.45, 0.6) * columns, p.uniform(0.52, 0.64), p.uniform(1.85, 2.2)
    if p.style["doors"] == "split":
        b.box((0, 0, 0.02), (width, depth, 0.04), p.shade(0.7), p.paint.surface)
        _fronts(b, p, 0, width, depth, 0.04, 0.55, 2, 1)
        _fronts(b, p, 0, width, depth, 0.57, height, 1, 2)
        return [Shelf(-width / 2 + 0.05, width / 2 - 0.05, -depth / 2 + 0.05, depth / 2 - 0.05, height)]
    return _closed(b, p, (width, depth, height), 1, columns)


@parametric(
    "kitchen cabinet",
    {"painted": 0.6, "wood": 0.4},
    {"doors": ("one", "two", "drawers"), "top": ("stone", "wood", "dark")},
)
def kitchen_cabinet(b: MeshBuilder, p: Params) -> list[Shelf]:
    """A kitchen base unit with a worktop."""
    width, depth, height = p.uniform(0.5, 0.95), p.uniform(0.58, 0.64), p.uniform(0.86, 0.93)
    b.box((0, 0.03, 0.05), (width, depth - 0.06, 0.1), (60, 58, 56))
    rows = 3 if p.style["doors"] == "drawers" else 1
    _fronts(b, p, 0, width, depth, 0.1, height - 0.04, rows, 2 if p.style["doors"] == "two" else 1)
    top = {"stone": (176, 174, 170), "wood": sample_shade("beige", p.rng, True), "dark": (58, 56, 58)}[p.style["top"]]
    b.box(
        (0, -0.01, height - 0.02),
        (width, depth + 0.02, 0.04),
        top,
        Surface.WOOD if p.style["top"] == "wood" else Surface.PLAIN,
    )
    return [Shelf(-width / 2 + 0.03, width / 2 - 0.03, -depth / 2 + 0.05, depth / 2 - 0.02, height)]


@parametric(
    "bookshelf",
    {"wood": 0.7, "painted": 0.3},
    {"back": ("open", "closed"), "form": ("tall", "low", "cube"), "fill": ("full", "sparse")},
)
def bookshelf(b: MeshBuilder, p: Params) -> list[Shelf]:
    """An open shelf, partly filled with book spines that belong to it."""
    form = p.style["form"]
    width = p.uniform(0.6, 1.1) if form == "tall" else p.uniform(0.8, 1.5)
    height = {"tall": p.uniform(1.6, 2.1), "low": p.uniform(0.75, 1.1), "cube": p.uniform(1.1, 1.5)}[form]
    depth = p.uniform(0.26, 0.38)
    color, surface = p.paint.rgb, p.paint.surface
    columns = max(2, round(width / 0.4)) if form == "cube" else 1
    rows = max(2, round(height / 0.36))
    for x in np.linspace(-width / 2 + 0.0125, width / 2 - 0.0125, columns + 1):
        b.box((float(x), 0, height / 2), (0.025, depth, height), color, surface)
    levels = np.linspace(0.05, height - 0.0125, rows + 1)
    for z in levels:
        b.box((0, 0, float(z)), (width, depth, 0.025), color, surface)
    if p.style["back"] == "closed":
        b.box((0, depth / 2 - 0.008, height / 2), (width, 0.016, height), p.shade(0.9), surface)
    gap = float(levels[1] - levels[0])
    empty = 0.25 if p.style["fill"] == "full" else 0.7
    shelves = [Shelf(-width / 2 + 0.04, width / 2 - 0.04, -depth / 2 + 0.02, depth / 2 - 0.02, height)]
    for row in range(rows):
        z = float(levels[row]) + 0.0125
        for column in range(columns):
            x0 = -width / 2 + width / columns * column + 0.02
            x1 = x0 + width / columns - 0.04
            if p.rng.random() < empty:
                shelves.append(Shelf(x0, x1, -depth / 2 + 0.02, depth / 2 - 0.03, z, gap - 0.03))
                continue
            stop = x0 + (x1 - x0) * float(p.rng.uniform(0.35, 1.0))
            spines(b, p.rng, (x0, stop), depth, z, gap - 0.03)
    return shelves


def spines(
    b: MeshBuilder, rng: np.random.Generator, span: tuple[float, float], depth: float, z: float, gap: float
) -> None:  # fmt: skip
    """A row of upright books between two x positions, standing at height ``z``."""
    x = span[0]
    names = ("blue", "red", "green", "brown", "white", "black", "beige", "gray", "orange", "yellow")
    while x < span[1] - 0.02:
        thick = float(rng.uniform(0.018, 0.05))
        tall = gap * float(rng.uniform(0.6, 0.95))
        deep = depth * float(rng.uniform(0.6, 0.8))
        color = sample_shade(names[int(rng.integers(len(names)))], rng)
        b.box((x + thick / 2, depth / 2 - 0.03 - deep / 2, z + tall / 2), (thick * 0.95, deep, tall), color)
        x += thick


@parametric(
    "piano",
    {"wood": 0.5, "dark": 0.5},
    {"form": ("upright", "console"), "front": ("plain", "panels"), "legs": ("yes", "no")},
)
def piano(b: MeshBuilder, p: Params) -> list[Shelf]:
    """An upright piano."""
    width, depth = p.uniform(1.35, 1.55), p.uniform(0.5, 0.62)
    height = p.uniform(1.12, 1.3) if p.style["form"] == "upright" else p.uniform(0.95, 1.08)
    color, surface = p.paint.rgb, p.paint.surface
    b.box((0, depth * 0.25, height / 2), (width, depth * 0.5, height), color, surface)
    b.box((0, -depth * 0.2, 0.66), (width, depth * 0.6, 0.1), color, surface)
    b.box((0, -depth * 0.3, 0.72), (width * 0.9, depth * 0.3, 0.02), (240, 238, 230))
    for x in np.linspace(-width * 0.43, width * 0.43, 30):
        b.box((float(x), -depth * 0.22, 0.735), (width * 0.013, depth * 0.16, 0.015), (20, 20, 20))
    for side in (-1, 1):
        b.box((side * (width / 2 - 0.03), -depth * 0.2, 0.72), (0.06, depth * 0.6, 0.14), color, surface)
        if p.style["legs"] == "yes":
            b.box((side * (width / 2 - 0.06), -depth * 0.42, 0.31), (0.08, 0.08, 0.62), color, surface)
    if p.style["front"] == "panels":
        b.box((0, -0.01, height - 0.2), (width * 0.8, 0.02, 0.25), p.shade(1.2), surface)
    return [Shelf(-width / 2 + 0.05, width / 2 - 0.05, 0.02, depth / 2 - 0.02, height)]
