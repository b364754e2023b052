"""The errors a user can cause; each message names the file or argument, what is wrong and the remedy."""

from __future__ import annotations


class UserError(ValueError):
    """Something the user passed cannot be used. ``str(error)`` is one line that a user can act on."""


class ScanError(UserError):
    """A scan cannot be read, or holds nothing to look at."""


def one_line(error: BaseException, limit: int = 200) -> str:
    """First words of an error, on one line: for quoting a library's message inside ours."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 1] + "…"
