"""Word-level phrasing: relations, viewpoints and selections in English, several wordings of each.

``{a}`` and ``{b}`` stand for the anchors' noun phrases, ``{of}`` for the plural of the noun.
"""

from __future__ import annotations

RELATION_PHRASES: dict[str, tuple[str, ...]] = {
    "near": ("near {a}", "near {a}", "near {a}", "close to {a}", "close to {a}", "by {a}", "not far from {a}", "near to {a}"),
    "next to": ("next to {a}", "next to {a}", "next to {a}", "beside {a}", "beside {a}", "by {a}", "adjacent to {a}", "at the side of {a}"),
    "far": ("far from {a}", "far away from {a}", "a long way from {a}", "across the room from {a}"),
    "on": ("on {a}", "on {a}", "on {a}", "on top of {a}", "on top of {a}", "sitting on {a}", "resting on {a}", "lying on {a}"),
    "under": ("under {a}", "under {a}", "underneath {a}", "below {a}", "beneath {a}"),
    "above": ("above {a}", "above {a}", "over {a}", "hanging above {a}", "up above {a}"),
    "between": ("between {a} and {b}", "between {a} and {b}", "in between {a} and {b}", "in the middle of {a} and {b}"),
    "between two": ("between {a}", "in between {a}"),
    "front": ("in front of {a}", "in front of {a}", "directly in front of {a}", "just in front of {a}"),
    "behind": ("behind {a}", "behind {a}", "directly behind {a}", "just behind {a}"),
    "view left": ("on the left", "on the left", "to the left", "on the left side", "on your left", "on the left hand side", "to your left"),
    "view right": ("on the right", "on the right", "to the right", "on the right side", "on your right", "on the right hand side", "to your right"),
    "beside left": ("to the left of {a}", "to the left of {a}", "left of {a}", "on the left of {a}", "on the left side of {a}", "just left of {a}"),
    "beside right": ("to the right of {a}", "to the right of {a}", "right of {a}", "on the right of {a}", "on the right side of {a}", "just right of {a}"),
    "view behind": ("behind {a}", "behind {a}", "just behind {a}"),
    "view front": ("in front of {a}", "in front of {a}", "just in front of {a}"),
    "corner": ("in the corner", "in the corner", "in the corner of the room", "in a corner of the room"),
    "wall": ("against the wall", "against the wall", "along the wall", "up against the wall"),
    "middle": ("in the middle of the room", "in the center of the room", "in the middle of the floor"),
    "on wall": ("on the wall", "on the wall", "hanging on the wall", "mounted on the wall"),
    "on floor": ("on the floor", "on the floor", "standing on the floor"),
}  # fmt: skip
"""Phrases that go after the noun or after "it is"."""

FACING_TRAILING = (
    "to the {side} of {a} when you face it", "{side} of {a} when facing it", "on the {side} of {a} if you look at it",
    "to the {side} of {a} as you look at it", "on the {side} side of {a} when you stand facing it",
)  # fmt: skip
FACING_VIEWS = (
    "facing {a}",
    "when facing {a}",
    "if you face {a}",
    "when you look at {a}",
    "looking at {a}",
    "standing in front of {a} and facing it",
)
FACING_CORES = ("to the {side} of it", "on the {side} of it", "just {side} of it", "immediately to the {side} of it")

VIEW_PHRASES: dict[str, tuple[str, ...]] = {
    "enter": ("when you enter the room", "as you enter the room", "when entering the room", "when you walk in", "as you come in",
              "coming into the room", "upon entering the room", "if you walk into the room"),
    "door": ("from the door", "as seen from the door", "seen from the doorway", "standing at the door", "standing in the doorway",
             "when you stand in the doorway", "looking in from the door", "from the doorway"),
    "sit": ("when sitting on {a}", "if you sit on {a}", "sitting on {a}", "when you are seated on {a}"),
    "from": ("looking at {b} from {a}", "standing at {a} and looking at {b}", "when you stand by {a} and face {b}", "facing {b} from {a}",
             "from {a}, facing {b}", "looking from {a} towards {b}"),
    "from door": ("looking at {b} from the door", "standing in the doorway and facing {b}", "when you look from the door to {b}",
                  "facing {b} from the door", "standing at the door and looking at {b}"),
}  # fmt: skip

SUPERLATIVES: dict[str, tuple[str, ...]] = {
    "largest": ("largest", "biggest"), "smallest": ("smallest", "smallest", "littlest"), "tallest": ("tallest", "tallest", "highest"),
    "shortest": ("shortest", "lowest"), "widest": ("widest",), "highest": ("highest", "uppermost"), "lowest": ("lowest",),
}  # fmt: skip
PROXIMITY: dict[str, tuple[str, ...]] = {
    "closest": ("closest to {a}", "closest to {a}", "nearest to {a}", "nearest {a}", "nearest to {a}"),
    "farthest": (
        "farthest from {a}",
        "furthest from {a}",
        "farthest away from {a}",
        "furthest away from {a}",
        "most distant from {a}",
    ),
    "nearest": ("closest to you", "nearest to you", "nearest you"),
}

WRAPPERS = (
    "find {d}", "find {d}", "select {d}", "show me {d}", "point to {d}", "locate {d}", "pick {d}", "choose {d}", "i want {d}", "please find {d}",
    "highlight {d}", "go to {d}", "i mean {d}", "give me {d}", "mark {d}",
)  # fmt: skip
QUESTIONS = (
    "where is {d}?",
    "where is {d}?",
    "can you find {d}?",
    "can you see {d}?",
    "which one is {d}?",
    "do you see {d}?",
    "could you point to {d}?",
)
