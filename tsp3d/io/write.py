"""Files written whole or not at all, with a clear word where a place cannot be written to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tsp3d import files
from tsp3d.io.errors import UserError
from tsp3d.io.load import is_scan


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """:func:`tsp3d.files.replacing` for outputs that a user named.

    Raises:
        UserError: the place cannot be written to.
    """
    if Path(path).is_dir():
        raise UserError(f"{path}: cannot write a file there, it is a folder; choose another name")
    try:
        with files.replacing(path) as temporary:
            yield temporary
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error}); choose another place") from error


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text through :func:`replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def check_writable(path: str | os.PathLike[str]) -> None:
    """Try a place before the work that is for it; nothing is left there.

    Raises UserError as :func:`replacing`, and for the name of a scan: one that was there would be lost."""
    if is_scan(Path(path)):
        raise UserError(f"{path}: results under a scan's name would take its place; choose another, e.g. results.json")
    with suppress(_Tried), replacing(path) as temporary:
        temporary.touch()
        raise _Tried


class _Tried(Exception):
    pass
