"""Files written whole or not at all, with a clear word where a place cannot be written to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
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
    """Try a place before the work that is for it; nothing is left there but its folder.

    Raises UserError as :func:`replacing`, and for the name of a scan: one that was there would be lost."""
    if is_scan(Path(path)) or is_scan(Path(os.path.realpath(path))):
        raise UserError(f"{path}: results under a scan's name would take its place; choose another, e.g. results.json")
    if _is_stream(path):
        if not os.access(path, os.W_OK):
            raise UserError(f"{path}: cannot be written (Permission denied); choose another place")
        return  # what opens a pipe for a trial ends it
    with suppress(_Tried), replacing(path) as temporary:
        temporary.touch()
        raise _Tried


def check_places(paths: Iterable[str | os.PathLike[str] | None], folder: str | os.PathLike[str] | None = None) -> None:
    """Try the places of all results (None and "-", standard output, are none) as :func:`check_writable`, and that none
    takes the place of another."""
    named = [path for path in paths if path and path != "-"]
    if folder and os.path.lexists(folder) and not Path(folder).is_dir():
        raise UserError(f"{folder}: pictures need a folder, and this is none; choose another name")
    places = [Path(os.path.realpath(path)) for path in [*named, *([folder] if folder else [])]]
    for number, path in enumerate(named):
        others = places[:number] + places[number + 1 :]
        if not _is_stream(path) and any(places[number] in (other, *other.parents) for other in others):
            raise UserError(f"{path}: named for two results; choose another name for one of them")
    for path in [*named, *([Path(folder) / "a.png"] if folder else [])]:
        check_writable(path)


def _is_stream(path: str | os.PathLike[str]) -> bool:
    try:
        return files.is_stream(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error}); choose another place") from error


class _Tried(Exception):
    pass
