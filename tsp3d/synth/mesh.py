"""Coloured triangle meshes and the primitives that parametric furniture is built of.

A model's own frame: metres, z up, standing on z = 0, centred on x = y = 0, facing -y.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from tsp3d.synth.palette import Rgb


class Surface(IntEnum):
    """How the scanner sees a face: its texture and how well it returns depth."""

    PLAIN = 0
    WOOD = 1
    FABRIC = 2
    METAL = 3
    GLASS = 4
    LEAF = 5
    PLANKS = 6
    TILES = 7
    CARPET = 8
    BRICK = 9
    STRIPES = 10


@dataclass(frozen=True)
class Mesh:
    """Triangles with a colour and a surface each."""

    vertices: NDArray[np.float32]  # (V, 3) metres
    faces: NDArray[np.int32]  # (F, 3)
    colors: NDArray[np.uint8]  # (F, 3) sRGB
    surfaces: NDArray[np.uint8]  # (F,) Surface

    @property
    def bounds(self) -> NDArray[np.float32]:
        """(2, 3): lower and upper corner."""
        return np.stack([self.vertices.min(axis=0), self.vertices.max(axis=0)])

    @property
    def size(self) -> tuple[float, float, float]:
        """Extents (dx, dy, dz)."""
        low, high = self.bounds
        dx, dy, dz = (high - low).tolist()
        return dx, dy, dz

    def areas(self) -> NDArray[np.float32]:
        """(F,) areas in square metres."""
        a, b, c = (self.vertices[self.faces[:, i]] for i in range(3))
        return 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)

    def placed(self, x: float, y: float, z: float, yaw: float) -> Mesh:
        """Turned by ``yaw`` about z and moved."""
        cos, sin = np.cos(yaw), np.sin(yaw)
        turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]], dtype=np.float32)
        vertices = self.vertices @ turn + np.array([x, y, z], dtype=np.float32)
        return Mesh(vertices.astype(np.float32), self.faces, self.colors, self.surfaces)

    def scaled(self, factors: tuple[float, float, float]) -> Mesh:
        """Stretched along its own axes."""
        return Mesh(self.vertices * np.array(factors, dtype=np.float32), self.faces, self.colors, self.surfaces)


def merge(meshes: list[Mesh]) -> Mesh:
    """All meshes as one. Raises ValueError on an empty list."""
    if not meshes:
        raise ValueError("merge: no meshes given")
    offsets = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.faces + np.int32(offset) for mesh, offset in zip(meshes, offsets)]).astype(np.int32),
        np.concatenate([mesh.colors for mesh in meshes]),
        np.concatenate([mesh.surfaces for mesh in meshes]),
    )


_BOX_FACES = np.array(
    [[0, 2, 1], [0, 3, 2], [4, 5, 6], [4, 6, 7], [0, 1, 5], [0, 5, 4]]
    + [[1, 2, 6], [1, 6, 5], [2, 3, 7], [2, 7, 6], [3, 0, 4], [3, 4, 7]],
    dtype=np.int32,
)


class MeshBuilder:
    """Collects primitives; ``build`` returns them as one mesh, centred and standing on the floor."""

    def __init__(self) -> None:
        self._parts: list[Mesh] = []

    def add(
        self, vertices: NDArray[np.generic], faces: NDArray[np.generic], color: Rgb, surface: Surface = Surface.PLAIN
    ) -> None:
        """Any triangles: vertices (V, 3), faces (F, 3)."""
        count = len(faces)
        self._parts.append(
            Mesh(
                np.asarray(vertices, dtype=np.float32),
                np.asarray(faces, dtype=np.int32),
                np.tile(np.array(color, dtype=np.uint8), (count, 1)),
                np.full(count, surface, dtype=np.uint8),
            )
        )

    def box(
        self,
        center: tuple[float, float, float],
        size: tuple[float, float, float],
        color: Rgb,
        surface: Surface = Surface.PLAIN,
        tilt: float = 0.0,
    ) -> None:
        """A box; ``tilt`` turns it about its own x axis (radians; positive leans the top backwards, to +y)."""
        x, y, z = (np.array(size) / 2).tolist()
        corners = np.array([[-x, -y], [x, -y], [x, y], [-x, y]])
        vertices = np.concatenate([np.c_[corners, np.full(4, -z)], np.c_[corners, np.full(4, z)]])
        if tilt:
            cos, sin = np.cos(tilt), np.sin(tilt)
            vertices = vertices @ np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
        self.add(vertices + np.array(center), _BOX_FACES, color, surface)

    def cylinder(
        self,
        base: tuple[float, float, float],
        radius: float,
        height: float,
        color: Rgb,
        surface: Surface = Surface.PLAIN,
        top_radius: float | None = None,
        sides: int = 14,
        lean: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        """A closed (truncated) cone standing on ``base``; its top is moved by ``lean`` (x, y)."""
        self.lathe(
            base, [(radius, 0.0), (radius if top_radius is None else top_radius, height)], color, surface, sides, lean
        )

    def lathe(
        self,
        base: tuple[float, float, float],
        profile: list[tuple[float, float]],
        color: Rgb,
        surface: Surface = Surface.PLAIN,
        sides: int = 14,
        lean: tuple[float, float] = (0.0, 0.0),
        squash: float = 1.0,
    ) -> None:
        """A solid of revolution: ``profile`` lists (radius, z) from the bottom up; ``squash`` scales it along y."""
        angle = np.arange(sides) * 2 * np.pi / sides
        height = max(profile[-1][1], 1e-6)
        rings = []
        for radius, z in profile:
            share = z / height
            x, y = radius * np.cos(angle) + lean[0] * share, squash * radius * np.sin(angle) + lean[1] * share
            rings.append(np.c_[x, y, np.full(sides, z)])
        count = len(profile)
        caps = np.array([[0, 0, profile[0][1]], [lean[0], lean[1], profile[-1][1]]])
        vertices = np.concatenate(rings + [caps]) + np.array(base)
        i = np.arange(sides)
        j = (i + 1) % sides
        faces = [np.c_[j, i, np.full(sides, count * sides)]]
        for ring in range(count - 1):
            low, high = ring * sides, (ring + 1) * sides
            faces += [np.c_[low + i, low + j, high + j], np.c_[low + i, high + j, high + i]]
        last = (count - 1) * sides
        faces.append(np.c_[last + i, last + j, np.full(sides, count * sides + 1)])
        self.add(vertices, np.concatenate(faces), color, surface)

    def cushion(
        self,
        center: tuple[float, float, float],
        size: tuple[float, float, float],
        color: Rgb,
        surface: Surface = Surface.FABRIC,
        tilt: float = 0.0,
        power: float = 4.0,
    ) -> None:
        """A rounded block (superellipsoid)."""
        u = np.linspace(-np.pi / 2, np.pi / 2, 7)
        v = np.arange(14) * 2 * np.pi / 14

        def soft(value: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.sign(value) * np.abs(value) ** (2.0 / power)

        grid_u, grid_v = np.meshgrid(u, v, indexing="ij")
        ring_radius = soft(np.cos(grid_u))
        unit = np.stack(
            [ring_radius * soft(np.cos(grid_v)), ring_radius * soft(np.sin(grid_v)), soft(np.sin(grid_u))], -1
        )
        vertices = unit.reshape(-1, 3) * (np.array(size) / 2)
        if tilt:
            cos, sin = np.cos(tilt), np.sin(tilt)
            vertices = vertices @ np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
        ring = np.arange(14)
        after = (ring + 1) % 14
        faces = []
        for level in range(6):
            low, high = level * 14, (level + 1) * 14
            faces += [np.c_[low + ring, low + after, high + after], np.c_[low + ring, high + after, high + ring]]
        self.add(vertices + np.array(center), np.concatenate(faces), color, surface)

    def legs(
        self, width: float, depth: float, height: float, thickness: float, color: Rgb, surface: Surface,
        round_: bool = False,
    ) -> None:  # fmt: skip
        """Four legs at the corners of a (width x depth) rectangle, from the floor to ``height``."""
        x, y = width / 2 - thickness / 2, depth / 2 - thickness / 2
        for sx in (-1, 1):
            for sy in (-1, 1):
                if round_:
                    self.cylinder(
                        (sx * x, sy * y, 0), thickness * 0.35, height, color, surface, top_radius=thickness * 0.55,
                        sides=8,
                    )  # fmt: skip
                else:
                    self.box((sx * x, sy * y, height / 2), (thickness, thickness, height), color, surface)

    def build(self, recenter: bool = True) -> Mesh:
        """The mesh so far, moved so that it stands on z = 0 centred on x = y = 0."""
        mesh = merge(self._parts)
        if recenter:
            low, high = mesh.bounds
            shift = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]], dtype=np.float32)
            return Mesh(mesh.vertices - shift, mesh.faces, mesh.colors, mesh.surfaces)
        return mesh
