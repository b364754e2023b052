"""What Nr3D and Sr3D (ReferIt3D, Achlioptas et al., ECCV 2020) share: one CSV file for all splits."""

from __future__ import annotations

import ast
from typing import Any

from tsp3d.data.annotated import VIEW_WORDS, is_view_dependent, plain_words


def same_class_objects(stimulus: str, target: int, where: str) -> int:
    """Objects of the target's class in the scene, itself included, by the row's ``stimulus_id``.

    ``scene-label-count-target-distractor-distractor…``; a label may have hyphens of its own.

    Raises:
        ValueError: not of this form.
    """
    parts = stimulus.split("-")
    places = [
        i
        for i in range(2, len(parts) - 1)
        if parts[i].isdecimal() and parts[i + 1].isdecimal() and int(parts[i + 1]) == target
    ]
    exact = [i for i in places if len(parts) - i - 2 == int(parts[i]) - 1]
    if not places:
        raise ValueError(
            f"{where}: stimulus_id {stimulus[:80]!r} is not scene-label-count-target-distractors with target {target}"
        )
    return int(parts[(exact or places)[0]])


def tokens_of(tokens: str | None, text: str) -> list[str]:
    """The row's tokens (a Python list in text form), or the words of its text where they are missing or damaged."""
    try:
        found = ast.literal_eval(tokens or "")
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        found = None
    return [str(word) for word in found] if isinstance(found, list | tuple) else plain_words(text)


def difficulty(stimulus: str, target: int, tokens: str | None, text: str, where: str) -> tuple[dict[str, Any], bool]:
    """-> what the sentence is reported by, and whether a mirrored scene would make it false.

    Reported by: ``distractors`` (1 is easy, more is hard) and ``view_dependent``, which goes by whole tokens as in
    ReferIt3D: "left-hand" is none of its words, though it forbids mirroring.
    """
    words = [word.lower() for word in tokens_of(tokens, text)]
    distractors = same_class_objects(stimulus, target, where) - 1
    return {"distractors": distractors, "view_dependent": not VIEW_WORDS.isdisjoint(words)}, is_view_dependent(words)


def id_list(value: str | None, where: str, column: str) -> tuple[int, ...]:
    """Ids written as a Python list; none where the field is empty.

    Raises:
        ValueError: something else.
    """
    if not (value or "").strip():
        return ()
    try:
        found = ast.literal_eval(value or "")
        return tuple(int(i) for i in (found if isinstance(found, list | tuple) else [found]))
    except (ValueError, SyntaxError, TypeError, OverflowError, MemoryError, RecursionError) as error:
        raise ValueError(f"{where}: {column} is {(value or '')[:80]!r}, not a list of object ids") from error
