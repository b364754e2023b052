"""Putting furniture into a room: against walls, on walls, on furniture, around tables, without overlaps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tsp3d.synth.assets import Asset, AssetLibrary, Design
from tsp3d.synth.room_geometry import Footprint, Outline, Wall, overlap


@dataclass(frozen=True)
class Placed:
    """A piece of furniture at its place."""

    asset: Asset
    x: float
    y: float
    z: float
    yaw: float
    footprint: Footprint
    support: str = "floor"
    parent: int = -1
    """Index of the placed piece that it stands on, or -1."""
    labelled: bool = True
    neighbour: int = -1
    """Index of a piece that it may stand slightly under (a chair and its table), or -1."""


class Placer:
    """Holds what stands in the room so far and finds free places."""

    def __init__(self, outline: Outline, library: AssetLibrary, rng: np.random.Generator) -> None:
        self.outline = outline
        self.library = library
        self.rng = rng
        self.placed: list[Placed] = []
        self.reserved: list[Footprint] = []

    def asset(self, key: str, design: Design | None = None, avoid: str | None = None) -> Asset:
        """A piece of class ``key``, of the given design where there is one."""
        return self.library.make(design or self.library.design(key, self.rng), self.rng, avoid)

    def of(self, *names: str) -> list[int]:
        """Indices of the labelled pieces of these classes."""
        return [i for i, piece in enumerate(self.placed) if piece.asset.name in names and piece.labelled]

    def footprint(self, asset: Asset, x: float, y: float, z: float, yaw: float) -> Footprint:
        """The plan rectangle and height interval that the asset would take."""
        dx, dy, dz = asset.mesh.size
        return Footprint(x, y, dx / 2, dy / 2, yaw, z, z + dz)

    def free(self, footprint: Footprint, ignore: tuple[int, ...] = (), reserved: bool = True) -> bool:
        """Whether the footprint is inside the room and touches nothing."""
        if not self.outline.holds(footprint):
            return False
        if any(overlap(footprint, piece.footprint) for i, piece in enumerate(self.placed) if i not in ignore):
            return False
        return not (reserved and any(overlap(footprint, zone) for zone in self.reserved))

    def put(
        self, asset: Asset, x: float, y: float, z: float, yaw: float, support: str = "floor", parent: int = -1,
        labelled: bool = True, neighbour: int = -1,
    ) -> int:  # fmt: skip
        """Places the asset there, unchecked; returns its index."""
        footprint = self.footprint(asset, x, y, z, yaw)
        self.placed.append(
            Placed(asset, x, y, z, yaw, footprint, support, parent, labelled and asset.name != "clutter", neighbour)
        )
        return len(self.placed) - 1

    def reserve(self, piece: int, distance: float) -> None:
        """Keeps ``distance`` metres in front of a piece free."""
        f = self.placed[piece].footprint
        out = f.half_y + distance / 2
        x, y = f.x + np.sin(f.yaw) * out, f.y - np.cos(f.yaw) * out
        self.reserved.append(Footprint(float(x), float(y), f.half_x, distance / 2, f.yaw, 0.0, 2.0))

    def _walls(self) -> list[Wall]:
        lengths = np.array([wall.length for wall in self.outline.walls])
        order = self.rng.choice(len(lengths), size=len(lengths), replace=False, p=lengths / lengths.sum())
        return [self.outline.walls[i] for i in order]

    def against_wall(
        self, asset: Asset, clearance: float = 0.5, z: float = 0.0, gap: float | None = None, tries: int = 8,
        wall: Wall | None = None, along: float | None = None, support: str = "floor", corner: bool = False,
        reserve: bool = True,
    ) -> int | None:  # fmt: skip
        """With its back to a wall, ``clearance`` metres in front kept free; None where no place was found."""
        dx, dy, dz = asset.mesh.size
        for candidate in [wall] if wall else self._walls():
            if candidate.length < dx + 0.02:
                continue
            for _ in range(tries):
                low, high = dx / 2 + 0.01, candidate.length - dx / 2 - 0.01
                place = float(self.rng.uniform(low, high)) if along is None else along
                if corner:
                    place = low + 0.02 if self.rng.random() < 0.5 else high - 0.02
                space = float(self.rng.uniform(0.015, 0.06)) if gap is None else gap
                x, y = candidate.point(min(max(place, low), high), dy / 2 + space)
                yaw = candidate.facing
                if not self.free(self.footprint(asset, x, y, z, yaw)):
                    continue
                if clearance > 0:
                    out = dy / 2 + clearance / 2 + 0.01
                    fx, fy = x + candidate.normal[0] * out, y + candidate.normal[1] * out
                    front = Footprint(fx, fy, dx / 2 * 0.9, clearance / 2, yaw, 0.02, min(dz, 1.8))
                    if not self.free(front, reserved=False):
                        continue
                index = self.put(asset, x, y, z, yaw, support)
                if clearance > 0 and reserve:
                    self.reserve(index, clearance * 0.8)
                return index
        return None

    def on_wall(
        self, asset: Asset, low: float, high: float, tries: int = 10, labelled: bool = True, wall: Wall | None = None
    ) -> int | None:
        """Hung on a wall with its lower edge between ``low`` and ``high`` metres."""
        dx, dy, dz = asset.mesh.size
        for _ in range(tries):
            chosen = wall or self._walls()[0]
            if chosen.length < dx + 0.1:
                continue
            z = float(self.rng.uniform(low, high))
            x, y = chosen.point(float(self.rng.uniform(dx / 2 + 0.05, chosen.length - dx / 2 - 0.05)), dy / 2 + 0.004)
            footprint = self.footprint(asset, x, y, z, chosen.facing)
            if z + dz < self.outline.height - 0.02 and self.free(footprint, reserved=False):
                return self.put(asset, x, y, z, chosen.facing, "wall", labelled=labelled)
        return None

    def standing(
        self,
        asset: Asset,
        margin: float = 0.05,
        gap: float = 0.04,
        tries: int = 20,
        square: bool = True,
        labelled: bool = True,
    ) -> int | None:
        """Somewhere on the floor."""
        dx, dy, _ = asset.mesh.size
        w, d = self.outline.width / 2 - margin, self.outline.depth / 2 - margin
        for _ in range(tries):
            yaw = float(self.rng.integers(4)) * np.pi / 2 if square else float(self.rng.uniform(-np.pi, np.pi))
            yaw += float(self.rng.normal(0, 0.06))
            x, y = float(self.rng.uniform(-w, w)), float(self.rng.uniform(-d, d))
            if self.free(self.footprint(asset, x, y, 0.0, yaw).grown(gap)):
                return self.put(asset, x, y, 0.0, yaw, labelled=labelled)
        return None

    def near_wall(self, asset: Asset) -> int | None:
        """On the floor by a wall or in a corner, as boxes, bags and plants stand."""
        return self.against_wall(
            asset, 0.0, gap=float(self.rng.uniform(0.02, 0.1)), corner=bool(self.rng.random() < 0.35)
        )

    def beside(self, asset: Asset, piece: int, side: int, gap: float = 0.05) -> int | None:
        """Beside a piece that stands at a wall (side -1 or 1), backs in line."""
        f = self.placed[piece].footprint
        dx, dy, _ = asset.mesh.size
        along, back = side * (f.half_x + dx / 2 + gap), f.half_y - dy / 2
        cos, sin = np.cos(f.yaw), np.sin(f.yaw)
        x, y = float(f.x + cos * along - sin * back), float(f.y + sin * along + cos * back)
        if not self.free(self.footprint(asset, x, y, 0.0, f.yaw), reserved=False):
            return None
        return self.put(asset, x, y, 0.0, f.yaw)

    def at_front(
        self, asset: Asset, piece: int, along: float, side: float = -np.pi / 2, gap: float = 0.1,
        turn: float = 0.25, tuck: bool = True,
    ) -> int | None:  # fmt: skip
        """At a side of a piece, facing it, as chairs do. ``side`` is the outward direction in the piece's frame."""
        f = self.placed[piece].footprint
        dy = asset.mesh.size[1]
        half = f.half_y if abs(np.sin(side)) > 0.5 else f.half_x
        out = half + dy / 2 + gap
        local = np.array([np.cos(side), np.sin(side)]) * out + np.array([-np.sin(side), np.cos(side)]) * along
        cos, sin = np.cos(f.yaw), np.sin(f.yaw)
        x, y = float(f.x + cos * local[0] - sin * local[1]), float(f.y + sin * local[0] + cos * local[1])
        # The front (-y) looks back at the piece, against the outward direction.
        yaw = float(f.yaw + side - np.pi / 2) + float(self.rng.normal(0, turn))
        ignore = (piece,) if tuck else ()
        if not self.free(self.footprint(asset, x, y, 0.0, yaw), ignore=ignore, reserved=False):
            return None
        return self.put(asset, x, y, 0.0, yaw, neighbour=piece)

    def on_top(
        self, asset: Asset, piece: int, at: str = "any", yaw: float | None = None, labelled: bool = True,
        tries: int = 8,
    ) -> int | None:  # fmt: skip
        """On a shelf of a piece. ``at`` is "any", "back", "front", "center" or "ends"."""
        parent = self.placed[piece]
        dx, dy, dz = asset.mesh.size
        shelves = list(parent.asset.shelves)
        self.rng.shuffle(shelves)  # type: ignore[arg-type]
        for place in shelves:
            turned = 0.0 if yaw is None else yaw
            c, s = abs(np.cos(turned)), abs(np.sin(turned))
            half_x, half_y = (dx * c + dy * s) / 2, (dx * s + dy * c) / 2
            if dz > place.clear or 2 * half_x > place.x1 - place.x0 or 2 * half_y > place.y1 - place.y0:
                continue
            for _ in range(tries):
                lx = float(self.rng.uniform(place.x0 + half_x, place.x1 - half_x))
                ly = float(self.rng.uniform(place.y0 + half_y, place.y1 - half_y))
                if at == "center":
                    lx = 0.6 * (place.x0 + place.x1) / 2 + 0.4 * lx
                elif at == "ends":
                    lx = place.x0 + half_x if self.rng.random() < 0.5 else place.x1 - half_x
                if at == "back":
                    ly = place.y1 - half_y - float(self.rng.uniform(0, 0.04))
                    ly = max(ly, place.y0 + half_y)
                elif at == "front":
                    ly = place.y0 + half_y + float(self.rng.uniform(0, 0.05))
                    ly = min(ly, place.y1 - half_y)
                cos, sin = np.cos(parent.yaw), np.sin(parent.yaw)
                x, y = float(parent.x + cos * lx - sin * ly), float(parent.y + sin * lx + cos * ly)
                z = parent.z + place.z + 0.002
                facing = parent.yaw + turned + (float(self.rng.normal(0, 0.1)) if yaw is None else 0.0)
                if self.free(self.footprint(asset, x, y, z, facing), ignore=(piece,), reserved=False):
                    return self.put(asset, x, y, z, facing, "object", piece, labelled)
        return None

    def hang(self, asset: Asset, x: float, y: float) -> int | None:
        """From the ceiling at (x, y)."""
        z = self.outline.height - asset.mesh.size[2] - 0.003
        if z < 1.3 or not self.free(self.footprint(asset, x, y, z, 0.0), reserved=False):
            return None
        return self.put(asset, x, y, z, float(self.rng.uniform(-np.pi, np.pi)), "ceiling")

    def lay_rug(self, asset: Asset, x: float, y: float, yaw: float) -> int | None:
        """A rug: other things may stand on it, but no second rug lies there."""
        footprint = self.footprint(asset, x, y, 0.0, yaw)
        flat = Footprint(x, y, footprint.half_x, footprint.half_y, yaw, 0.0, 0.02)
        if not self.outline.holds(flat.grown(0.03)):
            return None
        if any(
            self.placed[i].asset.name == "rug" and overlap(flat, self.placed[i].footprint)
            for i in range(len(self.placed))
        ):
            return None
        index = self.put(asset, x, y, 0.0, yaw)
        # Nothing collides with a rug: it counts as having no height.
        piece = self.placed[index]
        ghost = Footprint(x, y, footprint.half_x, footprint.half_y, yaw, -0.02, 0.0)
        self.placed[index] = Placed(piece.asset, x, y, 0.0, yaw, ghost)
        return index
