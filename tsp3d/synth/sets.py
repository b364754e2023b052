"""Sentences that mean several objects of a scene ("the two lamps on the desk"), or none ("the purple sofa").

Several: the strict and the permissive reading are the same two or more objects. None: not even the permissive reading
fits anything. A sentence that means nothing either names a class that the scene has, with an attribute or a relation
that none of its objects has, or a class that it lacks. The kinds are those of Multi3DRefer (Zhang et al., ICCV 2023).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tsp3d.synth.expressions import Expression, Interpreter, Relation
from tsp3d.synth.inventions import invent
from tsp3d.synth.phrasing import Phraser, pick
from tsp3d.synth.proposals import Proposer
from tsp3d.synth.types import COLORS, SceneDescription
from tsp3d.synth.vocabulary import MATERIAL_WORDS, NOUNS, THINGS, is_view_dependent

MIX = {"mt": 0.5, "zt_w_d": 0.3, "zt_wo_d": 0.2}
"""Share of each kind: multiple targets, zero targets with and without distractors (objects of the class named)."""

_KINDS = ("near", "next to", "on", "under", "above")
_PLACES = ("on wall", "on floor", "wall", "corner")
_MOST = 8
_TRIES = 40


@dataclass(frozen=True)
class SetSentence:
    """A sentence with the objects that it means; fields as those of :class:`tsp3d.synth.types.Sentence`."""

    text: str
    target: tuple[int, ...]
    """Ids of the objects meant: two or more, or none."""
    anchors: tuple[int, ...]
    relation: str
    view_dependent: bool
    clauses: int
    eval_type: str
    """A key of :data:`MIX`."""


def set_sentences(scene: SceneDescription, rng: np.random.Generator, count: int = 20) -> list[SetSentence]:
    """Sentences of the kinds of :data:`MIX`, all different.

    Args:
        scene: objects with boxes in metres, z up.
        count: number wanted; fewer come back where the scene does not allow so many.
    """
    return [sentence for _, sentence in set_expressions(scene, rng, count)]


def set_expressions(
    scene: SceneDescription, rng: np.random.Generator, count: int = 20
) -> list[tuple[Expression, SetSentence]]:
    """As :func:`set_sentences`, with the structured expression behind each sentence."""
    if not scene.objects:
        return []
    writer, kinds = _SetWriter(scene, rng), list(MIX)
    plan = [kinds[i] for i in rng.choice(len(kinds), size=count, p=list(MIX.values()))]
    found: dict[str, tuple[Expression, SetSentence]] = {}
    for kind in plan:
        form = rng.random()
        for attempt in range(_TRIES):
            # Most tries keep to one form, or the easy ones would take the place of relations.
            made = writer.write(kind, form if attempt < 0.8 * _TRIES else rng.random())
            if made is not None and made[1].text not in found:
                found[made[1].text] = made
                break
    return list(found.values())


class _SetWriter:
    def __init__(self, scene: SceneDescription, rng: np.random.Generator) -> None:
        self.scene, self.rng = scene, rng
        self.interpreter = Interpreter(scene)
        self.proposer = Proposer(self.interpreter, rng)
        self.phraser = Phraser(rng)
        self.ids = self.interpreter.geometry.ids

    def write(self, kind: str, form: float) -> tuple[Expression, SetSentence] | None:
        """One try at a sentence of a kind; ``form`` (0..1) chooses between attributes, relations and neither."""
        e = {"mt": self._several, "zt_w_d": self._unfit, "zt_wo_d": self._absent}[kind](form)
        if e is None:
            return None
        loose, strict = self.interpreter.fits(e, False), self.interpreter.fits(e, True)
        targets = np.flatnonzero(strict)
        if kind == "mt":
            if not 2 <= len(targets) <= _MOST or not np.array_equal(loose, strict):
                return None
            text, clauses = self.phraser.several(e, len(targets))
        elif loose.any():
            return None
        elif not NOUNS[e.noun].is_plural and e.selection is None and self.rng.random() < 0.2:
            text, clauses = self.phraser.several(e, int(2 + self.rng.random() * 2))
        else:
            text, clauses = self.phraser.sentence(e)
        label = e.relations[0].kind if e.relations else "attribute" if e.color or e.material else "none"
        anchors = {int(i) for part in list(e.parts())[1:] for i in np.flatnonzero(self.interpreter.fits(part, True))}
        ids = tuple(int(i) for i in self.ids[targets])
        others = tuple(int(self.ids[i]) for i in sorted(anchors) if i not in targets)
        return e, SetSentence(text, ids, others, label, is_view_dependent(text), clauses, kind)

    def _several(self, form: float) -> Expression | None:
        e = Expression(self._noun())
        if NOUNS[e.noun].is_plural or int(self.interpreter.fits(e, True).sum()) < 2:
            return None
        if form < 0.3:
            return e
        if form < 0.5:
            color = self.scene.objects[self._member(e)].color
            return replace(e, color=color) if color else None
        return self._related(e)

    def _unfit(self, form: float) -> Expression | None:
        """A class that the scene has, and something that none of its objects is."""
        e = Expression(self._noun())
        if form < 0.4:
            return replace(e, color=pick(self.rng, COLORS))
        if form < 0.5:
            return replace(e, material=pick(self.rng, tuple(MATERIAL_WORDS)))
        if form < 0.85:
            return self._related(e)
        other = invent(self.rng)  # an anchor that the scene lacks
        return replace(e, relations=other.relations[:1]) if other.relations else None

    def _absent(self, form: float) -> Expression | None:
        e = invent(self.rng)
        if e.noun in THINGS or self.interpreter.fits(Expression(e.noun), False).any():
            return None
        # Half are bare: a listener should not need an anchor to see that there is no piano.
        return replace(e, relations=(), selection=None, count=0) if form < 0.5 else e

    def _related(self, e: Expression) -> Expression | None:
        if self.rng.random() < 0.25:
            return replace(e, relations=(Relation(pick(self.rng, _PLACES)),))
        member = self._member(e)
        anchor = self.proposer.anchor(int(self.rng.random() * len(self.scene.objects)), member, definite=True)
        return replace(e, relations=(Relation(pick(self.rng, _KINDS), (anchor,)),)) if anchor else None

    def _noun(self) -> str:
        """A noun that names an object of the scene, classes with several objects more often."""
        return self.proposer.word(int(self.rng.random() * len(self.scene.objects)))

    def _member(self, e: Expression) -> int:
        """Index of one of the objects that ``e`` names."""
        return pick(self.rng, np.flatnonzero(self.interpreter.fits(e, True)).tolist())
