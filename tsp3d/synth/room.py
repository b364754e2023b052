"""Generates furnished rooms: outline, finish, furniture by recipe, all from one seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tsp3d.synth.assets import AssetLibrary
from tsp3d.synth.mesh import Mesh, Surface, merge
from tsp3d.synth.palette import Rgb, sample_shade
from tsp3d.synth.room_geometry import Finish, Outline, shell_mesh
from tsp3d.synth.room_groups import decorate, doors, windows
from tsp3d.synth.room_placement import Placed, Placer
from tsp3d.synth.room_recipes import RECIPES

MAX_OBJECTS = 40


@dataclass(frozen=True)
class Room:
    """A furnished room before it is scanned."""

    kind: str
    outline: Outline
    finish: Finish
    placed: tuple[Placed, ...]
    entrance: tuple[float, float, float] | None

    def mesh(self) -> tuple[Mesh, np.ndarray]:
        """The whole room as one mesh, and (F,) each face's index in ``placed`` (-1 for the room itself)."""
        shell = shell_mesh(self.outline, self.finish)
        parts, owners = [shell], [np.full(len(shell.faces), -1, dtype=np.int32)]
        for index, piece in enumerate(self.placed):
            parts.append(piece.asset.mesh.placed(piece.x, piece.y, piece.z, piece.yaw))
            owners.append(np.full(len(piece.asset.mesh.faces), index, dtype=np.int32))
        return merge(parts), np.concatenate(owners)


_SIZES: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "bathroom": ((2.3, 3.6), (2.2, 3.4)),
    "bedroom": ((3.2, 5.2), (3.0, 4.6)),
    "office": ((3.2, 6.2), (3.0, 5.2)),
    "kitchen": ((3.2, 5.4), (3.0, 4.8)),
    "living room": ((4.0, 6.8), (3.6, 5.8)),
    "mixed": ((4.2, 7.0), (3.8, 6.0)),
}


def _outline(kind: str, rng: np.random.Generator) -> Outline:
    (w0, w1), (d0, d1) = _SIZES[kind]
    width, depth = float(rng.uniform(w0, w1)), float(rng.uniform(d0, d1))
    if rng.random() < 0.5:
        width, depth = depth, width
    notch = None
    if min(width, depth) > 3.6 and rng.random() < 0.2:
        notch = (float(rng.uniform(0.22, 0.42)) * width, float(rng.uniform(0.22, 0.42)) * depth)
    return Outline(width, depth, float(rng.uniform(2.4, 2.9)), notch)


def _finish(kind: str, rng: np.random.Generator) -> Finish:
    draw = rng.random()
    if kind in ("bathroom", "kitchen") and draw < 0.7:
        tile = ("white", "gray", "beige", "black", "brown")[int(rng.choice(5, p=[0.35, 0.25, 0.25, 0.05, 0.1]))]
        floor, surface = sample_shade(tile, rng), Surface.TILES
    elif draw < 0.6:
        floor, surface = sample_shade(("brown", "beige")[int(rng.integers(2))], rng, wooden=True), Surface.PLANKS
    elif draw < 0.9:
        carpet = ("gray", "beige", "blue", "brown", "green", "red")[
            int(rng.choice(6, p=[0.4, 0.25, 0.12, 0.13, 0.05, 0.05]))
        ]
        floor, surface = sample_shade(carpet, rng), Surface.CARPET
    else:
        floor, surface = sample_shade("gray", rng), Surface.TILES
    wall: Rgb = sample_shade("white", rng)
    draw = rng.random()
    if draw < 0.25:
        wall = sample_shade("beige", rng)
    elif draw < 0.45:
        pale = np.array(sample_shade(("blue", "green", "yellow", "pink", "gray")[int(rng.integers(5))], rng))
        red, green, blue = (0.35 * pale + 0.65 * 240).astype(int).tolist()
        wall = (red, green, blue)
    walls = (wall,)
    if rng.random() < 0.15:
        accent = sample_shade(("blue", "green", "red", "gray", "orange")[int(rng.integers(5))], rng)
        walls = (accent, wall, wall, wall, wall, wall)
    wall_surface = Surface.TILES if kind == "bathroom" and rng.random() < 0.5 else Surface.PLAIN
    return Finish(floor, surface, walls, wall_surface, (240, 240, 238))


def build_room(library: AssetLibrary, rng: np.random.Generator, kind: str | None = None) -> Room:
    """A furnished room.

    Args:
        library: Where the furniture comes from; its split decides which models.
        rng: The only source of chance.
        kind: One of ``RECIPES``; drawn by their shares where None.

    Raises:
        KeyError: ``kind`` is no recipe.
    """
    kinds = list(RECIPES)
    shares = np.array([share for _, share in RECIPES.values()])
    drawn = kinds[int(rng.choice(len(kinds), p=shares / shares.sum()))]
    kind = kind or drawn
    outline = _outline(kind, rng)
    placer = Placer(outline, library, rng)
    area = outline.width * outline.depth
    small = kind == "bathroom"
    door = doors(placer)
    if kind == "kitchen":
        RECIPES[kind][0](placer)  # its row of units is wanted first
    windows(placer, 1 if small else int(rng.integers(1, 3 if area < 16 else 4)), 0.25 if small else 0.55)
    if kind != "kitchen":
        RECIPES[kind][0](placer)
    dense = float(rng.uniform(0.5, 1.4))
    decorate(
        placer,
        int(rng.integers(1, 3 if small else 6)),
        int(dense * min(area * 0.4, 8)),
        int(dense * min(area * 0.28, 7)),
    )
    entrance = None
    if door is not None:
        piece = placer.placed[door]
        facing = piece.yaw - np.pi / 2
        entrance = (
            float(piece.x + 0.25 * np.cos(facing)),
            float(piece.y + 0.25 * np.sin(facing)),
            float((facing + np.pi) % (2 * np.pi) - np.pi),
        )
    return Room(kind, outline, _finish(kind, rng), tuple(placer.placed), entrance)
