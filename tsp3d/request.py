"""What a caller asks for: sentences and options, checked."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real

from tsp3d.io import UserError

log = logging.getLogger(__name__)

MOST = 16
"""Objects that a sentence about several gives unless the caller says otherwise."""

MAX_TEXT = 1000
"""Characters that a sentence is cut to; a text encoder may read fewer, and says so."""


@dataclass(frozen=True)
class Options:
    """How many boxes a caller wants, as :meth:`Grounder.ground` has them."""

    top_k: int | None
    min_score: float | None
    min_presence: float | None
    several: bool

    @property
    def count(self) -> int:
        """Boxes to ask for."""
        return self.top_k if self.top_k is not None else MOST if self.several else 1


def clean_text(text: str) -> str:
    """A sentence in one line of valid characters, cut to what is read. Raises UserError if there is nothing in it."""
    if not isinstance(text, str):
        raise UserError(f"a text must be a string, got {type(text).__name__}; say what to find, e.g. 'the brown chair'")
    valid = text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates come from undecodable command lines
    words = " ".join("".join(c if c.isprintable() else " " for c in valid).split())
    if all(c.isspace() or unicodedata.category(c)[0] in "PMCS" for c in words):
        raise UserError(f"the text {words!r} has no words: say what to find, e.g. 'the brown chair next to the desk'")
    if len(words) > MAX_TEXT:
        log.warning("the text has %d characters and is cut to %d", len(words), MAX_TEXT)
        words = words[:MAX_TEXT]
    return words


def warn_unless_english(text: str) -> None:
    """Log a warning where most letters are of another script than Latin."""
    letters = [c for c in text if c.isalpha()]
    if letters and sum(c.isascii() for c in letters) < 0.7 * len(letters):
        log.warning("the text %r does not look English, the only language the models know; expect a guess", text[:60])


def check_top_k(top_k: int) -> None:
    """Raises UserError unless ``top_k`` is a whole number from 1 to 1000."""
    if isinstance(top_k, bool) or not isinstance(top_k, Integral) or not 1 <= top_k <= 1000:
        raise UserError(f"top_k must be a whole number from 1 to 1000, got {top_k!r}")


def check_share(name: str, value: float | None) -> None:
    """Raises UserError unless ``value`` is None or lies in 0…1."""
    if value is not None and not (isinstance(value, Real) and 0.0 <= value <= 1.0):
        raise UserError(f"{name} must be from 0 to 1, got {value!r}")


def sentences_of(texts: Sequence[str]) -> list[str]:
    if isinstance(texts, (list, tuple)):
        return list(texts)
    raise UserError(f"texts must be a string or a list of strings, got {type(texts).__name__}")
