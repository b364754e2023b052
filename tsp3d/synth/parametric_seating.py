"""Parametric seats and beds. Models face -y; see :mod:`tsp3d.synth.parametric`."""

from __future__ import annotations

import numpy as np

from tsp3d.synth.mesh import MeshBuilder, Surface
from tsp3d.synth.parametric import Params, Shelf, parametric


@parametric(
    "chair",
    {"wood": 0.5, "plastic": 0.25, "fabric": 0.25},
    {"legs": ("square", "round", "sled"), "back": ("slats", "panel", "bars", "shell")},
)
def chair(b: MeshBuilder, p: Params) -> None:
    """A dining chair."""
    width, depth = p.uniform(0.40, 0.52), p.uniform(0.40, 0.54)
    seat, height = p.uniform(0.42, 0.48), p.uniform(0.78, 1.02)
    color, surface = p.paint.rgb, p.paint.surface
    frame = color if surface == Surface.WOOD else p.metal
    if p.style["legs"] == "sled":
        for side in (-1, 1):
            x = side * (width / 2 - 0.02)
            b.box((x, 0, 0.012), (0.03, depth, 0.024), frame, Surface.METAL)
            for y in (-depth / 2 + 0.02, depth / 2 - 0.02):
                b.box((x, y, seat / 2), (0.03, 0.03, seat), frame, Surface.METAL)
    else:
        b.legs(width, depth, seat, p.uniform(0.03, 0.05), frame, surface, p.style["legs"] == "round")
    if surface == Surface.FABRIC:
        b.cushion((0, 0, seat), (width, depth, 0.09), color)
    else:
        b.box((0, 0, seat), (width, depth, 0.035), color, surface)
    back, tilt = depth / 2 - 0.02, p.uniform(0.05, 0.2)
    rise = height - seat
    middle = back + np.sin(tilt) * rise / 2
    if p.style["back"] == "panel":
        b.box((0, middle, seat + rise / 2), (width * 0.96, 0.04, rise), color, surface, tilt)
    elif p.style["back"] == "shell":
        b.cushion((0, middle, seat + rise / 2), (width, 0.06, rise), color, surface, tilt, power=3.0)
    else:
        for side in (-1, 1):
            b.box((side * (width / 2 - 0.02), middle, seat + rise / 2), (0.035, 0.035, rise), frame, surface, tilt)
        if p.style["back"] == "slats":
            for share in (0.45, 0.68, 0.92):
                y = back + np.sin(tilt) * rise * share
                b.box((0, y, seat + rise * share), (width - 0.03, 0.02, rise * 0.14), color, surface, tilt)
        else:
            b.box((0, back + np.sin(tilt) * rise * 0.95, height - 0.04), (width, 0.035, 0.07), color, surface, tilt)
            for x in np.linspace(-width / 2 + 0.09, width / 2 - 0.09, 4):
                b.box((float(x), middle, seat + rise / 2), (0.03, 0.02, rise), color, surface, tilt)


@parametric(
    "office chair",
    {"fabric": 0.7, "leather": 0.3},
    {"arms": ("none", "loop", "pad"), "back": ("low", "high", "mesh")},
)
def office_chair(b: MeshBuilder, p: Params) -> None:
    """A swivel chair on a star base."""
    width, depth, seat = p.uniform(0.46, 0.56), p.uniform(0.46, 0.54), p.uniform(0.44, 0.52)
    reach = p.uniform(0.28, 0.34)
    for k in range(5):
        angle = k * 2 * np.pi / 5 + 0.3
        x, y = reach * np.cos(angle), reach * np.sin(angle)
        steps = np.linspace(0.1, 1.0, 5)
        for s in steps:
            b.box((x * s, y * s, 0.10 - 0.03 * s), (0.075, 0.075, 0.035), (40, 40, 42))
        b.cushion((x, y, 0.03), (0.06, 0.06, 0.06), (25, 25, 26), Surface.PLAIN, power=2.0)
    b.cylinder((0, 0, 0.08), 0.03, seat - 0.1, (70, 70, 72), Surface.METAL, sides=10)
    b.cushion((0, 0, seat), (width, depth, 0.11), p.paint.rgb, p.paint.surface)
    rise = {"low": p.uniform(0.36, 0.45), "high": p.uniform(0.62, 0.78), "mesh": p.uniform(0.5, 0.6)}[p.style["back"]]
    y = depth / 2 + 0.03
    b.box((0, y, seat + 0.08), (0.06, 0.03, 0.25), (40, 40, 42))
    b.cushion((0, y, seat + 0.1 + rise / 2), (width * 0.92, 0.09, rise), p.paint.rgb, p.paint.surface, 0.1, power=3.5)
    if p.style["back"] == "mesh":
        b.cushion(
            (0, y + 0.03, seat + 0.12 + rise), (width * 0.6, 0.08, 0.16), p.shade(0.8), p.paint.surface, power=3.0
        )
    if p.style["arms"] != "none":
        for side in (-1, 1):
            x = side * (width / 2 + 0.03)
            b.box((x, 0.02, seat + 0.21), (0.06, depth * 0.6, 0.035), (38, 38, 40))
            b.box((x, 0.04, seat + 0.1), (0.03, 0.05, 0.2), (38, 38, 40))
            if p.style["arms"] == "loop":
                b.box((x, -depth * 0.22, seat + 0.1), (0.03, 0.04, 0.2), (38, 38, 40))


def _upholstered(b: MeshBuilder, p: Params, width: float, seats: int, depth: float, height: float) -> float:
    """Base, arms, back and seat cushions of a sofa or armchair; returns the seat's height."""
    color, surface = p.paint.rgb, p.paint.surface
    arm = p.uniform(0.12, 0.24)
    seat = p.uniform(0.38, 0.46)
    arm_height = p.uniform(0.55, 0.66)
    back = p.uniform(0.16, 0.26)
    lift = 0.0
    if p.style["base"] == "legs":
        lift = p.uniform(0.08, 0.16)
        b.legs(width - 0.06, depth - 0.06, lift, 0.06, p.wood, Surface.WOOD, round_=True)
    inner = width - 2 * arm
    b.box((0, 0, lift + (seat - 0.1 - lift) / 2), (width - 0.02, depth - 0.02, seat - 0.1 - lift), color, surface)
    for side in (-1, 1):
        x = side * (width / 2 - arm / 2)
        if p.style["arms"] == "round":
            b.cushion((x, 0, (arm_height + lift) / 2), (arm, depth, arm_height - lift), color, surface, power=6)
        else:
            b.box((x, 0, (arm_height + lift) / 2), (arm, depth, arm_height - lift), color, surface)
    b.cushion(
        (0, depth / 2 - back / 2, (height + seat) / 2 - 0.05), (width - 0.04, back, height - seat + 0.1), color,
        surface, 0.08, power=7,
    )  # fmt: skip
    share = inner / seats
    for k in range(seats):
        x = -inner / 2 + share * (k + 0.5)
        b.cushion((x, -back / 2, seat - 0.07), (share * 0.98, depth - back, 0.15), p.shade(1.04), surface, power=6)
        if p.style["back"] == "cushions":
            size = (share * 0.94, 0.18, (height - seat) * 0.85)
            b.cushion((x, depth / 2 - back - 0.05, seat + size[2] / 2), size, p.shade(1.06), surface, 0.2, power=5)
    return seat


_SOFT = {"base": ("block", "legs"), "arms": ("square", "round"), "back": ("plain", "cushions")}


@parametric("armchair", {"fabric": 0.7, "leather": 0.3}, _SOFT)
def armchair(b: MeshBuilder, p: Params) -> None:
    """An upholstered armchair."""
    _upholstered(b, p, p.uniform(0.75, 1.0), 1, p.uniform(0.72, 0.92), p.uniform(0.74, 1.02))


@parametric("sofa", {"fabric": 0.7, "leather": 0.3}, {**_SOFT, "shape": ("straight", "straight", "corner")})
def sofa(b: MeshBuilder, p: Params) -> list[Shelf]:
    """A sofa of two or three seats, with a chaise where its shape is "corner"."""
    seats = 2 if p.rng.random() < 0.45 else 3
    width, depth = p.uniform(0.62, 0.78) * seats + 0.3, p.uniform(0.8, 0.98)
    seat = _upholstered(b, p, width, seats, depth, p.uniform(0.74, 0.95))
    if p.style["shape"] == "corner":
        length = p.uniform(0.55, 0.85)
        side = 1 if p.rng.random() < 0.5 else -1
        x = side * (width / 2 - 0.42)
        b.box(
            (x, -depth / 2 - length / 2, (seat - 0.08) / 2), (0.84, length, seat - 0.08), p.paint.rgb, p.paint.surface
        )
        b.cushion((x, -depth / 2 - length / 2, seat - 0.07), (0.84, length + 0.1, 0.15), p.shade(1.04), p.paint.surface,
                  power=6)  # fmt: skip
    return [Shelf(-width / 2 + 0.3, width / 2 - 0.3, -depth / 2 + 0.1, depth / 2 - 0.3, seat)]


@parametric(
    "stool",
    {"wood": 0.5, "plastic": 0.25, "fabric": 0.25},
    {"seat": ("round", "square"), "legs": ("four", "post", "splayed")},
)
def stool(b: MeshBuilder, p: Params) -> None:
    """A stool without a back."""
    height = p.uniform(0.42, 0.52) if p.rng.random() < 0.6 else p.uniform(0.62, 0.8)
    width = p.uniform(0.3, 0.42)
    if p.style["legs"] == "post":
        b.cylinder((0, 0, 0), width * 0.5, 0.03, p.metal, Surface.METAL)
        b.cylinder((0, 0, 0.03), 0.03, height - 0.03, p.metal, Surface.METAL)
    elif p.style["legs"] == "four":
        b.legs(width, width, height, 0.04, p.wood, Surface.WOOD)
    else:
        for k in range(4):
            angle = k * np.pi / 2 + np.pi / 4
            x, y = np.cos(angle) * width * 0.55, np.sin(angle) * width * 0.55
            b.cylinder((x, y, 0), 0.018, height, p.wood, Surface.WOOD, sides=8, lean=(-x * 0.5, -y * 0.5))
    if p.style["seat"] == "round":
        b.cylinder((0, 0, height - 0.02), width / 2, 0.06, p.paint.rgb, p.paint.surface, sides=18)
    elif p.paint.surface == Surface.FABRIC:
        b.cushion((0, 0, height), (width, width, 0.1), p.paint.rgb)
    else:
        b.box((0, 0, height), (width, width, 0.05), p.paint.rgb, p.paint.surface)


@parametric(
    "bench", {"wood": 0.7, "fabric": 0.3}, {"legs": ("square", "slab", "round"), "top": ("plain", "slats")}
)  # fmt: skip
def bench(b: MeshBuilder, p: Params) -> list[Shelf]:
    """A bench without a back."""
    width, depth, height = p.uniform(0.9, 1.5), p.uniform(0.3, 0.45), p.uniform(0.4, 0.5)
    frame = p.paint.rgb if p.paint.surface == Surface.WOOD else p.wood
    if p.style["legs"] == "slab":
        for side in (-1, 1):
            b.box((side * (width / 2 - 0.08), 0, height / 2), (0.04, depth * 0.9, height), frame, Surface.WOOD)
    else:
        b.legs(width - 0.05, depth - 0.02, height, 0.06, frame, Surface.WOOD, p.style["legs"] == "round")
    if p.paint.surface == Surface.FABRIC:
        b.cushion((0, 0, height), (width, depth, 0.12), p.paint.rgb, power=7)
    elif p.style["top"] == "slats":
        for y in np.linspace(-depth / 2 + 0.04, depth / 2 - 0.04, 4):
            b.box((0, float(y), height), (width, depth / 5, 0.03), p.paint.rgb, Surface.WOOD)
    else:
        b.box((0, 0, height), (width, depth, 0.045), p.paint.rgb, Surface.WOOD)
    return []


@parametric(
    "bed",
    {"fabric": 1.0},
    {"head": ("panel", "bars", "padded", "none"), "cover": ("blanket", "half", "plain"), "base": ("box", "legs")},
)
def bed(b: MeshBuilder, p: Params) -> list[Shelf]:
    """A bed with its head at +y; its paint is that of the cover."""
    width = p.uniform(0.85, 1.1) if p.rng.random() < 0.4 else p.uniform(1.35, 1.85)
    length, top = p.uniform(1.95, 2.2), p.uniform(0.42, 0.6)
    frame = p.wood if p.rng.random() < 0.7 else (232, 230, 226)
    if p.style["base"] == "legs":
        b.legs(width, length, top - 0.25, 0.07, frame, Surface.WOOD)
        b.box((0, 0, top - 0.28), (width, length, 0.12), frame, Surface.WOOD)
    else:
        b.box((0, 0, (top - 0.2) / 2), (width, length, top - 0.2), frame, Surface.WOOD)
    b.cushion((0, 0, top - 0.12), (width * 0.97, length * 0.98, 0.24), (236, 234, 228), Surface.FABRIC, power=9)
    if p.style["cover"] == "half":
        b.box((0, -length * 0.2, top - 0.1), (width * 1.02, length * 0.6, 0.26), p.paint.rgb, Surface.FABRIC)
    elif p.style["cover"] == "blanket":
        b.box((0, -0.14, top - 0.1), (width * 1.03, length - 0.3, 0.27), p.paint.rgb, Surface.FABRIC)
        b.box((0, length / 2 - 0.42, top + 0.03), (width * 1.03, 0.22, 0.05), p.shade(1.25), Surface.FABRIC)
    else:
        b.cushion((0, -0.02, top - 0.08), (width * 1.0, length * 0.97, 0.22), p.paint.rgb, Surface.FABRIC, power=9)
    back, rise = length / 2 + 0.025, top + p.uniform(0.3, 0.7)
    if p.style["head"] == "panel":
        b.box((0, back, rise / 2), (width + 0.04, 0.05, rise), frame, Surface.WOOD)
    elif p.style["head"] == "padded":
        b.cushion((0, back, rise / 2 + 0.1), (width + 0.04, 0.12, rise - 0.2), p.shade(0.8), Surface.FABRIC, power=8)
    elif p.style["head"] == "bars":
        for x in np.linspace(-width / 2, width / 2, 7):
            b.box((float(x), back, rise / 2), (0.035, 0.035, rise), p.metal, Surface.METAL)
        b.box((0, back, rise), (width + 0.04, 0.04, 0.05), p.metal, Surface.METAL)
    return [Shelf(-width / 2 + 0.05, width / 2 - 0.05, -length / 2 + 0.1, length / 2 - 0.1, top + 0.03)]


@parametric("pillow", {"fabric": 1.0}, {"shape": ("square", "long", "bolster"), "fill": ("thin", "thick")})
def pillow(b: MeshBuilder, p: Params) -> None:
    """A pillow that lies flat."""
    thick = p.uniform(0.1, 0.14) if p.style["fill"] == "thin" else p.uniform(0.15, 0.2)
    if p.style["shape"] == "square":
        side = p.uniform(0.38, 0.5)
        size = (side, side, thick)
    elif p.style["shape"] == "long":
        size = (p.uniform(0.55, 0.72), p.uniform(0.36, 0.46), thick)
    else:
        size = (p.uniform(0.45, 0.6), thick * 1.4, thick * 1.2)
    b.cushion((0, 0, size[2] / 2), size, p.paint.rgb, Surface.FABRIC, power=3.2)


@parametric(
    "rug", {"fabric": 1.0}, {"shape": ("rectangle", "round", "runner"), "pattern": ("plain", "border", "stripes")}
)
def rug(b: MeshBuilder, p: Params) -> None:
    """A flat rug."""
    color = p.paint.rgb
    if p.style["shape"] == "round":
        radius = p.uniform(0.6, 1.1)
        b.cylinder((0, 0, 0), radius, 0.012, color, Surface.CARPET, sides=28)
        if p.style["pattern"] != "plain":
            b.cylinder((0, 0, 0.0122), radius * 0.45, 0.001, p.shade(0.7), Surface.CARPET, sides=20)
        return
    width, depth = p.uniform(1.3, 2.4), p.uniform(0.9, 1.6)
    if p.style["shape"] == "runner":
        depth = p.uniform(0.55, 0.8)
    b.box((0, 0, 0.006), (width, depth, 0.012), color, Surface.CARPET)
    if p.style["pattern"] == "border":
        for side in (-1, 1):
            b.box((side * (width / 2 - 0.09), 0, 0.0135), (0.09, depth - 0.1, 0.002), p.shade(0.6), Surface.CARPET)
            b.box((0, side * (depth / 2 - 0.09), 0.0135), (width - 0.1, 0.09, 0.002), p.shade(0.6), Surface.CARPET)
    elif p.style["pattern"] == "stripes":
        for x in np.arange(-width / 2 + 0.15, width / 2 - 0.1, 0.35):
            b.box((float(x), 0, 0.0135), (0.1, depth * 0.98, 0.002), p.shade(1.35), Surface.CARPET)
