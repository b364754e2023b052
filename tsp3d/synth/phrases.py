"""Word-level phrasing: relations, viewpoints and selections in English, several wordings of each.

``{a}`` and ``{b}`` stand for the anchors' noun phrases, ``{side}`` for left or right. A wording given twice is twice as
likely.
"""

from __future__ import annotations

RELATION_PHRASES: dict[str, tuple[str, ...]] = {
    "near": ("near {a}",) * 3 + ("close to {a}",) * 2 + ("by {a}", "not far from {a}", "near to {a}"),
    "next to": ("next to {a}",) * 3 + ("beside {a}",) * 2 + ("by {a}", "adjacent to {a}", "at the side of {a}"),
    "far": ("far from {a}", "far away from {a}", "a long way from {a}", "across the room from {a}"),
    "on": ("on {a}",) * 3 + ("on top of {a}",) * 2 + ("sitting on {a}", "resting on {a}"),
    "under": ("under {a}", "under {a}", "underneath {a}", "below {a}", "beneath {a}"),
    "above": ("above {a}", "above {a}", "over {a}", "up above {a}"),
    "between": ("between {a} and {b}", "between {a} and {b}", "in between {a} and {b}"),
    "between two": ("between {a}", "in between {a}"),
    "front": ("in front of {a}", "in front of {a}", "directly in front of {a}", "just in front of {a}"),
    "behind": ("behind {a}", "behind {a}", "directly behind {a}", "just behind {a}"),
    "view side": ("on the {side}",) * 2 + ("on your {side}", "to the {side}", "to your {side}", "on the {side} side")
    + ("on the {side} hand side",),
    "beside side": ("to the {side} of {a}",) * 2 + ("{side} of {a}", "on the {side} of {a}", "just {side} of {a}")
    + ("on the {side} side of {a}",),
    "view behind": ("behind {a}", "behind {a}", "just behind {a}"),
    "view front": ("in front of {a}", "in front of {a}", "just in front of {a}"),
    "corner": ("in the corner", "in the corner", "in the corner of the room", "in a corner of the room"),
    "wall": ("against the wall", "against the wall", "along the wall", "up against the wall"),
    "middle": ("in the middle of the room", "in the center of the room", "in the middle of the floor"),
    "on wall": ("on the wall", "on the wall", "hanging on the wall", "mounted on the wall"),
    "on floor": ("on the floor", "on the floor", "standing on the floor"),
}  # fmt: skip
"""Phrases that go after the noun or after "it is"."""

LYING = frozenset({"pillow", "books", "bag", "laptop", "keyboard", "box"})
"""Classes that may be "lying on" something."""

HANGING = frozenset({"picture", "mirror", "clock", "lamp", "tv", "whiteboard", "curtain"})
"""Classes that may be "hanging above" something."""

NEGATED_PHRASES: dict[str, tuple[str, ...]] = {
    "near": ("not near {a}", "not close to {a}", "not by {a}"),
    "next to": ("not next to {a}", "not beside {a}"),
    "on": ("not on {a}", "not on top of {a}"),
    "under": ("not under {a}", "not below {a}"),
}
"""Phrases of relations that do not hold; others take "not" before their phrase."""

FACING_TRAILING = (
    "to the {side} of {a} when you face it", "{side} of {a} when facing it", "on the {side} of {a} if you look at it",
    "to the {side} of {a} as you look at it", "on the {side} side of {a} when you stand facing it",
)  # fmt: skip
FACING_VIEWS = (
    "facing {a}", "when facing {a}", "if you face {a}", "when you look at {a}", "looking at {a}",
    "standing in front of {a} and facing it",
)  # fmt: skip
FACING_CORES = ("to the {side} of it", "on the {side} of it", "just {side} of it", "immediately to the {side} of it")

VIEW_PHRASES: dict[str, tuple[str, ...]] = {
    "enter": (
        "when you enter the room", "as you enter the room", "when entering the room", "when you walk in",
        "as you come in", "coming into the room", "upon entering the room", "if you walk into the room",
    ),
    "door": (
        "from the door", "as seen from the door", "seen from the doorway", "standing at the door", "from the doorway",
        "standing in the doorway", "when you stand in the doorway", "looking in from the door",
    ),
    "sit": ("when sitting on {a}", "if you sit on {a}", "sitting on {a}", "when you are seated on {a}"),
    "from": (
        "looking at {b} from {a}", "standing at {a} and looking at {b}", "when you stand by {a} and face {b}",
        "facing {b} from {a}", "from {a}, facing {b}", "looking from {a} towards {b}",
    ),
    "from door": (
        "looking at {b} from the door", "standing in the doorway and facing {b}", "when you look from the door to {b}",
        "facing {b} from the door", "standing at the door and looking at {b}",
    ),
}  # fmt: skip

SUPERLATIVES: dict[str, tuple[str, ...]] = {
    "largest": ("largest", "biggest"),
    "smallest": ("smallest",),
    "tallest": ("tallest",),
    "shortest": ("shortest",),
    "widest": ("widest",),
    "highest": ("highest", "uppermost"),
    "lowest": ("lowest",),
}
PROXIMITY: dict[str, tuple[str, ...]] = {
    "closest": ("closest to {a}", "closest to {a}", "nearest to {a}", "nearest {a}"),
    "farthest": ("farthest from {a}", "furthest from {a}", "farthest away from {a}", "furthest away from {a}")
    + ("most distant from {a}",),
    "nearest": ("closest to you", "nearest to you", "nearest you"),
}

WRAPPERS = (
    "find {d}", "find {d}", "select {d}", "show me {d}", "point to {d}", "locate {d}", "pick {d}", "choose {d}",
    "i want {d}", "please find {d}", "highlight {d}", "go to {d}", "i mean {d}", "give me {d}", "mark {d}",
)  # fmt: skip
QUESTIONS = (
    "where is {d}?", "where is {d}?", "can you find {d}?", "can you see {d}?", "which one is {d}?", "do you see {d}?",
    "could you point to {d}?",
)  # fmt: skip
