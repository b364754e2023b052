"""Parametric furniture: every class of ``CLASSES`` in several styles, any size and colour, no licence.

A model is fixed by (class, seed, split); its paint is chosen apart, so that a room can hold several equal chairs, or
the same chair in two colours. Validation models never share a style combination or a band of a size's range with
training.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tsp3d.synth.mesh import Mesh, MeshBuilder, Surface
from tsp3d.synth.palette import Rgb, sample_shade

VAL_BANDS = (3, 7)
_BANDS = 10


@dataclass(frozen=True)
class Paint:
    """The main colour and material of one instance."""

    name: str
    rgb: Rgb
    material: str | None
    surface: Surface


@dataclass(frozen=True)
class Shelf:
    """A horizontal place to put things on, in the model's frame (metres)."""

    x0: float
    x1: float
    y0: float
    y1: float
    z: float
    clear: float = 2.0
    """Free height above."""


@dataclass(frozen=True)
class Built:
    """A parametric model: its mesh, where things can stand on it, and its style's name."""

    mesh: Mesh
    shelves: tuple[Shelf, ...]
    style: str


class Params:
    """Draws a model's sizes; training and validation draw from different bands of every range."""

    def __init__(self, rng: np.random.Generator, split: str, paint: Paint, style: dict[str, str]) -> None:
        self.rng = rng
        self.paint = paint
        self.style = style
        self._bands = VAL_BANDS if split == "val" else tuple(i for i in range(_BANDS) if i not in VAL_BANDS)
        metal = [(60, 60, 62), (170, 172, 174), (24, 24, 26)]
        self.metal: Rgb = metal[int(rng.integers(3))]
        self.wood: Rgb = sample_shade(("brown", "beige", "brown")[int(rng.integers(3))], rng, wooden=True)

    def uniform(self, low: float, high: float) -> float:
        """A size between ``low`` and ``high`` from this split's bands."""
        band = self._bands[int(self.rng.integers(len(self._bands)))]
        return low + (high - low) * (band + float(self.rng.random())) / _BANDS

    def shade(self, factor: float) -> Rgb:
        """The main colour, darker or lighter."""
        red, green, blue = np.clip(np.array(self.paint.rgb) * factor, 4, 252).astype(int)
        return int(red), int(green), int(blue)


Maker = Callable[[MeshBuilder, Params], "list[Shelf] | None"]
_MAKERS: dict[str, tuple[Maker, dict[str, tuple[str, ...]], dict[str, float]]] = {}

PAINTS: dict[str, tuple[str | None, Surface, dict[str, float]]] = {
    "wood": ("wooden", Surface.WOOD, {"brown": 5, "beige": 3, "white": 1.5, "black": 1}),
    "painted": (None, Surface.PLAIN, {"white": 4, "gray": 2, "black": 1.5, "blue": 1, "green": 1, "red": 1,
                "beige": 1}),
    "fabric": ("fabric", Surface.FABRIC, {"gray": 4, "blue": 3, "beige": 2.5, "green": 2, "red": 2, "brown": 1.5,
               "black": 1.5, "white": 1.5, "yellow": 1, "orange": 1, "pink": 1, "purple": 1}),
    "leather": ("leather", Surface.PLAIN, {"black": 4, "brown": 4, "white": 1, "red": 1, "beige": 1}),
    "plastic": ("plastic", Surface.PLAIN, {"white": 3, "black": 2, "red": 2, "gray": 2, "blue": 2, "green": 1.5,
                "orange": 1.5, "yellow": 1.5, "pink": 0.7, "purple": 0.5}),
    "metal": ("metal", Surface.METAL, {"gray": 4, "black": 3, "white": 2, "red": 0.5, "blue": 0.5}),
    "dark": ("plastic", Surface.METAL, {"black": 5, "gray": 1}),
    "ceramic": (None, Surface.PLAIN, {"white": 9, "beige": 1}),
    "appliance": ("metal", Surface.PLAIN, {"white": 5, "gray": 4, "black": 2, "red": 0.5}),
    "card": (None, Surface.PLAIN, {"brown": 5, "beige": 2, "white": 1.5, "blue": 0.8, "red": 0.5, "green": 0.5,
             "black": 0.5}),
    "plant": (None, Surface.LEAF, {"green": 1}),
    "wall": (None, Surface.PLAIN, {"white": 1}),
    "bright": (None, Surface.PLAIN, {"blue": 2, "red": 2, "green": 1.5, "yellow": 1.5, "white": 1.5, "black": 1,
               "orange": 1, "purple": 1, "pink": 1, "brown": 1}),
    "brick": (None, Surface.BRICK, {"red": 1, "brown": 1, "gray": 1, "white": 1, "beige": 1}),
}  # fmt: skip
"""Kinds of paint: material word, surface, weights of the colour names."""


def parametric(
    name: str, paints: dict[str, float], styles: dict[str, tuple[str, ...]]
) -> Callable[[Maker], Maker]:  # fmt: skip
    """Registers the decorated builder as the parametric model of a class."""

    def register(maker: Maker) -> Maker:
        _MAKERS[name] = (maker, styles, paints)
        return maker

    return register


def style_combinations(name: str, split: str) -> list[dict[str, str]]:
    """The style combinations of a class that a split may use; the two splits' lists are disjoint."""
    styles = _MAKERS[name][1]
    combinations = [dict(zip(styles, values)) for values in itertools.product(*styles.values())]
    ordered = sorted(combinations, key=lambda c: zlib.crc32(f"{name}/{style_name(c)}".encode()))
    held_out = max(1, round(0.2 * len(ordered)))
    return ordered[:held_out] if split == "val" else ordered[held_out:]


def style_name(style: dict[str, str]) -> str:
    """The style combination as one word."""
    return "-".join(style.values())


def parametric_classes() -> tuple[str, ...]:
    """Names of the classes that have a parametric model."""
    return tuple(_MAKERS)


def _pick(weights: dict[str, float], rng: np.random.Generator) -> str:
    names = list(weights)
    values = np.array([weights[name] for name in names])
    return names[int(rng.choice(len(names), p=values / values.sum()))]


def choose_paint(name: str, rng: np.random.Generator, avoid: str | None = None) -> Paint:
    """A paint that suits the class; not of the colour ``avoid`` where there is a choice."""
    kind = _pick(_MAKERS[name][2], rng)
    material, surface, colors = PAINTS[kind]
    if avoid in colors and len(colors) > 1:
        colors = {color: weight for color, weight in colors.items() if color != avoid}
    color = _pick(colors, rng)
    return Paint(color, sample_shade(color, rng, wooden=kind == "wood"), material, surface)


def build_parametric(name: str, seed: int, split: str, paint: Paint) -> Built:
    """The model of class ``name`` that ``seed`` stands for, in the given paint.

    Raises:
        KeyError: The class has no parametric model.
    """
    maker, _, _ = _MAKERS[name]
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    choices = style_combinations(name, split)
    style = choices[int(rng.integers(len(choices)))]
    builder = MeshBuilder()
    shelves = maker(builder, Params(rng, split, paint, style))
    raw = builder.build(recenter=False)
    low, high = raw.bounds
    dx, dy, dz = -(low[0] + high[0]) / 2, -(low[1] + high[1]) / 2, -low[2]
    moved = tuple(
        Shelf(s.x0 + float(dx), s.x1 + float(dx), s.y0 + float(dy), s.y1 + float(dy), s.z + float(dz), s.clear)
        for s in shelves or ()
    )
    return Built(raw.placed(float(dx), float(dy), float(dz), 0.0), moved, style_name(style))
