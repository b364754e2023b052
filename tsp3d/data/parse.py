"""The object that a sentence means and those that it names beside it, by rules over plain English.

The object meant is the first thing named that no preposition or verb of looking governs: "next to the desk there is a
chair", "facing the bed, the lamp on its left". Words are those of :mod:`tsp3d.synth.vocabulary`, and what stands after
an article where a noun must.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tsp3d.synth.types import COLORS
from tsp3d.synth.vocabulary import COLOR_WORDS, MATERIAL_WORDS, NOUNS, SIZE_WORDS, THINGS


@dataclass(frozen=True)
class Parse:
    """Nouns in the singular, as the sentence has them."""

    main: str
    """What is meant; "" where the sentence names nothing."""
    auxiliary: tuple[str, ...] = ()
    """What else is named, each once, in order."""


@dataclass(frozen=True)
class _Mention:
    noun: str
    sentence: int
    start: int
    end: int
    governed: bool


_WORDS = {form: noun.word for noun in NOUNS.values() for form in (noun.plural, noun.word)}
_LONGEST = max(len(form.split()) for form in _WORDS)
_ARTICLES = frozenset("the a an this that these those its their both all every each some another".split())
_GOVERNORS = frozenset(
    "near to by beside at on in of under underneath below beneath above over between behind against along around "
    "inside onto from towards toward with facing face faces than opposite across past through onto into atop beyond "
    "next adjacent touching nearest closest has have having holding".split()
)
_JOINS = frozenset(("and", "or"))
_ENDS = _GOVERNORS | _JOINS | frozenset(
    "is are was were be it that which who when while if as you i there , : ; ( ) left right front back not only also "
    "farthest furthest far close standing sitting hanging lying resting located placed looking made seen most".split()
)  # fmt: skip
_SHADED = frozenset((*COLORS, *(word for words in (*COLOR_WORDS.values(), *MATERIAL_WORDS.values()) for word in words)))
_ADJECTIVES = (
    _SHADED
    | frozenset(word for words in SIZE_WORDS.values() for word in words)
    | frozenset(
        "light dark bright first second third fourth fifth last other same single double long round square rectangular "
        "middle two three four five six seven only old new empty open closed distant just".split()
    )
)
_PLACES = frozenset(
    "room wall walls floor corner corners ceiling side sides middle center centre end doorway entrance row one ones "
    "edge top bottom hand bathroom kitchen bedroom office area way head foot feet direction".split()
)
_OPENING = re.compile(
    r"^(?:and |so |then |please |can you |could you |do you |i want |i mean |"
    r"the (?:one|object|item) (?:i|you) (?:want|need) is |you are looking for |find |select |show me |"
    r"point to |locate |pick |choose |highlight |go to |"
    r"give me |mark |look for |see |where (?:is|are) |which one is |it is |it's |its |this is |these are |there is |"
    r"there are |there's )+"
)
_GROUP = re.compile(r"^(?:out of|of|among|amongst) (?:the |all |these )*(?:two|three|four|five|six|seven)?\b")


def parse(text: str) -> Parse:
    """Main and auxiliary nouns of a sentence, or of several that speak of one object."""
    sentences = [s.strip() for s in re.split(r"[.?!;]+(?:\s|$)", " ".join(text.lower().split())) if s.strip()]
    tokens = [re.findall(r"[a-z0-9'-]+|[,:()]", _opened(sentence)) for sentence in sentences]
    mentions = [m for number, words in enumerate(tokens) for m in _mentions(words, number)]
    if not mentions:
        return Parse("")
    free = [m for m in mentions if not m.governed]
    main = free[0] if free else mentions[0]
    if sentences[main.sentence].startswith(("there is", "there are")):
        # "there is a desk. the chair is next to it": the first only sets the scene.
        for m in free:
            words, raw = tokens[m.sentence], sentences[m.sentence]
            if m.sentence > main.sentence and "it" in words[m.end :] and not raw.startswith(("there ", "it ")):
                main = m
                break
    others = []
    for m in mentions:
        before = tokens[m.sentence][max(m.start - 2, 0) : m.start]
        again = m.noun == main.noun and not {"other", "another"} & set(before)
        if m is not main and not again and m.noun not in others:
            others.append(m.noun)
    return Parse(main.noun, tuple(others))


def names(noun: str, label: str) -> bool:
    """Whether an object labelled ``label`` may be called ``noun``."""
    known = NOUNS.get(noun)
    return label == noun or label.endswith(f" {noun}") or (known is not None and label in known.reads)


def nouns(phrase: str) -> list[str]:
    """The objects that a phrase names, in order, in the singular."""
    return [m.noun for m in _mentions(re.findall(r"[a-z0-9'-]+", phrase.lower()), 0)]


def _opened(sentence: str) -> str:
    """The sentence without what only asks for the object, or names the group that it is chosen from."""
    parts = (_OPENING.sub("", _GROUP.sub("", _OPENING.sub("", part.strip()))) for part in sentence.split(","))
    return " , ".join(part.strip() for part in parts)


def _mentions(words: list[str], sentence: int) -> list[_Mention]:
    found: list[_Mention] = []
    position = last = 0
    while position < len(words):
        match = _known(words, position) or _unknown(words, position)
        if match is None:
            position += 1
            continue
        noun, start, end = match
        if found and found[-1].end == start:  # "desk lamp": the last noun is the head
            previous = found.pop()
            found.append(_Mention(noun, sentence, previous.start, end, previous.governed))
        elif noun not in THINGS or not found:
            found.append(_Mention(noun, sentence, start, end, _governed(words[last:start], found)))
        position = last = end
    return found


def _governed(between: list[str], before: list[_Mention]) -> bool:
    """By the words since the last noun: a preposition with no comma or verb after it."""
    for index, word in reversed(list(enumerate(between))):
        if word == "," or (word in ("is", "are", "see") and index >= len(between) - 4):
            return False
        if word in _GOVERNORS:
            return True
        if word in _JOINS:  # what is joined is governed like what it is joined to
            return bool(before) and before[-1].governed
    return False


def _known(words: list[str], position: int) -> tuple[str, int, int] | None:
    for length in range(min(_LONGEST, len(words) - position), 0, -1):
        noun = _WORDS.get(" ".join(words[position : position + length]))
        if noun is None:
            continue
        following = words[position + length] if position + length < len(words) else ""
        if noun == "light" and (following in _SHADED or following in _WORDS):
            return None  # a shade
        return noun, position, position + length
    return None


def _unknown(words: list[str], position: int) -> tuple[str, int, int] | None:
    """A noun that is not in the vocabulary: the last word before the phrase after an article ends."""
    if words[position] not in _ARTICLES:
        return None
    end = position + 1
    while end < len(words) and words[end] not in _ENDS and words[end] not in _ARTICLES and end - position < 6:
        if _known(words, end):
            return None
        end += 1
    head = words[end - 1]
    if end == position + 1 or head in _ADJECTIVES or head in _PLACES or head.endswith(("est", "ly")):
        return None
    return head, end - 1, end
