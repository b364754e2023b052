"""Referring sentences for a scene, each checked to be true of exactly one object, and sentences without a scene.

The mix aims at 30 % targets that are the only ones of their class and 70 % with others of the class present; of the
latter 35 % are told by attributes alone, 45 % by one relation and 20 % by several things at once. Where a scene does
not allow a kind, another takes its place.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from tsp3d.synth.expressions import Expression, Interpreter, Relation, referents
from tsp3d.synth.inventions import invent
from tsp3d.synth.phrasing import Phraser
from tsp3d.synth.proposals import LABELS, Proposal, Proposer
from tsp3d.synth.types import SceneDescription, Sentence
from tsp3d.synth.vocabulary import NOUNS, THINGS, is_view_dependent

__all__ = ["corpus", "generate_sentences", "referents", "referring_expressions"]

_MIX = {"unique": 0.30, "attribute": 0.245, "single": 0.315, "compound": 0.14}
_FALLBACK = {
    "unique": ("unique", "single", "attribute", "compound"), "attribute": ("attribute", "single", "compound", "unique"),
    "single": ("single", "compound", "attribute", "unique"), "compound": ("compound", "single", "attribute", "unique"),
}  # fmt: skip
_MAX_PER_TARGET_AND_LABEL = 2
_TRIES = 6

Draft = tuple[Expression, str, int, tuple[int, ...]]
"""Expression, relation label, index of the target, indices of the anchors."""


def generate_sentences(scene: SceneDescription, rng: np.random.Generator, per_scene: int = 40) -> list[Sentence]:
    """Referring sentences for a scene.

    Args:
        scene: objects with boxes in metres, z up.
        rng: source of all random choices.
        per_scene: number of sentences wanted; fewer come back where the scene does not allow so many different ones.

    Returns:
        Sentences in random order of their kinds, each true of exactly one object.
    """
    return [sentence for _, sentence in referring_expressions(scene, rng, per_scene)]


def referring_expressions(
    scene: SceneDescription, rng: np.random.Generator, per_scene: int = 40
) -> list[tuple[Expression, Sentence]]:
    """As :func:`generate_sentences`, with the structured expression behind each sentence."""
    if not scene.objects or per_scene <= 0:
        return []
    return _Writer(scene, rng).write(per_scene)


class _Writer:
    """Writes the sentences of one scene, keeping count of targets and labels so that both are spread evenly."""

    def __init__(self, scene: SceneDescription, rng: np.random.Generator):
        self.scene, self.rng = scene, rng
        self.interpreter = Interpreter(scene)
        self.proposer = Proposer(self.interpreter, rng)
        self.phraser = Phraser(rng)
        classes = Counter(o.name for o in scene.objects)
        self.distractors = [classes[o.name] - 1 for o in scene.objects]
        self.used: Counter[int] = Counter()
        self.labels: Counter[str] = Counter()
        self.pairs: Counter[tuple[str, int]] = Counter()
        self.failed: Counter[tuple[str, int]] = Counter()

    def write(self, wanted: int) -> list[tuple[Expression, Sentence]]:
        rng = self.rng
        kinds = list(_MIX)
        plan = [kinds[i] for i in rng.choice(len(kinds), size=wanted, p=list(_MIX.values()))]
        results: list[tuple[Expression, Sentence]] = []
        texts: set[str] = set()
        misses = 0
        for kind in plan:
            draft = next((d for k in _FALLBACK[kind] if (d := getattr(self, f"_{k}")()) is not None), None)
            if draft is None:
                misses += 1
                if misses > 3:
                    break
                continue
            expression, label, target, anchors = draft
            for _ in range(3):  # another wording where this one was used
                text, clauses = self.phraser.sentence(expression)
                if text not in texts:
                    break
            self.used[target] += 1
            self.labels[label] += 1
            self.pairs[label, target] += 1
            if text in texts:
                continue
            texts.add(text)
            ids = self.interpreter.geometry.ids
            others = tuple(dict.fromkeys(int(ids[a]) for a in anchors if a != target))
            results.append((expression, Sentence(
                text=text, target=int(ids[target]), anchors=others, relation=label,
                view_dependent=is_view_dependent(text), unique=self.distractors[target] == 0,
                distractors=self.distractors[target], clauses=clauses,
            )))  # fmt: skip
        return results

    # --- choice of targets -----------------------------------------------------------------------------------------

    def _targets(self, label: str, unique: bool | None) -> list[int]:
        """Objects to try for ``label``, least used first."""
        noise = self.rng.random(len(self.distractors))
        pool = [
            i for i, d in enumerate(self.distractors)
            if (unique is None or (d == 0) == unique)
            and self.pairs[label, i] < _MAX_PER_TARGET_AND_LABEL
            and self.failed[label, i] < 1
        ]  # fmt: skip
        return sorted(pool, key=lambda i: self.used[i] + noise[i])[:_TRIES]

    def _first(self, label: str, unique: bool | None, build) -> Draft | None:
        for target in self._targets(label, unique):
            draft = build(target)
            if draft is not None:
                return draft
            self.failed[label, target] += 1
        return None

    def _by_label(self, unique: bool, build) -> Draft | None:
        """Tries the labels, least used first."""
        noise = self.rng.random(len(LABELS)) * 1.5
        for k in np.argsort([self.labels[label] + n for label, n in zip(LABELS, noise, strict=True)]):
            draft = self._first(LABELS[k], unique, lambda target, label=LABELS[k]: build(label, target))
            if draft is not None:
                return draft
        return None

    # --- kinds of sentences ----------------------------------------------------------------------------------------

    def _unique(self) -> Draft | None:
        draw = self.rng.random()
        if draw < 0.45:
            draft = self._first("none", True, self._plain)
            if draft is not None:
                return draft
        if draw > 0.85:
            draft = self._first("conjunction", True, lambda target: self._conjoined(target, needed=False))
            if draft is not None:
                return draft
        return self._by_label(True, self._related)

    def _attribute(self) -> Draft | None:
        return self._first("attribute", False, self._attributed)

    def _single(self) -> Draft | None:
        return self._by_label(False, self._related)

    def _compound(self) -> Draft | None:
        draw = self.rng.random()
        if draw < 0.25:
            draft = self._by_label(False, lambda label, target: self._related(label, target, needs_attribute=True))
        elif draw < 0.40:
            draft = self._first("conjunction", False, self._negated)
        elif draw < 0.55:
            draft = self._first("conjunction", False, self._nested)
        else:
            draft = None
        return draft or self._first("conjunction", False, self._conjoined)

    def _head(self, target: int, color: float = 0.35, material: float = 0.1) -> Expression:
        """Noun and, with the given probabilities, attributes that hold of the target."""
        o = self.scene.objects[target]
        return Expression(
            self.proposer.word(target),
            o.color if self.rng.random() < color else None,
            o.material if self.rng.random() < material else None,
        )

    def _plain(self, target: int) -> Draft | None:
        e = self._head(target, 0.35, 0.12)
        label = "attribute" if e.color or e.material else "none"
        return (e, label, target, ()) if self.interpreter.is_exact(e, target) else None

    def _attributed(self, target: int) -> Draft | None:
        o, word = self.scene.objects[target], self.proposer.word(target)
        options = [Expression(word, size=size) for size in ("big", "small", "tall", "short", "wide", "narrow")]
        options += [Expression(word, o.color)] * 6 if o.color else []
        options += [Expression(word, None, o.material)] * 4 if o.material else []
        options += [Expression(word, o.color, o.material)] * 3 if o.color and o.material else []
        options += (
            [Expression(word, o.color, None, size) for size in ("big", "small", "tall", "short")] if o.color else []
        )
        if self.interpreter.is_exact(Expression(word), target):
            return None  # no attribute is needed
        for e in self.proposer.shuffled(options):
            if self.interpreter.is_exact(e, target):
                return e, "attribute", target, ()
        return None

    def _related(self, label: str, target: int, needs_attribute: bool = False) -> Draft | None:
        """One relation; with ``needs_attribute`` one that tells the target only together with an attribute."""
        e = self._head(target, 0.9, 0.3) if needs_attribute else self._head(target)
        if needs_attribute and not (e.color or e.material):
            return None
        if self.distractors[target] and self.interpreter.is_exact(e, target):
            if needs_attribute:
                return None
            e = Expression(e.noun)  # the colour alone would do
        thing = label == "on" and self.rng.random() < 0.12
        for proposal in self.proposer.propose(label, target):
            if thing and proposal.relations and proposal.relations[0].kind == "on":
                vague = proposal.onto(Expression(THINGS[int(self.rng.random() * len(THINGS))]))
                if self.interpreter.is_exact(vague, target):
                    return vague, label, target, proposal.anchors
            said = proposal.onto(e)
            if not self.interpreter.is_exact(said, target) or self._trivial(said):
                continue
            if needs_attribute and self.interpreter.is_exact(replace(said, color=None, material=None), target):
                continue
            return self._counted(said, target), label, target, proposal.anchors
        return None

    def _trivial(self, e: Expression) -> bool:
        """ "The second of two" is better said as the other one."""
        if e.selection is None or e.selection.rank == 1:
            return False
        return int(self.interpreter.fits(replace(e, relations=(), selection=None), False).sum()) < 3

    def _counted(self, e: Expression, target: int) -> Expression:
        """Sometimes with the number of objects of the noun: "of the three chairs"."""
        middle = e.selection is not None and e.selection.kind in ("leftmost", "rightmost") and e.selection.rank == 2
        if (
            self.rng.random() > (0.6 if middle else 0.12)
            or NOUNS[e.noun].is_plural
            or any(r.negated for r in e.relations)
        ):
            return e
        head = replace(e, relations=(), selection=None)
        count = int(self.interpreter.fits(head, False).sum())
        if not 2 <= count <= 6:
            return e
        counted = replace(e, count=count)
        return counted if self.interpreter.is_exact(counted, target) else e

    def _some(self, target: int, selections: bool, limit: int = 5) -> list[tuple[str, Proposal]]:
        """A few things that hold of the target, of different labels."""
        found: list[tuple[str, Proposal]] = []
        e = Expression(self.scene.objects[target].name)
        for label in self.proposer.shuffled(LABELS):
            for n, proposal in enumerate(self.proposer.propose(label, target)):
                if (proposal.selection is None or selections) and self.interpreter.fits(proposal.onto(e), True)[target]:
                    found.append((label, proposal))
                    break
                if n >= 3:
                    break
            if len(found) >= limit:
                break
        return found

    def _conjoined(self, target: int, needed: bool = True) -> Draft | None:
        """Two relations, neither of which would do alone if that can be had; with ``needed`` the noun must not do."""
        e = self._head(target)
        if needed and self.interpreter.is_exact(e, target):
            return None
        some = self._some(target, selections=True)
        spare: Draft | None = None
        for a, (_, first) in enumerate(some):
            alone = self.interpreter.is_exact(first.onto(e), target)
            for _, second in some[a + 1 :]:
                if first.selection is not None:
                    first, second = second, first
                # A selection is made among what the relation leaves, and both cannot be seen from somewhere else.
                if first.selection is not None or (
                    first.has_view and (second.has_view or second.selection is not None)
                ):
                    continue
                if set(first.anchors) & set(second.anchors):
                    continue
                said = second.onto(first.onto(e))
                if not self.interpreter.is_exact(said, target) or self._trivial(said):
                    continue
                draft = said, "conjunction", target, first.anchors + second.anchors
                if not alone and not self.interpreter.is_exact(second.onto(e), target):
                    return draft
                spare = spare or draft
        return spare

    def _negated(self, target: int) -> Draft | None:
        """Told by what it is not: "the chair that is not near the door"."""
        e = self._head(target, 0.4)
        if self.interpreter.is_exact(e, target):
            return None
        rivals = np.flatnonzero(self.interpreter.fits(e, False))
        for rival in self.proposer.shuffled(r for r in rivals if r != target)[:2]:
            for label in self.proposer.shuffled(("near", "next to", "corner", "on", "window", "under")):
                for proposal in self.proposer.propose(label, int(rival)):
                    if len(proposal.relations) != 1 or proposal.has_view or target in proposal.anchors:
                        continue
                    relation = replace(proposal.relations[0], negated=True)
                    anchor = relation.anchors[0] if relation.anchors else None
                    if anchor and int(self.interpreter.fits(anchor, False).sum()) != 1:
                        continue
                    said = replace(e, relations=(relation,))
                    if self.interpreter.is_exact(said, target):
                        return said, "conjunction", target, proposal.anchors
                    break
        return None

    def _nested(self, target: int) -> Draft | None:
        """An anchor that is told by a relation of its own: "the lamp on the table that is next to the window"."""
        e = self._head(target, 0.15, 0.05)
        for label in self.proposer.shuffled(("on", "next to", "near", "under", "above")):
            for proposal in self.proposer.propose(label, target):
                if len(proposal.relations) != 1 or not proposal.anchors:
                    continue
                outer, j = proposal.relations[0], proposal.anchors[0]
                plain = Expression(outer.anchors[0].noun)
                if self.interpreter.is_exact(plain, j):
                    continue
                for inner_label in self.proposer.shuffled(("next to", "window", "near", "corner", "on"))[:3]:
                    for inner in self.proposer.propose(inner_label, j):
                        if inner.selection or inner.has_view or target in inner.anchors:
                            continue
                        anchor = inner.onto(plain)
                        said = replace(e, relations=(replace(outer, anchors=(anchor,)),))
                        # The other way to read it, both relations being said of the target, must not fit anything else.
                        flat = replace(e, relations=(Relation(outer.kind, (plain,)), *inner.relations))
                        astray = self.interpreter.fits(flat, False)
                        astray[target] = False
                        if self.interpreter.is_exact(said, target) and not astray.any():
                            return said, "conjunction", target, (j, *inner.anchors)
                        break
        return None


def corpus(rng: np.random.Generator, n: int) -> list[str]:
    """``n`` sentences without a scene, through the same grammar with random classes, attributes and relations.

    For distilling a text encoder: every word that :func:`generate_sentences` may use occurs.
    """
    phraser = Phraser(rng)
    return [phraser.sentence(invent(rng))[0] for _ in range(n)]
