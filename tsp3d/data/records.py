"""Lines of a prepared dataset's JSON files, each checked before anything is made of it."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

Record = dict[str, Any]


def read_lines(path: Path, problem: Callable[[Record], str | None]) -> Iterator[tuple[int, int, Record]]:
    """(start, end, record) of each JSON line; nothing where there is no such file. A last line that is still being
    written is left out.

    Raises:
        ValueError: a line is no JSON object, or ``problem`` finds one in it.
    """
    if not path.is_file():
        return
    start = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            end = start + len(line)
            if line.strip():
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError) as error:
                    if not line.endswith(b"\n"):
                        log.warning("%s: its last line is not whole, and left out", path)
                        return
                    raise ValueError(f"{path}, line {number}: not JSON ({error}); write the dataset again") from error
                found = problem(record) if isinstance(record, dict) else "it is no object"
                if found:
                    raise ValueError(f"{path}, line {number}: {found}; correct it, or write the dataset again")
                yield start, end, record
            start = end


def scene_problem(record: Record) -> str | None:
    """What is wrong with a line of scenes.jsonl, if anything."""
    for key in ("scene_id", "shard"):
        if not _is_text(record.get(key)):
            return f"a scene needs a {key}, a text"
    objects = record.get("objects")
    if not isinstance(objects, list):
        return "a scene needs objects, a list"
    seen = set()
    for item in objects:
        if not isinstance(item, dict) or not is_whole(item.get("id")) or item["id"] < 0:
            return "an object needs an id, a whole number from 0"
        if item["id"] in seen:
            return f"two objects have the id {item['id']}"
        seen.add(item["id"])
        if not _is_text(item.get("name")) or not isinstance(item.get("color") or "", str):
            return f"object {item['id']} needs a name, and a color or null, as texts"
        box = item.get("box")
        if not isinstance(box, list) or len(box) != 6 or not all(map(_is_number, box)) or min(box[3:]) < 0:
            return f"object {item['id']} needs a box, [x, y, z, dx, dy, dz] in metres with no size below 0"
    return None


def sentence_problem(record: Record) -> str | None:
    """What is wrong with a line of sentences.jsonl or sets.jsonl, if anything."""
    if not _is_text(record.get("scene_id")):
        return "a sentence needs a scene_id, a text"
    if not _is_text(record.get("text")):
        return "a sentence needs a text with a word in it"
    if "target" not in record or not all(map(is_whole, wanted_ids(record))):
        return "a sentence needs a target, the id of an object or a list of them"
    anchors = record.get("anchors") or []
    if not isinstance(anchors, list) or not all(map(is_whole, anchors)):
        return "anchors must be a list of ids of objects"
    return None


def wanted_ids(record: Record) -> list[Any]:
    """Ids of the objects that a sentence means."""
    raw = record["target"]
    return raw if isinstance(raw, list) else [raw]


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, also written 7.0."""
    return _is_number(value) and value == int(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_writable(value: Any) -> bool:
    """Whether a value is a text that can be written: in JSON it may hold half of a character."""
    if not isinstance(value, str):
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _is_text(value: Any) -> bool:
    return is_writable(value) and bool(value.strip())
