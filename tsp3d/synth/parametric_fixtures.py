"""Parametric doors, windows, bathroom fixtures and wall objects. Models face -y; their back (+y) is at the wall."""

from __future__ import annotations

import numpy as np

from tsp3d.synth.mesh import MeshBuilder, Surface
from tsp3d.synth.palette import Rgb, sample_shade
from tsp3d.synth.parametric import Params, Shelf, parametric

_CHROME: Rgb = (178, 182, 186)
_GLASS: Rgb = (150, 172, 184)
_DARK: Rgb = (30, 30, 32)


@parametric(
    "door", {"wood": 0.6, "painted": 0.4}, {"panels": ("plain", "two", "four", "glass"), "handle": ("lever", "knob")}
)
def door(b: MeshBuilder, p: Params) -> None:
    """A closed door with its frame."""
    width, height = p.uniform(0.78, 0.98), p.uniform(1.98, 2.12)
    color, surface = p.paint.rgb, p.paint.surface
    b.box((0, 0, height / 2), (width, 0.04, height), color, surface)
    frame = p.shade(0.8) if p.rng.random() < 0.5 else (232, 230, 226)
    for side in (-1, 1):
        b.box((side * (width / 2 + 0.035), 0, height / 2), (0.07, 0.07, height), frame, surface)
    b.box((0, 0, height + 0.035), (width + 0.14, 0.07, 0.07), frame, surface)
    kind = p.style["panels"]
    if kind == "two":
        for z, tall in ((height * 0.27, height * 0.36), (height * 0.72, height * 0.38)):
            b.box((0, -0.024, z), (width * 0.66, 0.012, tall), p.shade(0.9), surface)
    elif kind == "four":
        for x in (-0.23, 0.23):
            for z, tall in ((height * 0.27, height * 0.36), (height * 0.72, height * 0.38)):
                b.box((x * width, -0.024, z), (width * 0.34, 0.012, tall), p.shade(0.88), surface)
    elif kind == "glass":
        b.box((0, -0.022, height * 0.66), (width * 0.55, 0.01, height * 0.5), _GLASS, Surface.GLASS)
    x = width / 2 - 0.08
    b.cylinder((x, -0.06, 1.0), 0.025, 0.03, _CHROME, Surface.METAL, sides=8)
    if p.style["handle"] == "lever":
        b.box((x - 0.05, -0.065, 1.02), (0.13, 0.02, 0.025), _CHROME, Surface.METAL)


@parametric(
    "window", {"painted": 0.65, "wood": 0.35}, {"panes": ("one", "two", "four", "three"), "sill": ("sill", "none")}
)
def window(b: MeshBuilder, p: Params) -> None:
    """A window with its frame; the panes return little depth."""
    width, height = p.uniform(0.8, 1.7), p.uniform(1.0, 1.45)
    color, surface = p.paint.rgb, p.paint.surface
    b.box((0, 0.015, height / 2), (width - 0.05, 0.01, height - 0.05), (196, 214, 228), Surface.GLASS)
    bar = p.uniform(0.05, 0.08)
    for side in (-1, 1):
        b.box((side * (width / 2 - bar / 2), 0, height / 2), (bar, 0.06, height), color, surface)
        b.box((0, 0, height / 2 + side * (height / 2 - bar / 2)), (width, 0.06, bar), color, surface)
    columns = {"one": 1, "two": 2, "four": 2, "three": 3}[p.style["panes"]]
    for k in range(1, columns):
        b.box((-width / 2 + width * k / columns, 0, height / 2), (bar, 0.05, height), color, surface)
    if p.style["panes"] == "four":
        b.box((0, 0, height / 2), (width, 0.04, 0.035), color, surface)
    if p.style["sill"] == "sill":
        b.box((0, -0.06, -0.015), (width + 0.1, 0.18, 0.03), color, surface)


@parametric(
    "curtain", {"fabric": 1.0}, {"folds": ("narrow", "wide"), "rod": ("rod", "none"), "hem": ("straight", "flared")}
)
def curtain(b: MeshBuilder, p: Params) -> None:
    """One hanging curtain with folds."""
    width, height = p.uniform(0.35, 0.75), p.uniform(1.9, 2.25)
    steps = 28
    x = np.linspace(-width / 2, width / 2, steps)
    waves = p.uniform(3, 4.5) if p.style["folds"] == "wide" else p.uniform(5, 7)
    y = 0.045 * np.sin(x / width * 2 * np.pi * waves)
    flare = 1.15 if p.style["hem"] == "flared" else 1.0
    low = np.c_[x * flare, y * 1.3, np.zeros(steps)]
    high = np.c_[x, y, np.full(steps, height)]
    i = np.arange(steps - 1)
    faces = np.concatenate([np.c_[i, i + 1, steps + i + 1], np.c_[i, steps + i + 1, steps + i]])
    b.add(np.concatenate([low, high]), faces, p.paint.rgb, Surface.FABRIC)
    if p.style["rod"] == "rod":
        b.box((0, 0, height + 0.02), (width * 1.1, 0.03, 0.03), p.metal, Surface.METAL)


@parametric("sink", {"ceramic": 1.0}, {"form": ("pedestal", "wall", "vanity"), "bowl": ("round", "square")})
def sink(b: MeshBuilder, p: Params) -> None:
    """A bathroom washbasin."""
    width, depth, height = p.uniform(0.48, 0.7), p.uniform(0.4, 0.5), p.uniform(0.8, 0.88)
    color = p.paint.rgb
    if p.style["form"] == "vanity":
        b.box((0, 0.01, (height - 0.16) / 2), (width * 0.96, depth * 0.92, height - 0.16), p.wood, Surface.WOOD)
    elif p.style["form"] == "pedestal":
        b.lathe((0, 0.08, 0), [(0.13, 0), (0.09, 0.3), (0.12, height - 0.16)], color)
    if p.style["bowl"] == "round":
        profile = [
            (width * 0.25, 0),
            (width * 0.48, 0.12),
            (width * 0.5, 0.16),
            (width * 0.44, 0.16),
            (width * 0.2, 0.05),
        ]
        b.lathe((0, 0, height - 0.16), profile, color, sides=22, squash=depth / width)
    else:
        b.box((0, 0, height - 0.13), (width, depth, 0.06), color)
        for side in (-1, 1):
            b.box((side * (width / 2 - 0.03), 0, height - 0.06), (0.06, depth, 0.12), color)
        b.box((0, -depth / 2 + 0.02, height - 0.06), (width, 0.04, 0.12), color)
        b.box((0, depth / 2 - 0.05, height - 0.06), (width, 0.1, 0.12), color)
    b.cylinder((0, depth / 2 - 0.06, height - 0.02), 0.018, 0.14, _CHROME, Surface.METAL, sides=8)
    b.box((0, depth / 2 - 0.11, height + 0.11), (0.025, 0.13, 0.025), _CHROME, Surface.METAL)


@parametric(
    "sink:kitchen",
    {"appliance": 1.0},
    {"bowls": ("one", "two"), "tap": ("low", "arc"), "top": ("stone", "dark", "steel")},
)
def kitchen_sink(b: MeshBuilder, p: Params) -> None:
    """A kitchen unit with a sink in its worktop; all of it counts as the sink."""
    width, depth, height = p.uniform(0.75, 1.1), 0.61, 0.9
    steel: Rgb = (176, 180, 184)
    b.box((0, 0.03, 0.43), (width, depth - 0.06, 0.86), p.paint.rgb)
    for side in (-1, 1):
        b.box((side * width / 4, -depth / 2 + 0.025, 0.46), (width / 2 - 0.015, 0.02, 0.74), p.shade(0.95))
    top: Rgb = {"stone": (176, 174, 170), "dark": (58, 56, 58), "steel": steel}[p.style["top"]]
    rim = 0.07
    b.box((0, -depth / 2 + rim / 2, height - 0.02), (width, rim, 0.04), top)
    b.box((0, depth / 2 - rim, height - 0.02), (width, 2 * rim, 0.04), top)
    for side in (-1, 1):
        b.box((side * (width / 2 - rim), 0, height - 0.02), (2 * rim, depth, 0.04), top)
    if p.style["bowls"] == "two":
        b.box((0, 0, height - 0.03), (0.05, depth, 0.05), steel, Surface.METAL)
    b.box((0, -0.03, height - 0.16), (width - 0.2, depth - 0.18, 0.01), steel, Surface.METAL)
    b.cylinder((0, depth / 2 - 0.09, height), 0.02, 0.2, steel, Surface.METAL, sides=8)
    reach = 0.3 if p.style["tap"] == "arc" else 0.12
    b.cylinder((0, depth / 2 - 0.09, height + 0.2), 0.015, reach - 0.1, steel, Surface.METAL, sides=8, lean=(0, -0.1))
    b.box((0, depth / 2 - 0.2, height + 0.1 + reach), (0.03, 0.18, 0.03), steel, Surface.METAL)


@parametric("bathtub", {"ceramic": 1.0}, {"form": ("built", "free"), "rim": ("thin", "wide"), "tap": ("end", "side")})
def bathtub(b: MeshBuilder, p: Params) -> None:
    """A bathtub along the wall."""
    width, depth, height = p.uniform(1.5, 1.8), p.uniform(0.7, 0.82), p.uniform(0.5, 0.62)
    color = p.paint.rgb
    if p.style["form"] == "free":
        half = width / 2
        profile = [
            (half * 0.78, 0),
            (half * 0.9, height * 0.5),
            (half, height),
            (half * 0.93, height),
            (half * 0.8, 0.14),
        ]
        b.lathe((0, 0, 0), profile, color, sides=28, squash=depth / width)
    else:
        rim = 0.05 if p.style["rim"] == "thin" else 0.1
        b.box((0, 0, 0.06), (width, depth, 0.12), color)
        for side in (-1, 1):
            b.box((side * (width / 2 - rim / 2), 0, height / 2), (rim, depth, height), color)
            b.box((0, side * (depth / 2 - rim / 2), height / 2), (width, rim, height), color)
    x, y = (width / 2 - 0.12, 0.0) if p.style["tap"] == "end" else (0.1, depth / 2 - 0.06)
    b.cylinder((x, y, height), 0.02, 0.14, _CHROME, Surface.METAL, sides=8)
    b.box((x - 0.06, y, height + 0.13), (0.14, 0.03, 0.03), _CHROME, Surface.METAL)


@parametric("shower", {"ceramic": 1.0}, {"screen": ("frame", "panel", "curtain"), "head": ("bar", "pipe")})
def shower(b: MeshBuilder, p: Params) -> None:
    """A shower cabin: tray, screen and pipe."""
    side, height = p.uniform(0.8, 1.05), p.uniform(1.9, 2.1)
    b.box((0, 0, 0.05), (side, side, 0.1), p.paint.rgb)
    frame = p.metal
    for x in (-1, 1):
        b.box((x * (side / 2 - 0.015), -side / 2 + 0.015, height / 2), (0.03, 0.03, height), frame, Surface.METAL)
        b.box((x * (side / 2 - 0.015), 0, height - 0.015), (0.03, side, 0.03), frame, Surface.METAL)
    b.box((0, -side / 2 + 0.015, height - 0.015), (side, 0.03, 0.03), frame, Surface.METAL)
    if p.style["screen"] == "curtain":
        fabric = sample_shade(("white", "blue", "gray")[int(p.rng.integers(3))], p.rng)
        for k in range(9):
            b.box((-side / 2 + 0.06 + k * side * 0.05, -side / 2 + 0.02 + 0.02 * (k % 2), height / 2 + 0.1),
                  (side * 0.052, 0.012, height - 0.3), fabric, Surface.FABRIC)  # fmt: skip
    else:
        b.box((0, -side / 2 + 0.012, height / 2), (side - 0.06, 0.008, height - 0.1), _GLASS, Surface.GLASS)
        if p.style["screen"] == "frame":
            b.box((0, -side / 2 + 0.01, height / 2), (0.035, 0.03, height), frame, Surface.METAL)
    b.box((0, side / 2 - 0.03, 1.4), (0.025, 0.03, 1.1), _CHROME, Surface.METAL)
    reach = 0.3 if p.style["head"] == "pipe" else 0.14
    b.box((0, side / 2 - reach / 2, height - 0.1), (0.025, reach, 0.025), _CHROME, Surface.METAL)
    b.cylinder((0, side / 2 - reach, height - 0.16), 0.09, 0.05, _CHROME, Surface.METAL)


@parametric("toilet", {"ceramic": 1.0}, {"tank": ("tank", "wall", "high"), "lid": ("closed", "open")})
def toilet(b: MeshBuilder, p: Params) -> None:
    """A toilet; its tank is at the wall."""
    width, depth, seat = p.uniform(0.34, 0.4), p.uniform(0.62, 0.74), p.uniform(0.38, 0.44)
    color = p.paint.rgb
    bowl = depth * 0.34
    b.lathe((0, -depth / 2 + bowl, 0), [(width * 0.3, 0), (width * 0.33, 0.2), (width * 0.5, seat)], color, sides=18,
            squash=2 * bowl / width)  # fmt: skip
    b.box((0, depth * 0.12, seat / 2), (width * 0.7, depth * 0.5, seat), color)
    b.lathe((0, -depth / 2 + bowl, seat), [(width * 0.5, 0), (width * 0.5, 0.035)], p.shade(1.02), sides=18,
            squash=2 * bowl / width)  # fmt: skip
    tall = {"tank": 0.36, "wall": 0.12, "high": 0.5}[p.style["tank"]]
    b.box((0, depth / 2 - 0.09, seat + tall / 2), (width, 0.18, tall), color)
    if p.style["lid"] == "open":
        b.box((0, depth / 2 - 0.21, seat + 0.22), (width * 0.95, 0.03, 0.38), p.shade(0.97), tilt=0.12)


@parametric(
    "radiator", {"painted": 0.3, "ceramic": 0.7}, {"form": ("ribs", "panel", "double"), "feet": ("feet", "none")}
)
def radiator(b: MeshBuilder, p: Params) -> None:
    """A radiator at the wall."""
    width, height = p.uniform(0.6, 1.3), p.uniform(0.45, 0.65)
    color = p.paint.rgb
    lift = 0.12 if p.style["feet"] == "none" else 0.0
    if p.style["form"] == "ribs":
        for x in np.linspace(-width / 2 + 0.03, width / 2 - 0.03, max(6, int(width / 0.08))):
            b.box((float(x), 0, lift + 0.05 + height / 2), (0.045, 0.13, height), color)
        for z in (0.12, height - 0.03):
            b.box((0, 0, lift + z), (width, 0.05, 0.05), color)
    else:
        b.box((0, 0.0, lift + 0.05 + height / 2), (width, 0.1 if p.style["form"] == "double" else 0.06, height), color)
        for x in np.linspace(-width / 2 + 0.06, width / 2 - 0.06, max(5, int(width / 0.09))):
            b.box((float(x), -0.055, lift + 0.05 + height / 2), (0.03, 0.015, height * 0.9), p.shade(0.93))
    for side in (-1, 1):
        b.box((side * (width / 2 - 0.08), 0, lift + 0.03), (0.04, 0.06, 0.06), color)
    b.box((0, 0, 0.01 if not lift else lift + 0.06), (0.02, 0.05, 0.02), color)


@parametric("fireplace", {"brick": 0.6, "ceramic": 0.4}, {"mantel": ("wood", "stone"), "hood": ("none", "breast")})
def fireplace(b: MeshBuilder, p: Params) -> list[Shelf]:
    """A fireplace with its mantel."""
    width, depth, height = p.uniform(1.1, 1.6), p.uniform(0.35, 0.5), p.uniform(1.0, 1.25)
    color, surface = p.paint.rgb, p.paint.surface
    side = width * 0.24
    for sign in (-1, 1):
        b.box((sign * (width / 2 - side / 2), 0, height / 2), (side, depth, height), color, surface)
    b.box((0, 0, height - height * 0.15), (width, depth, height * 0.3), color, surface)
    b.box((0, depth / 2 - 0.02, height / 2), (width - side, 0.04, height), _DARK)
    b.box((0, -0.06, 0.025), (width, depth + 0.12, 0.05), (110, 108, 106))
    mantel = p.wood if p.style["mantel"] == "wood" else (206, 202, 196)
    b.box((0, -0.02, height + 0.03), (width + 0.12, depth + 0.06, 0.06), mantel, Surface.WOOD)
    if p.style["hood"] == "breast":
        b.box((0, depth * 0.2, height + 0.5), (width * 0.75, depth * 0.6, 0.9), color, surface)
        return []
    return [Shelf(-width / 2, width / 2, -depth / 2 + 0.03, depth / 2 - 0.02, height + 0.06)]


@parametric(
    "picture", {"bright": 1.0}, {"frame": ("wood", "black", "none", "white"), "art": ("plain", "blocks", "horizon")}
)
def picture(b: MeshBuilder, p: Params) -> None:
    """A framed picture; its paint is what dominates the canvas."""
    width, height = p.uniform(0.35, 1.1), p.uniform(0.35, 0.8)
    frame: Rgb = {"wood": p.wood, "black": _DARK, "none": p.shade(0.8), "white": (236, 236, 234)}[p.style["frame"]]
    rim = 0.0 if p.style["frame"] == "none" else p.uniform(0.02, 0.045)
    b.box((0, 0, height / 2), (width, 0.03, height), frame)
    inner_x, inner_z = width - 2 * rim, height - 2 * rim
    b.box((0, -0.017, height / 2), (inner_x, 0.006, inner_z), p.paint.rgb)
    if p.style["art"] == "blocks":
        for _ in range(4):
            w, h = inner_x * p.rng.uniform(0.1, 0.28), inner_z * p.rng.uniform(0.1, 0.28)
            x = p.rng.uniform(-inner_x / 2 + w / 2, inner_x / 2 - w / 2)
            z = p.rng.uniform(rim + h / 2, height - rim - h / 2)
            name = ("red", "yellow", "blue", "white", "black", "green")[int(p.rng.integers(6))]
            b.box((float(x), -0.021, float(z)), (float(w), 0.003, float(h)), sample_shade(name, p.rng))
    elif p.style["art"] == "horizon":
        b.box((0, -0.021, rim + inner_z * 0.15), (inner_x, 0.003, inner_z * 0.3), p.shade(0.6))


@parametric("mirror", {"ceramic": 1.0}, {"shape": ("square", "oval"), "frame": ("wood", "black", "white", "metal")})
def mirror(b: MeshBuilder, p: Params) -> None:
    """A wall mirror; its glass returns little depth."""
    width, height = p.uniform(0.4, 0.8), p.uniform(0.55, 1.3)
    frame: Rgb = {"wood": p.wood, "black": _DARK, "white": (236, 236, 234), "metal": _CHROME}[p.style["frame"]]
    glass: Rgb = (186, 194, 198)
    rim = p.uniform(0.03, 0.06)
    if p.style["shape"] == "square":
        b.box((0, 0, height / 2), (width, 0.03, height), frame, Surface.WOOD)
        b.box((0, -0.018, height / 2), (width - 2 * rim, 0.006, height - 2 * rim), glass, Surface.GLASS)
        return
    for scale, y, color, surface in (
        (1.0, 0.0, frame, Surface.WOOD),
        (1 - 2 * rim / width, -0.018, glass, Surface.GLASS),
    ):
        angle = np.arange(24) * 2 * np.pi / 24
        ring = np.c_[scale * width / 2 * np.cos(angle), np.full(24, y), height / 2 + scale * height / 2 * np.sin(angle)]
        back = ring + np.array([0, 0.012, 0])
        i = np.arange(24)
        j = (i + 1) % 24
        faces = np.concatenate([np.c_[np.full(24, 48), i, j], np.c_[i, j, 24 + j], np.c_[i, 24 + j, 24 + i]])
        b.add(np.concatenate([ring, back, [[0, y, height / 2]]]), faces, color, surface)


@parametric(
    "whiteboard",
    {"ceramic": 1.0},
    {"frame": ("metal", "black"), "tray": ("tray", "none"), "marks": ("clean", "written")},
)
def whiteboard(b: MeshBuilder, p: Params) -> None:
    """A whiteboard on the wall."""
    width, height = p.uniform(1.1, 2.2), p.uniform(0.8, 1.2)
    b.box((0, 0, height / 2), (width, 0.025, height), _CHROME if p.style["frame"] == "metal" else _DARK, Surface.METAL)
    b.box((0, -0.015, height / 2), (width - 0.06, 0.006, height - 0.06), (244, 245, 246))
    if p.style["tray"] == "tray":
        b.box((0, -0.05, 0.01), (width * 0.6, 0.08, 0.02), _CHROME, Surface.METAL)
    if p.style["marks"] == "written":
        for _ in range(5):
            x, z = p.rng.uniform(-width * 0.35, width * 0.35), p.rng.uniform(height * 0.25, height * 0.85)
            ink = sample_shade(("blue", "red", "black", "green")[int(p.rng.integers(4))], p.rng)
            b.box((float(x), -0.019, float(z)), (width * 0.16, 0.002, 0.025), ink)


@parametric(
    "clock",
    {"bright": 0.7, "ceramic": 0.3},
    {"shape": ("round", "square"), "face": ("white", "dark"), "rim": ("thin", "thick")},
)
def clock(b: MeshBuilder, p: Params) -> None:
    """A wall clock; its paint is that of the rim and the rim's side."""
    size = p.uniform(0.26, 0.42)
    rim = 0.12 if p.style["rim"] == "thin" else 0.28
    face: Rgb = (240, 240, 236) if p.style["face"] == "white" else (40, 40, 44)
    sides = 24 if p.style["shape"] == "round" else 4
    turn = np.pi / 4 if sides == 4 else 0.0
    for scale, y, color in ((1.0, 0.0, p.paint.rgb), (1 - rim, -0.026, face)):
        radius = size / 2 * scale * (1.414 if sides == 4 else 1.0)
        angle = turn + np.arange(sides) * 2 * np.pi / sides
        ring = np.c_[radius * np.cos(angle), np.full(sides, y - 0.02), size / 2 + radius * np.sin(angle)]
        back = ring + np.array([0, 0.04, 0])
        i = np.arange(sides)
        j = (i + 1) % sides
        k = 2 * sides
        faces = np.concatenate([np.c_[np.full(sides, k), i, j], np.c_[i, j, sides + j], np.c_[i, sides + j, sides + i]])
        b.add(np.concatenate([ring, back, [[0, y - 0.02, size / 2]]]), faces, color)
    hand: Rgb = (20, 20, 20) if p.style["face"] == "white" else (230, 230, 230)
    b.box((0, -0.05, size * 0.62), (0.012, 0.003, size * 0.26), hand)
    b.box((size * 0.1, -0.05, size / 2), (size * 0.2, 0.003, 0.012), hand)
