"""Random expressions that belong to no scene, for text without geometry."""

from __future__ import annotations

import numpy as np

from tsp3d.synth.expressions import Expression, Relation, Selection, View
from tsp3d.synth.phrasing import pick
from tsp3d.synth.types import CLASSES, COLORS
from tsp3d.synth.vocabulary import FACED, MATERIAL_WORDS, NOUNS, NOUNS_OF_CLASS, SEATS, SIZE_WORDS, SURFACES, THINGS

_SMALL = (
    "lamp",
    "laptop",
    "keyboard",
    "monitor",
    "box",
    "bag",
    "pillow",
    "vase",
    "books",
    "bottle",
    "plant",
    "clock",
    "microwave",
    "picture",
)
_HUNG = ("picture", "mirror", "whiteboard", "clock", "tv", "window", "lamp")
_VIEWS = ("enter", "enter", "door")


def invent(rng: np.random.Generator) -> Expression:
    """A random expression: anything from a bare noun to two relations or a selection."""
    draw = rng.random()
    if draw < 0.06:
        return _noun(rng, CLASSES)
    if draw < 0.22:
        e = _noun(rng, CLASSES, 0.7, 0.3)
        if e.color or e.material:
            return e
        return Expression(e.noun, size=pick(rng, tuple(SIZE_WORDS)))
    if draw < 0.62:
        return _related(rng, CLASSES)
    if draw < 0.80:
        e = _noun(rng, CLASSES, 0.15, 0.05)
        count = int(2 + rng.random() * 5) if rng.random() < 0.2 and not NOUNS[e.noun].is_plural else 0
        selection = _selection(rng)
        return Expression(
            e.noun, e.color, e.material, selection=selection, count=max(count, selection.rank) if count else 0
        )
    first = _related(rng, CLASSES)
    if NOUNS[first.noun].word in THINGS or first.relations[0].view or first.relations[0].kind.startswith("facing"):
        return first
    second = _relation(rng, first.noun)
    if second.kind == first.relations[0].kind:
        return first
    return Expression(first.noun, first.color, first.material, relations=(*first.relations, second))


def _noun(rng: np.random.Generator, classes, color: float = 0.0, material: float = 0.0) -> Expression:
    words = NOUNS_OF_CLASS[pick(rng, tuple(classes))]
    draw = rng.random() * sum(p for _, p in words)
    word = words[-1][0]
    for candidate, weight in words:
        draw -= weight
        if draw < 0:
            word = candidate
            break
    return Expression(
        word,
        pick(rng, COLORS) if rng.random() < color else None,
        pick(rng, tuple(MATERIAL_WORDS)) if rng.random() < material else None,
    )


def _anchor(rng: np.random.Generator, classes=CLASSES) -> Expression:
    return _noun(rng, classes, 0.15, 0.04)


def _related(rng: np.random.Generator, classes) -> Expression:
    draw = rng.random()
    if draw < 0.16:
        holder = tuple(sorted(SURFACES - SEATS - {"sink"})) + (
            "cabinet",
            "dresser",
            "bookshelf",
            "sofa",
            "refrigerator",
        )
        relation = Relation("on", (_anchor(rng, holder),))
        if rng.random() < 0.1:
            return Expression(pick(rng, THINGS), relations=(relation,))
        classes = _SMALL
    elif draw < 0.22:
        relation = Relation("above", (_anchor(rng),))
        classes = _HUNG
    else:
        relation = None
    e = _noun(rng, classes, 0.25, 0.08)
    while relation is not None and NOUNS[e.noun].support not in (None, "object" if relation.kind == "on" else "wall"):
        e = _noun(rng, classes, 0.25, 0.08)
    return Expression(e.noun, e.color, e.material, relations=(relation or _relation(rng, e.noun),))


def _relation(rng: np.random.Generator, noun: str) -> Relation:
    kind = pick(rng, ("near", "near", "next to", "next to", "next to", "far", "under", "between", "front", "behind",
        "facing left", "facing right",
                      "view left", "view right", "beside left", "beside right", "view behind", "view front", "corner",
                      "wall", "middle", "on wall",
                      "on floor"))  # fmt: skip
    if kind in ("corner", "wall", "middle", "on wall", "on floor"):
        return Relation(kind, negated=rng.random() < 0.08)
    if kind == "between":
        anchors = (_anchor(rng),) if rng.random() < 0.25 else (_anchor(rng), _anchor(rng))
        return Relation(kind, anchors)
    if kind in ("view left", "view right"):
        draw = rng.random()
        if draw < 0.55:
            return Relation(kind, (), View(pick(rng, _VIEWS)))
        if draw < 0.7:
            return Relation(kind, (), View("sit", (_anchor(rng, SEATS_ORDER),)))
        if draw < 0.85:
            return Relation(kind, (), View("from door", (_anchor(rng),)))
        return Relation(kind, (), View("from", (_anchor(rng), _anchor(rng))))
    classes = (
        FACED_ORDER if kind.startswith("facing") or kind == "front" else SURFACES_ORDER if kind == "under" else CLASSES
    )
    anchor = _anchor(rng, classes)
    if kind.split()[0] in ("beside", "view"):
        return Relation(kind, (anchor,), View(pick(rng, _VIEWS)))
    return Relation(kind, (anchor,), negated=kind in ("near", "next to") and rng.random() < 0.06)


def _selection(rng: np.random.Generator) -> Selection:
    kind = pick(rng, ("closest", "closest", "farthest", "nearest", "largest", "smallest", "tallest", "shortest",
        "widest", "highest", "lowest",
                      "leftmost", "leftmost", "rightmost", "rightmost"))  # fmt: skip
    if kind in ("closest", "farthest"):
        return Selection(kind, 2 if rng.random() < 0.15 else 1, (_anchor(rng),))
    if kind == "nearest":
        return Selection(kind, 2 if rng.random() < 0.2 else 1, (), View("enter"))
    if kind in ("leftmost", "rightmost"):
        return Selection(kind, int(1 + rng.random() * 4), (), View(pick(rng, _VIEWS)))
    return Selection(kind, 2 if kind in ("largest", "tallest") and rng.random() < 0.2 else 1)


# Sorted, because the order of a set of strings differs from run to run.
SEATS_ORDER, FACED_ORDER, SURFACES_ORDER = tuple(sorted(SEATS)), tuple(sorted(FACED)), tuple(sorted(SURFACES))
