"""Spatial relations between boxes, each in a strict and a permissive reading.

Strict is what the speaker asserts of the target: true with a margin. Permissive is what a listener might still accept
of another object. Strict implies permissive. Every relation is an (N, N) mask ``[i, j]``: object i stands in the
relation to anchor j; metres and radians.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from tsp3d.synth.types import SceneDescription
from tsp3d.synth.vocabulary import BACKED, FACED, FIXED, FRONTED, MOVABLE, SURFACES

Masks = tuple[np.ndarray, np.ndarray]
"""(permissive, strict): indexable by ``strict: bool``."""


class SceneGeometry:
    """Boxes of a scene as arrays, and its relation masks, computed when first asked for.

    Args:
        scene: N objects with boxes in metres, z up.
    """

    def __init__(self, scene: SceneDescription):
        objects = scene.objects
        self.scene = scene
        self.count = len(objects)
        boxes = np.array([o.box for o in objects], dtype=np.float64).reshape(-1, 6)
        self.center, self.size = boxes[:, :3], boxes[:, 3:]  # (N, 3) each
        self.lo, self.hi = self.center - self.size / 2, self.center + self.size / 2
        self.ids = np.array([o.id for o in objects], dtype=np.int64)  # (N,)
        self.names = np.array([o.name for o in objects], dtype=object)
        self.support = np.array([o.support for o in objects], dtype=object)
        self.support_id = np.array([o.support_id for o in objects], dtype=np.int64)
        self.front = np.array([np.nan if o.front is None else o.front for o in objects], dtype=np.float64)
        self.area = self.size[:, 0] * self.size[:, 1]
        self.volume = self.area * self.size[:, 2]
        self.floor = scene.room[2] - scene.room[5] / 2

    def is_a(self, names: frozenset[str]) -> np.ndarray:
        """(N,) mask of the objects whose class is in ``names``."""
        return np.fromiter((n in names for n in self.names), dtype=bool, count=self.count)

    # --- distances -------------------------------------------------------------------------------------------------

    @cached_property
    def offset(self) -> np.ndarray:
        """(N, N, 3) centre of i minus centre of j."""
        return self.center[:, None] - self.center[None]

    @cached_property
    def axis_gap(self) -> np.ndarray:
        """(N, N, 3) free distance between the boxes along each axis, 0 where they overlap."""
        return np.maximum(np.abs(self.offset) - (self.size[:, None] + self.size[None]) / 2, 0.0)

    @cached_property
    def gap_xy(self) -> np.ndarray:
        """(N, N) free horizontal distance between the boxes."""
        return np.hypot(self.axis_gap[..., 0], self.axis_gap[..., 1])

    @cached_property
    def gap(self) -> np.ndarray:
        """(N, N) free distance between the boxes."""
        return np.sqrt((self.axis_gap**2).sum(-1))

    @cached_property
    def distance(self) -> np.ndarray:
        """(N, N) distance between the centres."""
        return np.sqrt((self.offset**2).sum(-1))

    @cached_property
    def shared(self) -> np.ndarray:
        """(N, N) area shared by both footprints, m^2."""
        extent = np.minimum(self.hi[:, None, :2], self.hi[None, :, :2]) - np.maximum(
            self.lo[:, None, :2], self.lo[None, :, :2]
        )
        return np.prod(np.maximum(extent, 0.0), axis=-1)

    @cached_property
    def inside(self) -> np.ndarray:
        """(N, N) share of i's footprint that lies over or under j's."""
        return self.shared / np.maximum(self.area[:, None], 1e-6)

    @cached_property
    def others(self) -> np.ndarray:
        """(N, N) mask: i is not j."""
        return ~np.eye(self.count, dtype=bool)

    @cached_property
    def wall_gap(self) -> np.ndarray:
        """(N, 4) free distance to the room's walls: -x, +x, -y, +y."""
        room = self.scene.room
        low, high = np.array(room[:2]) - np.array(room[3:5]) / 2, np.array(room[:2]) + np.array(room[3:5]) / 2
        return np.concatenate([self.lo[:, :2] - low, high - self.hi[:, :2]], axis=1)[:, [0, 2, 1, 3]]

    # --- relations -------------------------------------------------------------------------------------------------

    @cached_property
    def on(self) -> Masks:
        """Resting on (or in, for a shelf). Standing on a rug counts."""
        bottom, low, top = self.lo[:, None, 2], self.lo[None, :, 2], self.hi[None, :, 2]
        rests = (self.support_id[:, None] == self.ids[None]) & (self.support == "object")[:, None]
        rug = self.is_a(frozenset({"rug"}))
        on_rug = rug[None] & ~rug[:, None] & (bottom < top + 0.15)
        strict = rests | (on_rug & (self.inside > 0.75) & (self.support == "floor")[:, None])
        seems = (
            (self.inside > 0.3)
            & (bottom > low + 0.15)
            & (bottom < top + 0.15)
            & (self.volume[:, None] < self.volume[None])
        )
        loose = strict | (seems & (self.support != "wall")[:, None]) | (on_rug & (self.inside > 0.1))
        return loose & self.others, strict & self.others

    @cached_property
    def _aligned(self) -> Masks:
        """One over the other, whether or not the footprints meet (a picture over a sofa)."""
        reach = np.maximum(self.size[:, None, :2], self.size[None, :, :2]) / 2
        lined_up = (np.abs(self.offset[..., :2]) <= reach + 0.25).all(-1)
        return self.gap_xy <= 0.7, lined_up & (self.gap_xy <= 0.3)

    @cached_property
    def above(self) -> Masks:
        """Higher than the anchor and over it, without resting on it."""
        rise = self.lo[:, None, 2] - self.hi[None, :, 2]
        strict = self._aligned[1] & (rise > 0.1) & (rise < 1.6) & ~self.on[0]
        loose = (self._aligned[0] & (self.lo[:, None, 2] > self.center[None, :, 2])) | self.on[0]
        return (loose | strict) & self.others, strict & self.others

    @cached_property
    def under(self) -> Masks:
        """Beneath a table or the like, or below something that hangs."""
        table, rug = self.is_a(SURFACES)[None], self.is_a(frozenset({"rug"}))[:, None]
        share = np.where(
            rug, self.shared / np.maximum(np.minimum(self.area[:, None], self.area[None]), 1e-6), self.inside
        )
        low = self.lo[:, None, 2] <= self.lo[None, :, 2] + 0.2
        beneath = table & low & (share > 0.6) & (self.hi[:, None, 2] < self.hi[None, :, 2] - 0.05) & ~self.on[0]
        strict = beneath | self.above[1].T
        partly = (share > 0.12) & (self.lo[:, None, 2] <= self.lo[None, :, 2] + 0.4)
        partly &= self.center[:, None, 2] < self.hi[None, :, 2]
        return (partly | strict | self.above[0].T) & self.others, strict & self.others

    @cached_property
    def _stacked(self) -> np.ndarray:
        """(N, N) one rests on, lies under or hangs over the other, so that "beside" would sound wrong."""
        stacked = self.on[0] | self.under[1] | self.above[1] | (self.inside > 0.3)
        return stacked | stacked.T

    @cached_property
    def next_to(self) -> Masks:
        """Side by side at about the same height."""
        strict = (self.gap_xy < 0.35) & (self.axis_gap[..., 2] < 0.05) & ~self._stacked
        loose = (self.gap_xy < 0.85) & (self.axis_gap[..., 2] < 0.5)
        return loose & self.others, strict & self.others

    @cached_property
    def near(self) -> Masks:
        """Within a step."""
        return (self.gap < 1.3) & self.others, (self.gap < 0.65) & ~self._stacked & self.others

    @cached_property
    def far(self) -> Masks:
        """More than two metres away."""
        return (self.gap_xy > 1.5) & self.others, (self.gap_xy > 2.2) & self.others

    def _frame(self, j_yaw: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Offsets in each anchor's own frame: ahead (N, N), leftward (N, N), half depth (N,), half width (N,)."""
        c, s = np.cos(j_yaw), np.sin(j_yaw)
        ahead = self.offset[..., 0] * c + self.offset[..., 1] * s
        left = -self.offset[..., 0] * s + self.offset[..., 1] * c
        half = self.size[:, :2] / 2
        # The nearest face along a direction of an axis-aligned box, taken as the distance at which that ray leaves
        # the box.
        depth = np.minimum(half[:, 0] / np.maximum(np.abs(c), 1e-6), half[:, 1] / np.maximum(np.abs(s), 1e-6))
        width = np.minimum(half[:, 0] / np.maximum(np.abs(s), 1e-6), half[:, 1] / np.maximum(np.abs(c), 1e-6))
        return ahead, left, depth, width

    def _ahead_of(self, yaw: np.ndarray) -> Masks:
        ahead, left, depth, width = self._frame(yaw)
        beyond = ahead - depth[None]
        strict = (beyond > -0.1) & (beyond < 1.5) & (np.abs(left) < 0.8 * width[None] + 0.1)
        strict &= (self.axis_gap[..., 2] < 0.3) & ~self._stacked
        loose = (ahead > 0.0) & (beyond < 3.0) & (np.abs(left) < width[None] + 0.5 + 0.6 * np.maximum(beyond, 0.0))
        return (loose | strict) & self.others, strict & self.others

    @cached_property
    def front_of(self) -> Masks:
        """Before the anchor's own front; False where the anchor has none."""
        loose, strict = self._ahead_of(self.front)
        return loose, strict & self.is_a(FRONTED)[None]

    @cached_property
    def behind(self) -> Masks:
        """At the anchor's own back; False where the anchor has none."""
        loose, strict = self._ahead_of(self.front + np.pi)
        return loose, strict & self.is_a(BACKED)[None]

    @cached_property
    def facing_left(self) -> Masks:
        """On the left side of the anchor for someone who stands before it and looks at it."""
        return self._beside(1.0)

    @cached_property
    def facing_right(self) -> Masks:
        """On the right side of the anchor for someone who stands before it and looks at it."""
        return self._beside(-1.0)

    def _beside(self, sign: float) -> Masks:
        # The viewer looks against the anchor's front: their left is the anchor's own right.
        ahead, left, depth, width = self._frame(self.front)
        side = -sign * left
        beyond = side - width[None]
        strict = (beyond > 0.05) & (beyond < 1.6) & (ahead > -depth[None] - 0.3) & (ahead < depth[None] + 0.8)
        strict &= (np.abs(ahead) < side) & (self.axis_gap[..., 2] < 0.4) & self.is_a(FACED)[None]
        loose = (side > 0.1) & (beyond < 3.0)
        return (loose | strict) & self.others, strict & self.others

    @cached_property
    def between(self) -> Masks:
        """(N, N, N) masks [i, j, k]: i between j and k."""
        to = -self.offset[..., :2]  # (N, N, 2) from i to j
        unit = to / np.maximum(np.linalg.norm(to, axis=-1, keepdims=True), 1e-6)
        cosine = np.einsum("ijd,ikd->ijk", unit, unit)
        level = (self.axis_gap[..., 2] < 0.3) & (self.gap_xy < 2.0) & ~self._stacked & self.others
        wide = (self.gap_xy < 3.5) & self.others
        strict = (cosine < np.cos(np.radians(150))) & level[:, :, None] & level[:, None, :]
        loose = (cosine < np.cos(np.radians(115))) & wide[:, :, None] & wide[:, None, :]
        return loose | strict, strict

    # --- places in the room, (N,) masks ----------------------------------------------------------------------------

    @cached_property
    def corner(self) -> Masks:
        """In a corner of the room."""
        x, y = self.wall_gap[:, :2].min(1), self.wall_gap[:, 2:].min(1)
        strict = (x < 0.4) & (y < 0.4) & (self.support == "floor") & ~self.is_a(FIXED)
        return ((x < 0.9) & (y < 0.9)) | strict, strict

    @cached_property
    def wall(self) -> Masks:
        """Standing against a wall."""
        gap = self.wall_gap.min(1)
        return gap < 0.5, (gap < 0.12) & (self.support == "floor") & ~self.is_a(FIXED)

    @cached_property
    def middle(self) -> Masks:
        """In the middle of the room."""
        room = self.scene.room
        share = np.abs(self.center[:, :2] - np.array(room[:2])) / np.maximum(np.array(room[3:5]), 1e-6)
        central = np.asarray((share < 0.14).all(1))
        return np.asarray((share < 0.3).all(1)), central & (self.support == "floor")

    @cached_property
    def on_wall(self) -> Masks:
        """Hanging on a wall."""
        strict = (self.support == "wall") & ~self.is_a(FIXED)
        return (self.support == "wall") | ((self.wall_gap.min(1) < 0.15) & (self.lo[:, 2] > self.floor + 0.3)), strict

    @cached_property
    def on_floor(self) -> Masks:
        """Standing on the floor."""
        low = self.lo[:, 2] < self.floor + 0.25
        floor = self.support == "floor"
        return floor | low, floor & low & self.is_a(MOVABLE)


class Viewpoint:
    """Someone at ``origin`` (x, y) looking along ``yaw``. Left is counter-clockwise: looking along +x, +y is left."""

    def __init__(self, geometry: SceneGeometry, origin: np.ndarray, yaw: float):
        self.geometry = geometry
        rel = geometry.center[:, :2] - origin
        c, s = np.cos(yaw), np.sin(yaw)
        self.ahead = rel[:, 0] * c + rel[:, 1] * s  # (N,) m
        self.left = -rel[:, 0] * s + rel[:, 1] * c  # (N,) m
        self.bearing = np.arctan2(self.left, self.ahead)  # (N,) rad, left positive
        self.distance = np.hypot(rel[:, 0], rel[:, 1])  # (N,) m
        self.sight = rel / np.maximum(self.distance, 1e-6)[:, None]  # (N, 2) unit vectors towards each object

    def side(self, sign: float) -> Masks:
        """(N,) masks: on the left (sign 1) or right (-1) of what one sees."""
        left, bearing = sign * self.left, sign * self.bearing
        return left > -0.05, (left > 0.5) & (bearing > np.radians(8)) & (bearing < np.radians(100))

    def beside(self, sign: float) -> Masks:
        """(N, N) masks: to the left (sign 1) or right (-1) of anchor j as seen from here."""
        across, along = self._seen_from_anchor()
        across = sign * across
        g = self.geometry
        strict = (across > 0.3) & (across > 0.6 * np.abs(along) + 0.1) & (g.gap_xy < 1.2) & (g.axis_gap[..., 2] < 0.4)
        strict &= ~g._stacked & (self.ahead > 0.3)[:, None] & (self.distance > 0.8)[None]
        loose = (across > 0.0) & (g.gap_xy < 2.6)
        return (loose | strict) & g.others, strict & g.others

    def beyond(self, sign: float) -> Masks:
        """(N, N) masks: behind (sign 1) or in front of (-1) anchor j as seen from here."""
        across, along = self._seen_from_anchor()
        along = sign * along
        g = self.geometry
        strict = (along > 0.4) & (np.abs(across) < 0.5 * along) & (g.gap_xy < 1.2) & (g.axis_gap[..., 2] < 0.4)
        strict &= ~g._stacked & (self.ahead > 0.3)[:, None] & (self.distance > 0.8)[None]
        loose = (along > 0.0) & (g.gap_xy < 2.6)
        return (loose | strict) & g.others, strict & g.others

    def _seen_from_anchor(self) -> tuple[np.ndarray, np.ndarray]:
        """(N, N) leftward and forward offset of i from j, along the line of sight to j."""
        d, u = self.geometry.offset[..., :2], self.sight[None]
        return -d[..., 0] * u[..., 1] + d[..., 1] * u[..., 0], (d * u).sum(-1)
