"""From the structure of a referring expression to English text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from tsp3d.synth import phrases
from tsp3d.synth.expressions import Expression, Relation, Selection, View
from tsp3d.synth.vocabulary import COLOR_WORDS, COUNTS, MATERIAL_WORDS, NOUNS, ORDINALS, SIZE_WORDS, THINGS

T = TypeVar("T")


def pick(rng: np.random.Generator, items: Sequence[T]) -> T:
    """One of ``items``, evenly."""
    return items[int(rng.random() * len(items))]


@dataclass
class _Parts:
    """A description taken apart, ready for a sentence frame."""

    adjective: str = ""
    """Selecting adjective: "largest", "second"."""
    posts: list[str] | None = None
    """Phrases that go after the noun, or after "it is"."""
    relative: list[str] | None = None
    """Phrases that need "that is" after a noun: negations."""
    predicate: str = ""
    """The selection after "it is": "the largest one"."""
    view: str = ""


class Phraser:
    """Words expressions with choices drawn from ``rng``."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng

    # --- noun phrases ----------------------------------------------------------------------------------------------

    def noun_phrase(self, e: Expression, article: str = "the", adjective: str = "", head: str = "") -> str:
        """Article, adjectives and noun (or ``head`` in its place), without relations."""
        noun = NOUNS[e.noun]
        words = [
            adjective,
            pick(self.rng, SIZE_WORDS[e.size]) if e.size else "",
            *self.attributes(e),
            head or noun.word,
        ]
        phrase = " ".join(word for word in words if word)
        if article == "a":
            article = "some" if noun.is_plural and not head else "an" if phrase[0] in "aeiou" else "a"
        return f"{article} {phrase}".strip()

    def attributes(self, e: Expression) -> list[str]:
        """Words for colour and material, in that order."""
        words = []
        if e.color:
            words.append(pick(self.rng, COLOR_WORDS.get(e.color, (e.color,))))
        if e.material:
            words.append(pick(self.rng, MATERIAL_WORDS[e.material]))
        return words

    def anchor(self, e: Expression, article: str = "the") -> str:
        """An anchor's noun phrase with its own relation, if it has one, as a relative clause."""
        phrase = self.noun_phrase(e, article)
        if e.relations:
            that = pick(self.rng, ("that is", "which is", "that is")) if not NOUNS[e.noun].is_plural else "that are"
            phrase += f" {that} {self.relation(e.relations[0])}"
        return phrase

    # --- relations -------------------------------------------------------------------------------------------------

    def relation(self, r: Relation, of: frozenset[str] = frozenset()) -> str:
        """The phrase of a relation of something of the classes ``of``, without its viewpoint."""
        side = r.kind.rsplit(" ", 1)[-1]
        if r.kind.startswith("facing"):
            return pick(self.rng, phrases.FACING_TRAILING).format(side=side, a=self.anchor(r.anchors[0]))
        if r.kind == "between" and len(r.anchors) == 1:
            plural = NOUNS[r.anchors[0].noun].plural
            anchor = " ".join(["the two", *self.attributes(r.anchors[0]), plural])
            return pick(self.rng, phrases.RELATION_PHRASES["between two"]).format(a=anchor)
        kind = r.kind.rsplit(" ", 1)[0] + " side" if side in ("left", "right") else r.kind
        templates = phrases.RELATION_PHRASES[kind]
        if r.kind == "on" and of and of <= phrases.LYING:
            templates += ("lying on {a}",)
        if r.kind == "above" and of and of <= phrases.HANGING:
            templates += ("hanging above {a}", "hanging over {a}")
        template = pick(self.rng, templates)
        vague = r.kind in ("near", "next to", "on", "under", "above") and self.rng.random() < 0.12
        anchors = [self.anchor(a, "a" if vague else "the") for a in r.anchors]
        return template.format(a=anchors[0] if anchors else "", b=anchors[-1] if anchors else "", side=side)

    def negation(self, r: Relation) -> str:
        """ "not near the desk"."""
        templates = phrases.NEGATED_PHRASES.get(r.kind)
        if templates is None:
            return "not " + self.relation(r)
        return pick(self.rng, templates).format(a=self.anchor(r.anchors[0]))

    def view(self, v: View) -> str:
        """The phrase of a viewpoint."""
        anchors = [self.anchor(a) for a in v.anchors]
        template = pick(self.rng, phrases.VIEW_PHRASES[v.kind])
        if v.kind == "sit" and v.anchors[0].noun.endswith("armchair"):
            template = template.replace(" on ", " in ")
        return template.format(a=anchors[0] if anchors else "", b=anchors[-1] if anchors else "")

    # --- the whole -------------------------------------------------------------------------------------------------

    def parts(self, e: Expression) -> _Parts:
        """Words for everything but the noun and its attributes."""
        parts = _Parts(posts=[], relative=[])
        assert parts.posts is not None and parts.relative is not None
        for r in e.relations:
            side = r.kind.rsplit(" ", 1)[-1]
            if r.negated:
                parts.relative.append(self.negation(r))
                continue
            if r.kind.startswith("facing") and self.rng.random() < 0.6 and not parts.view:
                parts.view = pick(self.rng, phrases.FACING_VIEWS).format(a=self.anchor(r.anchors[0]))
                parts.posts.insert(0, pick(self.rng, phrases.FACING_CORES).format(side=side))
                continue
            if r.view is not None:
                parts.view = self.view(r.view)
            parts.posts.append(self.relation(r, NOUNS[e.noun].names))
        if e.selection is not None:
            self._add_selection(e, e.selection, parts)
        return parts

    def _add_selection(self, e: Expression, s: Selection, parts: _Parts) -> None:
        assert parts.posts is not None
        rng = self.rng
        ordinal = ORDINALS[s.rank] + " " if s.rank > 1 else ""
        if s.view is not None:
            parts.view = self.view(s.view)
        if s.kind in phrases.PROXIMITY:
            anchor = self.anchor(s.anchors[0]) if s.anchors else ""
            wordings = [
                p for p in phrases.PROXIMITY[s.kind] if s.rank == 1 or not p.startswith(("nearest {", "nearest you"))
            ]
            parts.posts.append(ordinal + pick(rng, wordings).format(a=anchor))
            parts.predicate = f"the one {parts.posts[-1]}"
        elif s.kind in ("leftmost", "rightmost"):
            side = s.kind[:-4]
            if s.rank == 2 and e.count == 3:
                parts.adjective, parts.predicate = "middle", "the one in the middle"
            elif s.rank == 1 and rng.random() < 0.6:
                if rng.random() < 0.6:
                    parts.adjective, parts.predicate = s.kind, f"the {s.kind} one"
                else:
                    parts.posts.append(pick(rng, (f"furthest to the {side}", f"on the far {side}")))
                    parts.predicate = f"the one {parts.posts[-1]}"
            else:
                parts.adjective = ORDINALS[s.rank]
                parts.posts.append(f"from the {side}")
                parts.predicate = f"the {ORDINALS[s.rank]} one from the {side}"
        else:
            parts.adjective = ordinal + pick(rng, phrases.SUPERLATIVES[s.kind])
            parts.predicate = f"the {parts.adjective} one"

    def sentence(self, e: Expression) -> tuple[str, int]:
        """Text of ``e`` in a random frame, and its number of statements (1 to 3)."""
        text, clauses = self._frame(e)
        return self._finish(text), clauses

    def several(self, e: Expression, count: int) -> tuple[str, int]:
        """Text of ``e`` said of ``count`` objects at once, and its number of statements; at most one relation."""
        rng, noun = self.rng, NOUNS[e.noun]
        group = " ".join([*self.attributes(e), noun.plural])
        one = " ".join([*self.attributes(e), noun.word])
        number = COUNTS.get(count, "")
        told = [self.relation(e.relations[0], noun.names)] if e.relations else []
        openings = ["the {g}", "all the {g}", "all {g}", "every {one}", "{g}"]
        if number:
            openings += ["the {n} {g}"] * 3 + ["all {n} {g}" if count > 2 else "both {g}"]
        opening = pick(rng, openings)
        phrase = opening.format(g=group, one=one, n=number)
        link = pick(rng, ("", "", "", "that is " if "{one}" in opening else "that are "))
        draw = rng.random()
        if draw < 0.2 and number:
            said = f". {pick(rng, ('they are', 'all of them are'))} {told[0]}" if told else " in the room"
            return self._finish(f"there are {number} {group}{said}"), 1 + len(told)
        phrase = " ".join([phrase, *(link + post for post in told)])
        if draw < 0.4:
            phrase = pick(rng, phrases.WRAPPERS).format(d=phrase)
        return self._finish(phrase), 1

    def _frame(self, e: Expression) -> tuple[str, int]:
        rng, noun = self.rng, NOUNS[e.noun]
        parts = self.parts(e)
        # "of the chairs near the desk, the largest one": a selection after a relation is worded over the group.
        if e.selection is not None and e.relations:
            return self._group(e, parts)
        if e.count:
            return self._counted(e, parts)
        draw = rng.random()
        said = bool(parts.posts or parts.relative or parts.predicate)
        if noun.is_plural or noun.word in THINGS:
            return (self._definite(e, parts), 1) if draw < 0.6 else (self._wrapped(e, parts), 1)
        told = len(parts.posts or []) + len(parts.relative or []) + bool(e.color) + bool(e.material)
        if told > 1 and rng.random() < 0.3:  # who has more to say takes more sentences
            return self._statements(e, parts)
        if draw < 0.34:
            return self._definite(e, parts), 1
        if draw < 0.50:
            return _bare(self._definite(e, parts)), 1
        if draw < 0.65:
            return self._wrapped(e, parts), 1
        if draw < 0.90:
            return self._statements(e, parts)
        if not said:
            return self._definite(e, parts), 1
        if (
            draw < 0.94
            and len(e.relations) == 1
            and not parts.relative
            and not parts.view
            and not e.relations[0].negated
        ):
            return self._inverted(e, parts)
        return self._copula(e, parts), 1

    def _definite(self, e: Expression, parts: _Parts, head: str = "", opening: str = "") -> str:
        """ "the brown chair next to the desk", with the viewpoint before or after."""
        noun = NOUNS[e.noun]
        posts, relative = parts.posts or [], parts.relative or []
        phrase = self.noun_phrase(e, "the", parts.adjective, head)
        be = "are" if noun.is_plural and not head else "is"
        if posts:
            link = ""
            # "that is second from the left" would lose its ordinal, which stands before the noun.
            if self.rng.random() < 0.22 and not parts.adjective:
                link = pick(self.rng, (f"that {be} ", f"which {be} ", f"that {be} ", "located "))
                if link == "located " and not re.match(
                    r"(next|near|close|by|beside|in|on|between|under|behind|to|above)\b", posts[0]
                ):
                    link = f"that {be} "
            phrase += f" {link}{self._join(posts)}"
        for item in relative:
            phrase += f"{' and' if posts else ''} that {be} {item}"
        return self._with_view(opening.format(d=phrase) if opening else phrase, parts.view)

    def _join(self, posts: list[str]) -> str:
        if len(posts) == 1:
            return posts[0]
        return pick(self.rng, (" and ", " and ", " and also ", ", ")).join(posts)

    def _with_view(self, phrase: str, view: str) -> str:
        if not view:
            return phrase
        # A pronoun for the anchor ("left of it") needs the viewpoint first.
        first = self.rng.random() < 0.6 or re.search(r"\bof it\b", phrase) is not None or not _can_trail(view)
        return f"{view}, {phrase}" if first else f"{phrase} {view}"

    def _wrapped(self, e: Expression, parts: _Parts) -> str:
        question = self.rng.random() < 0.35 and not parts.view and not NOUNS[e.noun].is_plural
        return self._definite(e, parts, opening=pick(self.rng, phrases.QUESTIONS if question else phrases.WRAPPERS))

    def _statements(self, e: Expression, parts: _Parts) -> tuple[str, int]:
        """ "there is a brown chair. it is next to the desk." """
        rng = self.rng
        posts, relative = list(parts.posts or []), list(parts.relative or [])
        said: list[str] = []
        if parts.predicate:
            if posts and parts.predicate.endswith(posts[-1]):
                posts.pop()
            if posts and posts[-1].startswith("from the "):
                posts.pop()
            said.append(parts.predicate)
        said = posts + said + relative
        noun_only = e
        moved = [a for a in (e.color, e.material) if a]
        if moved and e.size is None and (not said or rng.random() < 0.35):
            noun_only = replace(e, color=None, material=None)
            said.insert(0, " and ".join(self.attributes(e)).replace(" colored", ""))
        article = "the" if e.size else "a"
        opening = pick(rng, ("there is {np}", "there is {np}", "this is {np}", "it is {np}", "look for {np}"))
        if e.size:
            opening = pick(rng, ("this is {np}", "it is {np}"))
        if parts.predicate and opening.startswith("it is"):
            opening = "there is {np}"
        body = opening.format(np=self.noun_phrase(noun_only, article))
        if not said:
            return (body + (" in the room" if body.startswith("there") else "")), 1
        view = parts.view
        if view and re.search(r"\bof it\b", said[0]):  # "of it" would mean the target after "it is"
            return self._definite(e, parts), 1
        if view and len(said) == 1:
            last = f"it is {said[0]} {view}" if _can_trail(view) and rng.random() < 0.6 else f"{view}, it is {said[0]}"
            return f"{body}. {last}", 2
        if view:
            body = f"{view}, there is {self.noun_phrase(noun_only, 'a' if not e.size else 'the')}"
        if not parts.predicate and body.startswith("there is") and rng.random() < 0.3 and said[0] in posts:
            body += " " + said.pop(0)
            if not said:
                return body, 1
        if len(said) == 1:
            again = "i mean the one that is " if body.startswith("there is") and not parts.predicate else "it is "
            return f"{body}. {pick(rng, ('it is ', 'it is ', 'it is ', again))}{said[0]}", 2
        if rng.random() < 0.35:
            again = "it is " if noun_only is not e or rng.random() < 0.5 else ""  # not "brown and near the desk"
            return f"{body}. it is {said[0]} and {again}{' and '.join(said[1:])}", 2
        return f"{body}. it is {said[0]}. it is {' and '.join(said[1:])}", 3

    def _copula(self, e: Expression, parts: _Parts) -> str:
        """ "the brown chair is next to the desk"."""
        posts, relative = parts.posts or [], parts.relative or []
        if parts.predicate or relative or not posts or re.search(r"\bof it\b", posts[0]):
            return self._definite(e, parts)
        phrase = f"{self.noun_phrase(e)} is {self._join(posts)}"
        return self._with_view(phrase, parts.view)

    def _inverted(self, e: Expression, parts: _Parts) -> tuple[str, int]:
        """ "next to the desk there is a brown chair", "there is a desk. the chair is next to it"."""
        rng, r = self.rng, e.relations[0]
        plain = len(r.anchors) == 1 and r.kind in ("near", "next to", "on", "under", "above", "front", "behind")
        if plain and not r.anchors[0].relations and rng.random() < 0.5 and not NOUNS[r.anchors[0].noun].is_plural:
            anchor = self.noun_phrase(r.anchors[0], "a")
            core = pick(rng, phrases.RELATION_PHRASES[r.kind]).format(a="it")
            return f"there is {anchor}. {pick(rng, ('the one i want is ', 'find ', ''))}{self.noun_phrase(e)} {core}", 2
        verb = pick(rng, ("there is", "is", "you can see"))
        return f"{self._join(parts.posts or [])} {verb} {self.noun_phrase(e, 'a')}", 1

    def _counted(self, e: Expression, parts: _Parts) -> tuple[str, int]:
        """ "of the three chairs, the one next to the desk"."""
        rng = self.rng
        group = " ".join([COUNTS[e.count], *self.attributes(e), NOUNS[e.noun].plural])
        one = self._definite(Expression(e.noun), replace(parts, view=""), head="one")
        opening = pick(rng, ("of the {g}", "out of the {g}", "among the {g}", "there are {g}."))
        if parts.view and not _can_trail(parts.view):
            opening = "there are {g}."
        if opening.endswith("."):
            body = opening.format(g=group)
            place = f"{parts.view}, {body}" if parts.view else body
            return f"{place} {pick(rng, ('find ', 'it is ', 'pick ', 'i mean '))}{one}", 2
        return f"{opening.format(g=group)}, {one}" + (f" {parts.view}" if parts.view else ""), 1

    def _group(self, e: Expression, parts: _Parts) -> tuple[str, int]:
        """ "of the chairs near the window, the largest one"."""
        related = self.parts(replace(e, selection=None))
        chosen = self.parts(replace(e, relations=()))
        group = " ".join([*self.attributes(e), NOUNS[e.noun].plural])
        told = " and ".join([*(related.posts or []), *(related.relative or [])])
        one = self._definite(Expression(e.noun), replace(chosen, view=""), head="one")
        opening = pick(self.rng, ("of", "among", "out of"))
        text = f"{opening} the {group} {told}, {one}"
        if chosen.view:
            text = f"{text} {chosen.view}" if _can_trail(chosen.view) else f"{chosen.view}, {text}"
        return text, 1

    def _finish(self, text: str) -> str:
        """Upper or lower case, final stop."""
        draw = self.rng.random()
        text = re.sub(r" +", " ", text).strip()
        if draw < 0.25:
            text = re.sub(r"(^|[.?] )([a-z])", lambda m: m.group(1) + m.group(2).upper(), text)
            text = re.sub(r"\bi\b", "I", text)
        if draw < 0.55 and not text.endswith("?"):
            text += "."
        return text


def _can_trail(view: str) -> bool:
    """Whether a viewpoint may end a clause: "the lamp on the left facing the bed" would have the lamp face the bed."""
    return view.startswith(("when you", "as ", "if ", "seen ", "upon"))


def _bare(text: str) -> str:
    """Telegram style: "brown chair by desk"."""
    return re.sub(r"\b(the|an|a)\s+", "", text)
