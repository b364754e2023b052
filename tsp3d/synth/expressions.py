"""The structure behind a referring sentence, and which objects it fits.

An :class:`Expression` is what a sentence says, without its wording. :class:`Interpreter` finds the objects that it
fits in a scene, in the strict reading (what the speaker asserts) and the permissive one (all that a listener might
accept). A good sentence is strictly true of its target and fits nothing else even permissively.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tsp3d.synth.relations import Masks, SceneGeometry, Viewpoint
from tsp3d.synth.types import SceneDescription
from tsp3d.synth.vocabulary import CONFUSABLE_COLORS, NOUNS

SIZE_MEASURES: dict[str, tuple[str, float]] = {
    "big": ("volume", 1.0), "small": ("volume", -1.0), "tall": ("height", 1.0), "short": ("height", -1.0),
    "wide": ("width", 1.0),
    "narrow": ("width", -1.0),
}  # fmt: skip
"""What a size word compares, and in which direction."""


@dataclass(frozen=True)
class View:
    """Where the sentence is spoken from.

    Kinds: "enter" and "door" (in the entrance, looking in), "sit" (on the anchor, looking along its front), "from" (at
    the first anchor, looking at the second), "from door" (in the entrance, looking at the anchor).
    """

    kind: str
    anchors: tuple[Expression, ...] = ()


@dataclass(frozen=True)
class Relation:
    """One relation of the target to its anchors, or its place in the room.

    Kinds: near, next to, far, on, under, above, between, front, behind; facing left, facing right (standing before
    the anchor); view left, view right (of everything seen), beside left, beside right, view behind, view front (of
    the anchor, as seen); corner, wall, middle, on wall, on floor.
    """

    kind: str
    anchors: tuple[Expression, ...] = ()
    view: View | None = None
    negated: bool = False


@dataclass(frozen=True)
class Selection:
    """The one at a rank among the objects that fit the rest.

    Kinds: closest, farthest (to the anchor), nearest (to the viewer), leftmost, rightmost (in the view), largest,
    smallest, tallest, shortest, widest, highest, lowest.
    """

    kind: str
    rank: int = 1
    anchors: tuple[Expression, ...] = ()
    view: View | None = None


@dataclass(frozen=True)
class Expression:
    """What is said of one object: a noun, attributes, relations, and a selection among what is left."""

    noun: str
    """A key of :data:`tsp3d.synth.vocabulary.NOUNS`."""
    color: str | None = None
    material: str | None = None
    size: str | None = None
    relations: tuple[Relation, ...] = ()
    selection: Selection | None = None
    count: int = 0
    """Said number of objects of the noun ("of the three chairs"), 0 where unsaid."""

    def parts(self) -> Iterator[Expression]:
        """This expression and all those of its anchors, outermost first."""
        yield self
        for item in (*self.relations, *((self.selection,) if self.selection else ())):
            for anchor in item.anchors:
                yield from anchor.parts()
            if item.view:
                for anchor in item.view.anchors:
                    yield from anchor.parts()


_PAIR_MASKS = {
    "near": "near", "next to": "next_to", "far": "far", "on": "on", "under": "under", "above": "above",
    "front": "front_of",
    "behind": "behind", "facing left": "facing_left", "facing right": "facing_right",
}  # fmt: skip
PLACES = {"corner": "corner", "wall": "wall", "middle": "middle", "on wall": "on_wall", "on floor": "on_floor"}
"""Relations without an anchor or a viewpoint, and their mask's name."""
DEFINITE = frozenset({"far", "between", "facing left", "facing right", "front", "behind"})
"""Relations whose anchor must be the only one of its description."""

# Least difference and least ratio by which a selected object must beat the next, per measure.
_MARGINS = {
    "closest": (0.3, 1.3), "farthest": (0.4, 1.25), "nearest": (0.4, 1.25), "largest": (0.0, 1.5),
    "smallest": (0.0, 1.5), "tallest": (0.12, 1.15), "shortest": (0.12, 1.15), "widest": (0.2, 1.25),
    "highest": (0.3, 1.0), "lowest": (0.3, 1.0), "leftmost": (0.14, 1.0), "rightmost": (0.14, 1.0),
}  # fmt: skip
_SIZE_MARGINS = {"volume": (0.0, 1.7), "height": (0.15, 1.25), "width": (0.25, 1.35)}


class Interpreter:
    """Finds the objects that an expression fits in one scene. Readings are cached: one instance serves many."""

    def __init__(self, scene: SceneDescription):
        self.scene = scene
        self.geometry = SceneGeometry(scene)
        self.colors = np.array([o.color for o in scene.objects], dtype=object)
        self.materials = np.array([o.material for o in scene.objects], dtype=object)
        self._heads: dict[tuple, Masks] = {}
        self._views: dict[tuple, Viewpoint] = {}
        self._view_masks: dict[tuple, Masks] = {}

    def fits(self, expression: Expression, strict: bool) -> np.ndarray:
        """(N,) mask of the objects that ``expression`` fits."""
        loose_mask, strict_mask = self._head(expression)
        if expression.count and not (int(loose_mask.sum()) == int(strict_mask.sum()) == expression.count):
            return np.zeros_like(loose_mask)
        if not expression.relations and expression.selection is None:
            return strict_mask if strict else loose_mask
        for relation in expression.relations:
            loose_mask, strict_mask = (
                loose_mask & self.relation(relation, False),
                strict_mask & self.relation(relation, True),
            )
        if expression.selection is not None:
            return self._select(expression.selection, loose_mask, strict_mask, strict)
        return strict_mask if strict else loose_mask

    def is_exact(self, expression: Expression, index: int) -> bool:
        """Whether the expression is strictly true of the object at ``index`` and of nothing else even permissively."""
        loose, strict = self._head(expression)
        if not strict[index]:
            return False
        for relation in expression.relations:  # most candidates fail here, before anything else need be looked at
            strict = strict & self.relation(relation, True)
            if not strict[index]:
                return False
        if expression.selection is not None:
            measures = self._measures(expression.selection)
            if measures is None or (
                expression.selection.rank == 1 and measures[0][0][index] < measures[0][0][strict].max()
            ):
                return False
        if not self.fits(expression, True)[index]:
            return False
        loose = self.fits(expression, False)
        return bool(loose[index]) and int(loose.sum()) == 1

    # --- noun and attributes ---------------------------------------------------------------------------------------

    def _head(self, e: Expression) -> Masks:
        key = (e.noun, e.color, e.material, e.size)
        if key not in self._heads:
            self._heads[key] = self._read_head(e)
        return self._heads[key]

    def _read_head(self, e: Expression) -> Masks:
        noun, g = NOUNS[e.noun], self.geometry
        if e.size is not None:
            loose, strict = self._head(Expression(e.noun, e.color, e.material))
            measure, sign = SIZE_MEASURES[e.size]
            values = {"volume": g.volume, "height": g.size[:, 2], "width": g.size[:, :2].max(1)}[measure]
            margin = _SIZE_MARGINS[measure]
            masks = [_ranked([(sign * values, *margin)], 1, loose, strict, reading) for reading in (False, True)]
            return masks[0], masks[1]
        loose, strict = g.is_a(noun.reads), g.is_a(noun.names)
        if noun.support is not None:
            loose = loose & (g.support == noun.support)
        if noun.support is not None or noun.measure is not None:
            strict = strict & np.fromiter(map(noun.suits, self.scene.objects), dtype=bool, count=g.count)
        if e.color is not None:
            accepted = (e.color, None, *CONFUSABLE_COLORS.get(e.color, ()))
            strict = strict & (self.colors == e.color)
            loose = loose & np.fromiter((c in accepted for c in self.colors), dtype=bool, count=g.count)
        if e.material is not None:
            strict = strict & (self.materials == e.material)
            unknown = np.fromiter((m is None for m in self.materials), dtype=bool, count=g.count)
            loose = loose & ((self.materials == e.material) | unknown)
        return loose, strict

    # --- relations -------------------------------------------------------------------------------------------------

    def relation(self, relation: Relation, strict: bool) -> np.ndarray:
        """(N,) mask of the objects that stand in ``relation``. A negation is strict where it fails permissively."""
        if relation.negated:
            return np.logical_not(self._plain(relation, not strict))
        return self._plain(relation, strict)

    def _plain(self, relation: Relation, strict: bool) -> np.ndarray:
        kind, g = relation.kind, self.geometry
        if kind in PLACES:
            return getattr(g, PLACES[kind])[strict]
        if relation.view is not None:
            return self._viewed(relation, strict)
        if kind == "between":
            return self._between(relation.anchors, strict)
        mask = getattr(g, _PAIR_MASKS[kind])[strict]
        anchors = self.fits(relation.anchors[0], strict)
        if kind in DEFINITE and strict and int(self.fits(relation.anchors[0], False).sum()) != 1:
            return np.zeros(g.count, dtype=bool)
        return np.asarray(mask[:, anchors].any(1))

    def _between(self, anchors: tuple[Expression, ...], strict: bool) -> np.ndarray:
        """Between two different anchors, or (one anchor given) between the only two objects that it fits."""
        mask = self.geometry.between[strict]
        first, last = self.fits(anchors[0], strict), self.fits(anchors[-1], strict)
        if strict:
            wanted = 2 if len(anchors) == 1 else 1
            if any(int(self.fits(a, False).sum()) != wanted for a in anchors):
                return np.zeros(self.geometry.count, dtype=bool)
        return np.asarray(mask[:, first][:, :, last].any((1, 2)))

    def _viewed(self, relation: Relation, strict: bool) -> np.ndarray:
        assert relation.view is not None
        pose = self._pose(relation.view)
        if pose is None:  # no such viewpoint: nothing is asserted, nothing can be ruled out
            return np.full(self.geometry.count, not strict)
        key = (relation.kind, *pose)
        if key not in self._view_masks:
            view, word = self.viewpoint(pose), relation.kind.split()
            sign = 1.0 if word[1] in ("left", "behind") else -1.0
            side = view.beside if word[0] == "beside" else view.side if word[1] in ("left", "right") else view.beyond
            self._view_masks[key] = side(sign)
        mask = self._view_masks[key][strict]
        if not relation.anchors:
            return mask
        anchors = self.fits(relation.anchors[0], strict)
        if strict and int(self.fits(relation.anchors[0], False).sum()) != 1:
            return np.zeros(self.geometry.count, dtype=bool)
        return np.asarray(mask[:, anchors].any(1))

    def _pose(self, view: View) -> tuple[float, float, float] | None:
        """(x, y, yaw) of the viewer; None where it cannot be told for sure."""
        indices = []
        for anchor in view.anchors:
            loose = np.flatnonzero(self.fits(anchor, False))
            if len(loose) != 1 or not self.fits(anchor, True)[loose[0]]:
                return None
            indices.append(int(loose[0]))
        g, entrance = self.geometry, self.scene.entrance
        if view.kind in ("enter", "door"):
            return entrance
        if view.kind == "sit":
            yaw = g.front[indices[0]]
            return (
                None if np.isnan(yaw) else (float(g.center[indices[0], 0]), float(g.center[indices[0], 1]), float(yaw))
            )
        goal = g.center[indices[-1], :2]
        if view.kind == "from":
            start = g.center[indices[0], :2]
        elif entrance is None:
            return None
        else:
            start = np.array(entrance[:2])
        if float(np.hypot(*(goal - start))) < 1.0:
            return None
        return float(start[0]), float(start[1]), float(np.arctan2(goal[1] - start[1], goal[0] - start[0]))

    def viewpoint(self, pose: tuple[float, float, float]) -> Viewpoint:
        """The scene as seen from (x, y, yaw)."""
        if pose not in self._views:
            self._views[pose] = Viewpoint(self.geometry, np.array(pose[:2]), pose[2])
        return self._views[pose]

    # --- selections ------------------------------------------------------------------------------------------------

    def _select(self, selection: Selection, loose: np.ndarray, strict_mask: np.ndarray, strict: bool) -> np.ndarray:
        measures = self._measures(selection)
        if measures is None:
            return np.zeros_like(loose) if strict else loose
        return _ranked(measures, selection.rank, loose, strict_mask, strict)

    def _measures(self, selection: Selection) -> list[tuple[np.ndarray, float, float]] | None:
        """(value, least difference, least ratio) per measure, larger values first; all must agree.

        None where an anchor is in doubt.
        """
        g, kind = self.geometry, selection.kind
        difference, ratio = _MARGINS[kind]
        if kind in ("closest", "farthest"):
            anchors = self.fits(selection.anchors[0], False)
            if int(anchors.sum()) != 1 or not self.fits(selection.anchors[0], True)[anchors].all():
                return None
            index, sign = int(np.argmax(anchors)), -1.0 if kind == "closest" else 1.0
            return [(sign * g.gap[:, index], difference, 1.0), (sign * g.distance[:, index], difference, ratio)]
        if selection.view is not None:
            pose = self._pose(selection.view)
            if pose is None:
                return None
            view = self.viewpoint(pose)
            if kind == "nearest":
                return [(-view.distance, difference, ratio)]
            sign = 1.0 if kind == "leftmost" else -1.0
            # Objects behind the viewer have no place in the order from left to right.
            bearing = np.where(view.ahead > 0.2, sign * view.bearing, np.nan)
            return [(bearing, difference, ratio), (sign * view.left, 0.25, 1.0)]
        sign = -1.0 if kind in ("smallest", "shortest", "lowest") else 1.0
        if kind in ("largest", "smallest"):
            values = g.volume
        elif kind == "widest":
            values = g.size[:, :2].max(1)
        else:
            values = g.size[:, 2] if kind in ("tallest", "shortest") else g.center[:, 2]
        return [(sign * values, difference, ratio)]


def _ranked(
    measures: list[tuple[np.ndarray, float, float]], rank: int, loose: np.ndarray, strict_mask: np.ndarray, strict: bool
) -> np.ndarray:
    """(N,) mask of the objects at ``rank`` by the measures.

    Strict: ahead of all of the following and behind all of the preceding by the margin in every measure, counted over
    ``loose``; for ranks beyond the first both readings must count the same objects. Permissive: all that could hold
    the rank if margins do not count, by any measure, over either reading.
    """
    n = len(loose)
    result = np.zeros(n, dtype=bool)
    members = np.flatnonzero(loose)
    if len(members) < max(2, rank):  # "largest" of one is no choice at all
        return result if strict else loose.copy()
    same = bool((loose == strict_mask).all())
    if strict and rank > 1 and not same:
        return result
    clear, possible = np.ones(len(members), dtype=bool), np.zeros(len(members), dtype=bool)
    for values, difference, ratio in measures:
        v = values[members]
        if np.isnan(v).any():
            return result if strict else loose.copy()
        beats = _beats(v, difference, ratio)  # [i, j] i ahead of j by the margin
        ahead, behind = beats.sum(1), beats.sum(0)
        clear &= (ahead == len(members) - rank) & (behind == rank - 1)
        if not strict:
            possible |= (behind <= rank - 1) & (ahead <= len(members) - rank)
            if not same:
                inner = strict_mask[members]
                possible |= beats[inner].sum(0) <= rank - 1
    result[members] = (clear & strict_mask[members]) if strict else (possible | clear)
    return result


def _beats(values: np.ndarray, difference: float, ratio: float) -> np.ndarray:
    step = values[:, None] - values[None]
    low = np.minimum(np.abs(values[:, None]), np.abs(values[None]))
    return (step > max(difference, 1e-9)) & (np.abs(step) >= (ratio - 1.0) * low)


def referents(expression: Expression, scene: SceneDescription, strict: bool = True) -> tuple[int, ...]:
    """Ids of the objects that ``expression`` fits in ``scene``, in the strict or the permissive reading."""
    interpreter = Interpreter(scene)
    return tuple(int(i) for i in interpreter.geometry.ids[interpreter.fits(expression, strict)])
