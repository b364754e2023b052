"""Files written whole or not at all."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``path`` (folders are made), and rename it to ``path`` when the block succeeds.

    If the block fails, the temporary file goes and whatever was at ``path`` stays.
    """
    path = Path(path)
    # The suffix stays last: writers such as matplotlib choose the format by it.
    stem = os.fsdecode(os.fsencode(path.stem)[:100])
    temporary = path.with_name(f".{stem}.{os.getpid()}-{threading.get_native_id()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    finally:
        with suppress(OSError):  # where the folder could not be made, there is nothing to remove
            temporary.unlink()


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text through :func:`replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
