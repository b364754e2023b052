"""Parametric kitchen and laundry appliances. Models face -y; see :mod:`tsp3d.synth.parametric`."""

from __future__ import annotations

import numpy as np

from tsp3d.synth.mesh import MeshBuilder, Surface
from tsp3d.synth.palette import Rgb
from tsp3d.synth.parametric import Params, parametric

_DARK: Rgb = (26, 26, 28)
_GRAY: Rgb = (120, 120, 124)


@parametric("refrigerator", {"appliance": 1.0}, {"doors": ("one", "two", "side"), "handle": ("bar", "none")})
def refrigerator(b: MeshBuilder, p: Params) -> None:
    """A refrigerator."""
    side = p.style["doors"] == "side"
    width = p.uniform(0.8, 0.95) if side else p.uniform(0.54, 0.68)
    depth, height = p.uniform(0.58, 0.7), p.uniform(1.35, 1.9)
    color = p.paint.rgb
    b.box((0, 0.03, height / 2), (width, depth - 0.06, height), p.shade(0.92))
    front = -depth / 2 + 0.025
    split = height * p.uniform(0.32, 0.6)
    if side:
        parts = [(-width / 4, width / 2, 0.05, height), (width / 4, width / 2, 0.05, height)]
    elif p.style["doors"] == "two":
        parts = [(0.0, width, 0.05, split), (0.0, width, split, height)]
    else:
        parts = [(0.0, width, 0.05, height)]
    for k, (x, wide, low, high) in enumerate(parts):
        b.box((x, front, (low + high) / 2), (wide - 0.01, 0.05, high - low - 0.01), color)
        if p.style["handle"] == "bar":
            sign = 1 if side and k == 0 else -1
            grip = (x + sign * (wide / 2 - 0.05), front - 0.045, (low + high) / 2)
            b.box(grip, (0.025, 0.03, (high - low) * 0.5), _GRAY, Surface.METAL)


@parametric(
    "oven", {"appliance": 1.0}, {"top": ("gas", "glass"), "window": ("wide", "small"), "knobs": ("front", "raised")}
)
def oven(b: MeshBuilder, p: Params) -> None:
    """A cooker: hob above, oven below."""
    width, depth, height = p.uniform(0.56, 0.78), p.uniform(0.58, 0.64), p.uniform(0.85, 0.92)
    b.box((0, 0, height / 2), (width, depth, height), p.paint.rgb)
    front = -depth / 2 - 0.008
    wide = 0.8 if p.style["window"] == "wide" else 0.5
    b.box((0, front, height * 0.45), (width * wide, 0.02, height * 0.36), _DARK, Surface.METAL)
    b.box((0, front - 0.025, height * 0.7), (width * 0.8, 0.025, 0.025), _GRAY, Surface.METAL)
    for x in np.linspace(-width * 0.38, width * 0.38, 5):
        b.box((float(x), front - 0.01, height * 0.87), (0.04, 0.03, 0.04), _DARK)
    b.box((0, 0, height + 0.005), (width * 0.96, depth * 0.96, 0.01), _DARK, Surface.METAL)
    for x in (-width * 0.22, width * 0.22):
        for y in (-depth * 0.22, depth * 0.22):
            lift = 0.03 if p.style["top"] == "gas" else 0.003
            b.cylinder((x, y, height + 0.01), 0.08, lift, (60, 60, 62) if lift > 0.01 else (50, 46, 46), Surface.METAL)
    if p.style["knobs"] == "raised":
        b.box((0, depth / 2 - 0.03, height + 0.09), (width, 0.05, 0.17), p.paint.rgb)


@parametric(
    "microwave", {"appliance": 1.0}, {"panel": ("right", "wide"), "feet": ("feet", "none"), "handle": ("bar", "none")}
)
def microwave(b: MeshBuilder, p: Params) -> None:
    """A microwave oven."""
    width, depth, height = p.uniform(0.44, 0.56), p.uniform(0.32, 0.42), p.uniform(0.25, 0.32)
    b.box((0, 0, height / 2 + 0.01), (width, depth, height), p.paint.rgb)
    panel = 0.22 if p.style["panel"] == "right" else 0.3
    x = -width * panel / 2
    b.box(
        (x, -depth / 2 - 0.005, height / 2 + 0.01), (width * (0.92 - panel), 0.012, height * 0.75), _DARK, Surface.METAL
    )
    b.box(
        (width / 2 * (1 - panel), -depth / 2 - 0.004, height * 0.75),
        (width * panel * 0.7, 0.01, height * 0.2),
        (40, 60, 50),
    )
    if p.style["handle"] == "bar":
        b.box((width * (0.46 - panel), -depth / 2 - 0.02, height / 2), (0.02, 0.03, height * 0.7), _GRAY, Surface.METAL)
    for side in (-1, 1):
        b.box((side * width * 0.4, 0, 0.005), (0.03, depth * 0.8, 0.01), _DARK)


@parametric("washing machine", {"appliance": 1.0}, {"door": ("chrome", "dark", "same"), "panel": ("drawer", "dial")})
def washing_machine(b: MeshBuilder, p: Params) -> None:
    """A front-loading washing machine."""
    width, depth, height = p.uniform(0.56, 0.64), p.uniform(0.5, 0.62), p.uniform(0.82, 0.9)
    b.box((0, 0, height / 2), (width, depth, height), p.paint.rgb)
    ring: Rgb = {"chrome": (176, 178, 182), "dark": (50, 50, 54), "same": p.shade(0.9)}[p.style["door"]]
    for radius, y, color in ((width * 0.33, -0.012, ring), (width * 0.24, -0.03, (46, 52, 60))):
        angle = np.arange(20) * 2 * np.pi / 20
        rim = np.c_[radius * np.cos(angle), np.full(20, -depth / 2 + y), height * 0.45 + radius * np.sin(angle)]
        i = np.arange(20)
        j = (i + 1) % 20
        faces = np.concatenate([np.c_[np.full(20, 40), i, j], np.c_[i, j, 20 + j], np.c_[i, 20 + j, 20 + i]])
        vertices = np.concatenate([rim, rim + np.array([0, 0.02, 0]), [[0, -depth / 2 + y, height * 0.45]]])
        b.add(vertices, faces, color, Surface.METAL)
    b.box((0, -depth / 2 - 0.004, height - 0.08), (width * 0.96, 0.012, 0.11), p.shade(0.88))
    x = -width * 0.3 if p.style["panel"] == "drawer" else width * 0.2
    b.box((x, -depth / 2 - 0.015, height - 0.08), (width * 0.25 if x < 0 else 0.06, 0.02, 0.06), (90, 92, 96))
