"""Room outlines, footprints and collisions. Metres, z up; the room is centred on x = y = 0 with its floor at z = 0."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tsp3d.synth.mesh import Mesh, MeshBuilder, Surface, merge
from tsp3d.synth.palette import Rgb


@dataclass(frozen=True)
class Footprint:
    """A turned rectangle with a height interval."""

    x: float
    y: float
    half_x: float
    half_y: float
    yaw: float
    z0: float
    z1: float

    def corners(self) -> np.ndarray:
        """(4, 2) corners."""
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        local = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (self.half_x, self.half_y)
        return local @ np.array([[cos, sin], [-sin, cos]]) + (self.x, self.y)

    def grown(self, margin: float) -> Footprint:
        """With ``margin`` added on each side (or taken away, where negative)."""
        half_x, half_y = max(self.half_x + margin, 0.005), max(self.half_y + margin, 0.005)
        return Footprint(self.x, self.y, half_x, half_y, self.yaw, self.z0, self.z1)


def overlap(a: Footprint, b: Footprint) -> bool:
    """Whether two footprints overlap in plan and height (separating axes)."""
    if a.z0 >= b.z1 - 1e-4 or b.z0 >= a.z1 - 1e-4:
        return False
    reach = np.hypot(a.half_x, a.half_y) + np.hypot(b.half_x, b.half_y)
    if (a.x - b.x) ** 2 + (a.y - b.y) ** 2 >= reach**2:
        return False
    first, second = a.corners(), b.corners()
    for yaw in (a.yaw, b.yaw):
        axes = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
        p, q = first @ axes.T, second @ axes.T
        if (p.max(axis=0) <= q.min(axis=0) + 1e-6).any() or (q.max(axis=0) <= p.min(axis=0) + 1e-6).any():
            return False
    return True


@dataclass(frozen=True)
class Wall:
    """A wall from ``start`` along ``direction`` for ``length`` metres; ``normal`` points into the room."""

    start: tuple[float, float]
    direction: tuple[float, float]
    normal: tuple[float, float]
    length: float

    @property
    def facing(self) -> float:
        """Yaw of a model (whose front is -y) that stands with its back to this wall."""
        return float(np.arctan2(self.normal[0], -self.normal[1]))

    def point(self, along: float, out: float) -> tuple[float, float]:
        """The point ``along`` metres from the start and ``out`` metres from the wall."""
        return (
            self.start[0] + self.direction[0] * along + self.normal[0] * out,
            self.start[1] + self.direction[1] * along + self.normal[1] * out,
        )


@dataclass(frozen=True)
class Outline:
    """A rectangular or L-shaped room."""

    width: float
    depth: float
    height: float
    notch: tuple[float, float] | None = None
    """Size of the rectangle that is missing at the corner (+x, +y), or None."""
    walls: tuple[Wall, ...] = field(init=False)

    def __post_init__(self) -> None:
        w, d = self.width / 2, self.depth / 2
        if self.notch is None:
            points = [(-w, -d), (w, -d), (w, d), (-w, d)]
        else:
            nx, ny = self.notch
            points = [(-w, -d), (w, -d), (w, d - ny), (w - nx, d - ny), (w - nx, d), (-w, d)]
        walls = []
        for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1]):
            length = float(np.hypot(x1 - x0, y1 - y0))
            ux, uy = (x1 - x0) / length, (y1 - y0) / length
            walls.append(Wall((x0, y0), (ux, uy), (-uy, ux), length))
        object.__setattr__(self, "walls", tuple(walls))

    def contains(self, points: np.ndarray, margin: float = 0.0) -> np.ndarray:
        """(N,) whether the points (N, 2) are inside, at least ``margin`` from every wall."""
        w, d = self.width / 2 - margin, self.depth / 2 - margin
        inside = (np.abs(points[:, 0]) <= w + 1e-6) & (np.abs(points[:, 1]) <= d + 1e-6)
        if self.notch is not None:
            nx, ny = self.notch
            inside &= ~(
                (points[:, 0] > self.width / 2 - nx - margin + 1e-6)
                & (points[:, 1] > self.depth / 2 - ny - margin + 1e-6)
            )
        return inside

    def holds(self, footprint: Footprint) -> bool:
        """Whether the footprint lies wholly inside."""
        if not bool(self.contains(footprint.corners()).all()) or footprint.z1 > self.height:
            return False
        if self.notch is None:
            return True
        nx, ny = self.notch
        corner = Footprint(
            self.width / 2 - nx / 2, self.depth / 2 - ny / 2, nx / 2 - 0.001, ny / 2 - 0.001, 0.0, 0.0, self.height
        )
        return not overlap(corner, footprint)


@dataclass(frozen=True)
class Finish:
    """Colours and surfaces of floor, walls and ceiling."""

    floor: Rgb
    floor_surface: Surface
    walls: tuple[Rgb, ...]
    wall_surface: Surface
    ceiling: Rgb


def shell_mesh(outline: Outline, finish: Finish) -> Mesh:
    """Floor, walls, skirting and ceiling of a room."""
    b = MeshBuilder()
    w, d, h = outline.width / 2, outline.depth / 2, outline.height
    rectangles = [(-w, w, -d, d)]
    if outline.notch is not None:
        nx, ny = outline.notch
        rectangles = [(-w, w, -d, d - ny), (-w, w - nx, d - ny, d)]
    quad = np.array([[0, 1, 2], [0, 2, 3]])
    for x0, x1, y0, y1 in rectangles:
        flat = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
        b.add(np.c_[flat, np.zeros(4)], quad, finish.floor, finish.floor_surface)
        b.add(np.c_[flat, np.full(4, h)], quad[:, ::-1], finish.ceiling)
    parts = [b.build(recenter=False)]
    for index, wall in enumerate(outline.walls):
        b = MeshBuilder()
        (x0, y0), (x1, y1) = wall.start, wall.point(wall.length, 0.0)
        vertices = np.array([[x0, y0, 0], [x1, y1, 0], [x1, y1, h], [x0, y0, h]])
        b.add(vertices, quad, finish.walls[index % len(finish.walls)], finish.wall_surface)
        cx, cy = wall.point(wall.length / 2, 0.006)
        size = (abs(wall.direction[0]) * wall.length + 0.012, abs(wall.direction[1]) * wall.length + 0.012, 0.07)
        b.box((cx, cy, 0.035), size, (226, 224, 218))
        parts.append(b.build(recenter=False))
    return merge(parts)
