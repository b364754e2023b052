"""Relations and selections that hold of one object, as candidates for a referring expression."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from tsp3d.synth.expressions import DEFINITE, Expression, Interpreter, Relation, Selection, View
from tsp3d.synth.phrasing import pick
from tsp3d.synth.vocabulary import NOUNS, NOUNS_OF_CLASS, SEATS

LABELS = (
    "near", "far", "on", "under", "above", "next to", "between", "left", "right", "front", "behind", "corner", "window",
    "superlative", "ordinal",
)  # fmt: skip
"""Labels of single relations, as kept in ``Sentence.relation``.

"near" and "far" include closest and farthest, "corner" the middle of the room, "next to" also the wall; a relation to a
window is "window".
"""

_WINDOW = frozenset({"window"})
_SUPERLATIVES = ("largest", "smallest", "tallest", "shortest", "widest", "highest", "lowest")


@dataclass(frozen=True)
class Proposal:
    """One relation or selection, with the indices of the anchors it mentions."""

    relations: tuple[Relation, ...] = ()
    selection: Selection | None = None
    anchors: tuple[int, ...] = ()

    @property
    def has_view(self) -> bool:
        """Whether it is said from a viewpoint."""
        items = (*self.relations, *((self.selection,) if self.selection else ()))
        return any(i.view is not None or i.kind.startswith("facing") for i in items)

    def onto(self, base: Expression) -> Expression:
        """``base`` with this said of it."""
        return replace(base, relations=base.relations + self.relations, selection=self.selection or base.selection)


class Proposer:
    """Proposes what can be said of an object of one scene."""

    def __init__(self, interpreter: Interpreter, rng: np.random.Generator):
        self.interpreter, self.rng = interpreter, rng
        self.geometry = interpreter.geometry
        self.objects = interpreter.scene.objects
        doors = sum(o.name == "door" for o in self.objects)
        self.views = ()
        if interpreter.scene.entrance is not None and doors <= 1:  # with two doors "when you enter" says too little
            self.views = ("enter", "enter", "door") if doors else ("enter",)
        self._definite: dict[tuple, Expression | None] = {}

    def shuffled(self, items) -> list:
        """``items`` in random order."""
        items = list(items)
        return [items[i] for i in self.rng.permutation(len(items))] if len(items) > 1 else items

    def word(self, index: int) -> str:
        """A noun for an object, by its frequency of use."""
        o = self.objects[index]
        choices = NOUNS_OF_CLASS[o.name]
        if len(choices) == 1:
            return choices[0][0]
        choices = [(w, p) for w, p in choices if NOUNS[w].suits(o)]
        draw = self.rng.random() * sum(p for _, p in choices)
        for word, weight in choices:
            draw -= weight
            if draw < 0:
                return word
        return choices[-1][0]

    def anchor(self, index: int, target: int, definite: bool) -> Expression | None:
        """A description of the object at ``index`` as an anchor.

        None where it could also mean the target, or (``definite``) where it could mean a third object.
        """
        o, word = self.objects[index], self.word(index)
        key = (index, word, definite)
        if key not in self._definite:
            plain = Expression(word)
            options = [
                plain,
                Expression(word, o.color),
                Expression(word, None, o.material),
                Expression(word, o.color, o.material),
            ]
            found = None
            for option in options[: 4 if o.color and o.material else 2 if o.color else 1]:
                if self.interpreter.is_exact(option, index):
                    found = option
                    break
            self._definite[key] = found if definite else found or plain
        e = self._definite[key]
        if e is None or self.interpreter.fits(Expression(e.noun), False)[target]:
            return None
        if e.color is None and o.color is not None and self.rng.random() < 0.15:
            e = replace(e, color=o.color)
        return e

    def propose(self, label: str, target: int) -> Iterator[Proposal]:
        """Candidates with this label, true or nearly so of the target; the caller checks them."""
        if label == "window":
            yield from self._pairs(("next to", "near", "under"), target, _WINDOW)
            yield from self._proximity(("closest", "farthest"), target, 1, _WINDOW)
        elif label in ("near", "far"):
            if self.rng.random() < 0.4:
                yield from self._pairs((label,), target)
            yield from self._proximity(("closest" if label == "near" else "farthest",), target, 1)
            yield from self._pairs((label,), target)
        elif label in ("under", "above"):
            yield from self._pairs((label,), target)
        elif label == "on":
            yield from self._pairs(("on",), target)
            yield from self._places(("on wall", "on floor"), target)
        elif label == "next to":
            yield from self._pairs(("next to",), target)
            yield from self._places(("wall",), target)
        elif label == "corner":
            yield from self._places(("corner", "middle"), target)
        elif label == "between":
            yield from self._between(target)
        elif label in ("left", "right"):
            yield from self._sides(label, target)
        elif label in ("front", "behind"):
            yield from self._pairs((label,), target)
            yield from self._seen(f"view {label}", target)
        elif label == "superlative":
            yield from self._superlatives(target)
        elif label == "ordinal":
            yield from self._ordinals(target)
        else:
            raise ValueError(f"unknown relation label {label!r}; choose one of {LABELS}")

    # --- kinds -----------------------------------------------------------------------------------------------------

    def _pairs(self, kinds: tuple[str, ...], target: int, among: frozenset[str] | None = None) -> Iterator[Proposal]:
        masks = {
            "next to": "next_to",
            "front": "front_of",
            "facing left": "facing_left",
            "facing right": "facing_right",
        }
        for kind in kinds:
            loose, strict = getattr(self.geometry, masks.get(kind, kind))
            for j in self.shuffled(np.flatnonzero(strict[target]))[:5]:
                name = self.objects[j].name
                if (among is not None and name not in among) or (
                    among is None and name == "window" and kind in ("near", "next to")
                ):
                    continue
                anchor = self.anchor(j, target, kind in DEFINITE)
                # One anchor only must bear the relation to the target, so that "the desk" is one desk.
                if anchor and int((loose[target] & self.interpreter.fits(anchor, False)).sum()) == 1:
                    yield Proposal((Relation(kind, (anchor,)),), None, (int(j),))

    def _places(self, kinds: tuple[str, ...], target: int) -> Iterator[Proposal]:
        for kind in self.shuffled(kinds):
            relation = Relation(kind)
            if self.interpreter.relation(relation, True)[target]:
                yield Proposal((relation,))

    def _proximity(
        self, kinds: tuple[str, ...], target: int, rank: int, among: frozenset[str] | None = None
    ) -> Iterator[Proposal]:
        for j in self.shuffled(range(self.geometry.count))[:12]:
            if j == target or (among is not None and self.objects[j].name not in among):
                continue
            anchor = self.anchor(j, target, True)
            if anchor:
                for kind in kinds:
                    yield Proposal((), Selection(kind, rank, (anchor,)), (j,))

    def _between(self, target: int) -> Iterator[Proposal]:
        pairs = np.argwhere(self.geometry.between[1][target])
        for j, k in self.shuffled(pairs[pairs[:, 0] < pairs[:, 1]])[:8]:
            j, k = int(j), int(k)
            first, second = self.anchor(j, target, False), self.anchor(k, target, False)
            if first is None or second is None:
                continue
            if self.objects[j].name == self.objects[k].name:
                yield Proposal((Relation("between", (Expression(first.noun),)),), None, (j, k))
            elif self.interpreter.is_exact(first, j) and self.interpreter.is_exact(second, k):
                order = (first, second) if self.rng.random() < 0.5 else (second, first)
                yield Proposal((Relation("between", order),), None, (j, k))

    def _sides(self, side: str, target: int) -> Iterator[Proposal]:
        ways = [lambda: self._pairs((f"facing {side}",), target), lambda: self._seen(f"beside {side}", target),
                lambda: self._sat(side, target), lambda: self._looking(side, target)]  # fmt: skip
        if self.views:
            ways.append(lambda: iter([Proposal((Relation(f"view {side}", (), View(pick(self.rng, self.views))),))]))
        for way in self.shuffled(ways):
            yield from way()

    def _seen(self, kind: str, target: int) -> Iterator[Proposal]:
        """Beside, behind or before an anchor, as seen from the entrance."""
        entrance = self.interpreter.scene.entrance
        if not self.views or entrance is None:
            return
        view = self.interpreter.viewpoint(entrance)
        word, side = kind.split()
        sign = 1.0 if side in ("left", "behind") else -1.0
        loose, strict = (view.beside if word == "beside" else view.beyond)(sign)
        for j in self.shuffled(np.flatnonzero(strict[target]))[:4]:
            anchor = self.anchor(j, target, True)
            if anchor:
                yield Proposal((Relation(kind, (anchor,), View(pick(self.rng, self.views))),), None, (int(j),))

    def _sat(self, side: str, target: int) -> Iterator[Proposal]:
        seats = self.geometry.is_a(SEATS) & ~np.isnan(self.geometry.front)
        for j in self.shuffled(np.flatnonzero(seats))[:3]:
            anchor = self.anchor(j, target, True) if j != target else None
            if anchor:
                yield Proposal((Relation(f"view {side}", (), View("sit", (anchor,))),), None, (int(j),))

    def _looking(self, side: str, target: int) -> Iterator[Proposal]:
        order = [j for j in self.shuffled(range(self.geometry.count))[:6] if j != target]
        named = [(j, a) for j in order if (a := self.anchor(j, target, True)) is not None][:3]
        if named and "door" in self.views:
            for j, a in named[:2]:
                if NOUNS[a.noun].word != "door":
                    yield Proposal((Relation(f"view {side}", (), View("from door", (a,))),), None, (j,))
        if len(named) > 1:
            (j, a), (k, b) = named[:2]
            if self.geometry.size[j, :2].max() > 0.4:
                yield Proposal((Relation(f"view {side}", (), View("from", (a, b))),), None, (j, k))

    def _superlatives(self, target: int) -> Iterator[Proposal]:
        options: list[Selection] = [Selection(kind) for kind in _SUPERLATIVES]
        for kind in ("leftmost", "rightmost", "nearest") if self.views else ():
            view = View("enter" if kind == "nearest" else pick(self.rng, self.views))
            options.append(Selection(kind, 1, (), view))
        for option in self.shuffled(options):
            yield Proposal((), option)

    def _ordinals(self, target: int) -> Iterator[Proposal]:
        options: list[Selection] = [Selection(kind, 2) for kind in ("largest", "tallest")]
        if self.views:
            options += [Selection("nearest", 2, (), View("enter"))]
            for kind in ("leftmost", "rightmost"):
                options += [Selection(kind, rank, (), View(pick(self.rng, self.views))) for rank in (2, 2, 3, 4)]
        for option in self.shuffled(options):
            yield Proposal((), option)
        yield from self._proximity(("closest", "farthest"), target, 2)
