"""The errors a user can cause; each message names the file or argument, what is wrong and the remedy."""

from __future__ import annotations

import os


class UserError(ValueError):
    """Something the user passed cannot be used. ``str(error)`` is one line that a user can act on."""


class ScanError(UserError):
    """A scan cannot be read, or holds nothing to look at."""


def printable(path: str | os.PathLike[str]) -> str:
    """A path as text that can be printed and written: a name that is no UTF-8 has bytes that stand for no letter."""
    return os.fsencode(path).decode("utf-8", "replace")


def one_line(error: BaseException, limit: int = 200) -> str:
    """First words of an error, on one line: for quoting a library's message inside ours."""
    text = " ".join(str(error).split()) or type(error).__name__
    text += " is missing" if isinstance(error, KeyError) else ""  # which is but the key
    return text if len(text) <= limit else text[: limit - 1] + "…"
