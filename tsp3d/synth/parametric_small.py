"""Parametric electronics, lamps and small things. Models face -y; see :mod:`tsp3d.synth.parametric`."""

from __future__ import annotations

import numpy as np

from tsp3d.synth.mesh import MeshBuilder, Surface
from tsp3d.synth.palette import Rgb, sample_shade
from tsp3d.synth.parametric import Params, parametric

_DARK: Rgb = (26, 26, 28)
_SCREEN: Rgb = (22, 24, 28)
_GRAY: Rgb = (120, 120, 124)


def _shade(b: MeshBuilder, p: Params, z: float, radius: float, height: float) -> None:
    """A lamp shade of the model's style."""
    top = {"cone": 0.55, "drum": 1.0, "globe": 1.0}[p.style["shade"]]
    if p.style["shade"] == "globe":
        b.cushion((0, 0, z + radius), (2 * radius, 2 * radius, 2 * radius), p.paint.rgb, p.paint.surface, power=2.0)
    else:
        b.cylinder((0, 0, z), radius, height, p.paint.rgb, p.paint.surface, top_radius=radius * top, sides=20)


@parametric(
    "lamp", {"fabric": 0.7, "plastic": 0.3}, {"shade": ("cone", "drum", "globe"), "foot": ("stick", "jar", "block")}
)
def table_lamp(b: MeshBuilder, p: Params) -> None:
    """A table lamp."""
    stem, radius = p.uniform(0.16, 0.3), p.uniform(0.1, 0.18)
    if p.style["foot"] == "stick":
        b.cylinder((0, 0, 0), 0.08, 0.02, p.metal, Surface.METAL)
        b.cylinder((0, 0, 0.02), 0.012, stem, p.metal, Surface.METAL, sides=8)
    elif p.style["foot"] == "jar":
        body = p.wood if p.rng.random() < 0.5 else sample_shade("white", p.rng)
        b.lathe((0, 0, 0), [(0.06, 0), (0.09, stem * 0.35), (0.04, stem * 0.8), (0.02, stem + 0.02)], body)
    else:
        b.box((0, 0, stem / 2), (0.09, 0.09, stem), p.wood, Surface.WOOD)
    _shade(b, p, stem, radius, p.uniform(0.15, 0.24))


@parametric(
    "lamp:floor",
    {"fabric": 0.7, "metal": 0.3},
    {"shade": ("cone", "drum", "globe"), "foot": ("disc", "tripod", "pole")},
)
def floor_lamp(b: MeshBuilder, p: Params) -> None:
    """A standing lamp."""
    stem, radius = p.uniform(1.15, 1.5), p.uniform(0.15, 0.24)
    if p.style["foot"] == "tripod":
        for k in range(3):
            angle = k * 2 * np.pi / 3
            x, y = 0.24 * np.cos(angle), 0.24 * np.sin(angle)
            b.cylinder((x, y, 0), 0.015, stem, p.wood, Surface.WOOD, sides=8, lean=(-x, -y))
    else:
        b.cylinder((0, 0, 0), p.uniform(0.12, 0.17), 0.03, p.metal, Surface.METAL, sides=18)
        b.cylinder((0, 0, 0.03), 0.014 if p.style["foot"] == "disc" else 0.025, stem, p.metal, Surface.METAL, sides=8)
    _shade(b, p, stem, radius, p.uniform(0.2, 0.32))


@parametric(
    "lamp:ceiling",
    {"plastic": 0.5, "fabric": 0.3, "metal": 0.2},
    {"shade": ("cone", "drum", "globe"), "cord": ("short", "long")},
)
def pendant_lamp(b: MeshBuilder, p: Params) -> None:
    """A hanging lamp; its top is at the ceiling."""
    cord = p.uniform(0.2, 0.35) if p.style["cord"] == "short" else p.uniform(0.45, 0.7)
    radius = p.uniform(0.15, 0.27)
    height = 2 * radius if p.style["shade"] == "globe" else p.uniform(0.16, 0.26)
    _shade(b, p, 0.0, radius, height)
    b.cylinder((0, 0, height), 0.012, cord, _DARK, sides=6)
    b.cylinder((0, 0, height + cord), 0.05, 0.02, _DARK, sides=10)


@parametric("tv", {"dark": 1.0}, {"stand": ("feet", "plate", "bar"), "rim": ("thin", "thick")})
def tv(b: MeshBuilder, p: Params) -> None:
    """A television on a stand."""
    width = p.uniform(0.8, 1.35)
    height, lift = width * 0.57, p.uniform(0.05, 0.09)
    rim = 0.015 if p.style["rim"] == "thin" else 0.045
    b.box((0, 0, lift + height / 2), (width, 0.05, height), p.paint.rgb, Surface.METAL)
    b.box((0, -0.027, lift + height / 2), (width - 2 * rim, 0.004, height - 2 * rim), _SCREEN, Surface.METAL)
    if p.style["stand"] == "feet":
        for side in (-1, 1):
            b.box((side * width * 0.36, 0, lift / 2), (0.04, 0.24, lift), p.paint.rgb)
    else:
        b.box((0, 0, 0.01), (width * (0.4 if p.style["stand"] == "plate" else 0.7), 0.22, 0.02), p.paint.rgb)
        b.box((0, 0.01, lift / 2), (width * 0.14, 0.05, lift + 0.02), p.paint.rgb)


@parametric("tv:wall", {"dark": 1.0}, {"rim": ("thin", "thick"), "bar": ("none", "sound")})
def wall_tv(b: MeshBuilder, p: Params) -> None:
    """A television on the wall."""
    width = p.uniform(0.85, 1.4)
    height = width * 0.57
    rim = 0.012 if p.style["rim"] == "thin" else 0.04
    b.box((0, 0, height / 2), (width, 0.06, height), p.paint.rgb, Surface.METAL)
    b.box((0, -0.032, height / 2), (width - 2 * rim, 0.004, height - 2 * rim), _SCREEN, Surface.METAL)
    if p.style["bar"] == "sound":
        b.box((0, -0.02, -0.06), (width * 0.6, 0.08, 0.07), _DARK)


@parametric(
    "monitor", {"dark": 0.75, "appliance": 0.25}, {"stand": ("plate", "round", "vee"), "rim": ("thin", "thick")}
)
def monitor(b: MeshBuilder, p: Params) -> None:
    """A computer monitor."""
    width = p.uniform(0.45, 0.68)
    height, lift = width * p.uniform(0.56, 0.64), p.uniform(0.1, 0.16)
    rim = 0.01 if p.style["rim"] == "thin" else 0.025
    b.box((0, 0, lift + height / 2), (width, 0.045, height), p.paint.rgb)
    glow = _SCREEN if p.rng.random() < 0.65 else sample_shade("blue", p.rng)
    b.box((0, -0.024, lift + height / 2), (width - 2 * rim, 0.004, height - 2 * rim), glow, Surface.METAL)
    b.box((0, 0.035, lift), (0.06, 0.03, 2 * lift - 0.02), p.paint.rgb)
    if p.style["stand"] == "round":
        b.cylinder((0, 0.02, 0), 0.11, 0.015, p.paint.rgb, sides=18)
    else:
        b.box((0, 0.02, 0.008), (0.24 if p.style["stand"] == "plate" else 0.36, 0.18, 0.016), p.paint.rgb)


@parametric("laptop", {"metal": 0.8, "dark": 0.2}, {"angle": ("steep", "wide"), "size": ("small", "large")})
def laptop(b: MeshBuilder, p: Params) -> None:
    """An open laptop."""
    width = p.uniform(0.3, 0.33) if p.style["size"] == "small" else p.uniform(0.35, 0.39)
    depth = width * 0.68
    b.box((0, 0, 0.01), (width, depth, 0.02), p.paint.rgb, Surface.METAL)
    b.box((0, 0.02, 0.0205), (width * 0.88, depth * 0.45, 0.002), _DARK)
    tilt = 0.15 if p.style["angle"] == "steep" else 0.38
    y = depth / 2 + np.sin(tilt) * depth / 2
    b.box((0, y, 0.02 + np.cos(tilt) * depth / 2), (width, 0.012, depth), p.paint.rgb, Surface.METAL, tilt)
    front = 0.008
    b.box(
        (0, y - front, 0.02 + np.cos(tilt) * depth / 2),
        (width * 0.92, 0.003, depth * 0.88),
        _SCREEN,
        Surface.METAL,
        tilt,
    )


@parametric("keyboard", {"dark": 0.6, "appliance": 0.4}, {"keys": ("dark", "light", "same"), "wrist": ("none", "rest")})
def keyboard(b: MeshBuilder, p: Params) -> None:
    """A computer keyboard."""
    width, depth = p.uniform(0.38, 0.47), p.uniform(0.13, 0.17)
    b.box((0, 0, 0.012), (width, depth, 0.024), p.paint.rgb)
    keys: Rgb = {"dark": (44, 44, 46), "light": (224, 224, 222), "same": p.shade(0.85)}[p.style["keys"]]
    for y in np.linspace(-depth / 2 + 0.02, depth / 2 - 0.02, 5):
        for x0, x1 in ((-0.47, 0.2), (0.24, 0.46)):
            b.box(((x0 + x1) / 2 * width, float(y), 0.027), ((x1 - x0) * width, depth * 0.14, 0.008), keys)
    if p.style["wrist"] == "rest":
        b.box((0, -depth / 2 - 0.03, 0.008), (width, 0.06, 0.016), _DARK)


def _foliage(b: MeshBuilder, p: Params, z: float, radius: float, height: float, leaves: int) -> None:
    """Leaves as bent blades that spread from (0, 0, z)."""
    kind = p.style["leaf"]
    for _ in range(leaves):
        angle = p.rng.uniform(0, 2 * np.pi)
        spread = radius * p.rng.uniform(0.4, 1.0)
        rise = height * p.rng.uniform(0.4, 1.0)
        wide = {"blade": 0.035, "broad": 0.12, "bush": 0.08}[kind] * (0.5 + radius)
        start = p.rng.uniform(0.0, 0.5) * height if kind == "bush" else 0.0
        out, side = np.array([np.cos(angle), np.sin(angle), 0]), np.array([-np.sin(angle), np.cos(angle), 0])
        base = np.array([0, 0, z + start])
        middle = base + out * spread * 0.55 + np.array([0, 0, rise * 0.75])
        tip = base + out * spread + np.array([0, 0, rise * (0.85 if kind != "blade" else 1.0)])
        vertices = np.stack(
            [base - side * wide * 0.2, base + side * wide * 0.2, middle - side * wide, middle + side * wide, tip]
        )
        b.add(vertices, np.array([[0, 1, 3], [0, 3, 2], [2, 3, 4]]), p.shade(p.rng.uniform(0.75, 1.2)), Surface.LEAF)


_PLANT = {"leaf": ("blade", "broad", "bush"), "pot": ("round", "square", "basket")}


def _plant(b: MeshBuilder, p: Params, pot: float, radius: float, height: float, leaves: int) -> None:
    color = sample_shade(("brown", "white", "gray", "orange", "black")[int(p.rng.integers(5))], p.rng)
    if p.style["pot"] == "square":
        b.box((0, 0, pot / 2), (pot, pot, pot), color)
    else:
        b.cylinder((0, 0, 0), pot * 0.38, pot, color, top_radius=pot * (0.52 if p.style["pot"] == "round" else 0.42))
    _foliage(b, p, pot * 0.95, radius, height, leaves)


@parametric("plant", {"plant": 1.0}, _PLANT)
def plant(b: MeshBuilder, p: Params) -> None:
    """A plant that stands on the floor."""
    _plant(b, p, p.uniform(0.22, 0.36), p.uniform(0.25, 0.45), p.uniform(0.5, 1.2), 46)


@parametric("plant:small", {"plant": 1.0}, _PLANT)
def small_plant(b: MeshBuilder, p: Params) -> None:
    """A plant for a table or a sill."""
    _plant(b, p, p.uniform(0.1, 0.16), p.uniform(0.1, 0.2), p.uniform(0.12, 0.3), 30)


def _box(b: MeshBuilder, p: Params, width: float, depth: float, height: float) -> None:
    color = p.paint.rgb
    if p.style["lid"] == "open":
        wall = 0.012
        b.box((0, 0, wall / 2), (width, depth, wall), color)
        for side in (-1, 1):
            b.box((side * width / 2, 0, height / 2), (wall, depth, height), color)
            b.box((0, side * depth / 2, height / 2), (width, wall, height), color)
            b.box((side * (width / 2 + 0.06), 0, height), (0.13, depth, 0.01), p.shade(1.08))
        return
    b.box((0, 0, height / 2), (width, depth, height), color)
    if p.style["lid"] == "lidded":
        b.box((0, 0, height - 0.025), (width + 0.025, depth + 0.025, 0.06), p.shade(0.8))
    elif p.style["tape"] == "tape":
        b.box((0, 0, height), (width * 1.002, 0.05, 0.004), (196, 170, 120))


_BOX = {"lid": ("closed", "open", "lidded"), "tape": ("tape", "plain")}


@parametric("box", {"card": 1.0}, _BOX)
def box(b: MeshBuilder, p: Params) -> None:
    """A box on the floor."""
    _box(b, p, p.uniform(0.3, 0.65), p.uniform(0.26, 0.48), p.uniform(0.2, 0.5))


@parametric("box:small", {"card": 0.6, "plastic": 0.4}, _BOX)
def small_box(b: MeshBuilder, p: Params) -> None:
    """A box for a table or a shelf."""
    _box(b, p, p.uniform(0.16, 0.34), p.uniform(0.14, 0.26), p.uniform(0.1, 0.24))


@parametric(
    "bag",
    {"fabric": 0.6, "leather": 0.3, "card": 0.1},
    {"form": ("tote", "backpack", "sports"), "handle": ("loop", "strap")},
)
def bag(b: MeshBuilder, p: Params) -> None:
    """A bag that stands on the floor."""
    form = p.style["form"]
    width = p.uniform(0.3, 0.42) if form != "sports" else p.uniform(0.48, 0.62)
    depth = p.uniform(0.14, 0.2) if form == "tote" else p.uniform(0.2, 0.28)
    height = {"tote": 0.34, "backpack": 0.46, "sports": 0.28}[form] * p.uniform(0.9, 1.15)
    power = {"tote": 7.0, "backpack": 4.0, "sports": 3.0}[form]
    b.cushion((0, 0, height / 2), (width, depth, height), p.paint.rgb, p.paint.surface, power=power)
    if form == "backpack":
        b.cushion((0, -depth / 2, height * 0.32), (width * 0.75, 0.1, height * 0.45), p.shade(0.8), p.paint.surface)
    grip = 0.16 if p.style["handle"] == "loop" else 0.26
    for side in (-1, 1):
        b.box((side * width * 0.2, 0, height + grip / 2 - 0.03), (0.025, 0.02, grip), p.shade(0.6))
    b.box((0, 0, height + grip - 0.04), (width * 0.4 + 0.025, 0.02, 0.03), p.shade(0.6))


@parametric(
    "trash can", {"plastic": 0.5, "metal": 0.5}, {"form": ("round", "square", "oval"), "top": ("open", "lid", "swing")}
)
def trash_can(b: MeshBuilder, p: Params) -> None:
    """A waste bin."""
    width, height = p.uniform(0.22, 0.36), p.uniform(0.28, 0.62)
    color, surface = p.paint.rgb, p.paint.surface
    sides, squash = (4, 0.85) if p.style["form"] == "square" else (20, 1.0 if p.style["form"] == "round" else 0.7)
    r = width / 2
    profile = [(r * 0.8, 0), (r, height)]
    if p.style["top"] == "open":
        profile += [(r * 0.93, height), (r * 0.75, 0.04)]
    elif p.style["top"] == "lid":
        profile += [(r * 1.05, height), (r * 1.05, height + 0.03), (r * 0.5, height + 0.06)]
    else:
        profile += [(r * 0.7, height + 0.12)]
    b.lathe((0, 0, 0), profile[:2], color, surface, sides, squash=squash)
    if len(profile) > 2:
        low = profile[1][1]
        part = [(radius, z - low) for radius, z in profile[1:]]
        if p.style["top"] == "open":
            b.lathe((0, 0, height), [(r, 0.0), (r * 0.99, 0.004)], p.shade(0.5), surface, sides, squash=squash)
        else:
            b.lathe((0, 0, low), part, p.shade(0.8), surface, sides, squash=squash)


@parametric(
    "vase", {"bright": 0.6, "ceramic": 0.4}, {"form": ("belly", "tube", "bottle", "cone"), "size": ("small", "large")}
)
def vase(b: MeshBuilder, p: Params) -> None:
    """A vase."""
    height = p.uniform(0.18, 0.28) if p.style["size"] == "small" else p.uniform(0.3, 0.45)
    r = height * p.uniform(0.26, 0.36)
    profiles = {
        "belly": [(0.5, 0), (1.0, 0.4), (0.9, 0.6), (0.45, 0.85), (0.6, 1.0)],
        "tube": [(0.7, 0), (0.72, 0.5), (0.75, 1.0)],
        "bottle": [(0.8, 0), (1.0, 0.3), (0.8, 0.5), (0.3, 0.65), (0.3, 1.0)],
        "cone": [(0.45, 0), (0.7, 0.5), (1.0, 1.0)],
    }
    b.lathe((0, 0, 0), [(x * r, z * height) for x, z in profiles[p.style["form"]]], p.paint.rgb, sides=18)


@parametric("books", {"bright": 1.0}, {"form": ("pile", "pair", "row"), "fall": ("neat", "messy")})
def books(b: MeshBuilder, p: Params) -> None:
    """A pile or a row of books; most of them are of the paint's colour."""
    form = p.style["form"]
    if form == "row":
        x = 0.0
        for _ in range(int(p.rng.integers(6, 12))):
            thick, tall = p.uniform(0.02, 0.045), p.uniform(0.19, 0.26)
            color = p.shade(p.rng.uniform(0.85, 1.1)) if p.rng.random() < 0.7 else sample_shade("white", p.rng)
            b.box((x + thick / 2, 0, tall / 2), (thick * 0.95, 0.17, tall), color)
            x += thick
        return
    count = 2 if form == "pair" else int(p.rng.integers(4, 8))
    z = 0.0
    for _ in range(count):
        thick, wide, deep = p.uniform(0.025, 0.05), p.uniform(0.22, 0.3), p.uniform(0.16, 0.22)
        shift = 0.03 if p.style["fall"] == "messy" else 0.006
        color = p.shade(p.rng.uniform(0.85, 1.1)) if p.rng.random() < 0.75 else sample_shade("beige", p.rng)
        dx, dy = p.rng.uniform(-shift, shift, 2)
        b.box((float(dx), float(dy), z + thick / 2), (wide, deep, thick), color)
        z += thick


@parametric(
    "bottle",
    {"plastic": 0.6, "bright": 0.4},
    {"form": ("wine", "soda", "jug"), "cap": ("cap", "cork"), "label": ("label", "none")},
)
def bottle(b: MeshBuilder, p: Params) -> None:
    """A bottle."""
    height = p.uniform(0.24, 0.36)
    r = height * {"wine": 0.14, "soda": 0.17, "jug": 0.3}[p.style["form"]]
    profile = [(r, 0), (r, height * 0.6), (r * 0.4, height * 0.8), (r * 0.35, height * 0.95)]
    b.lathe((0, 0, 0), profile, p.paint.rgb, sides=14)
    cap: Rgb = (190, 150, 100) if p.style["cap"] == "cork" else (230, 230, 230)
    b.cylinder((0, 0, height * 0.95), r * 0.4, height * 0.05, cap, sides=10)
    if p.style["label"] == "label":
        b.cylinder((0, 0, height * 0.2), r * 1.02, height * 0.25, (228, 222, 205), sides=14)
