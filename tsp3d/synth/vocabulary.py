"""Words of the referring sentences: which classes a noun names, and which a listener may understand by it.

Two readings of every word are kept apart. *Names* are the classes that the generator calls by that word; *reads* are
all the classes that a reasonable listener could take it for (hyponyms, look-alikes). A sentence is accepted only
where nothing but the target fits the wider reading.
"""

from __future__ import annotations

from dataclasses import dataclass

from tsp3d.synth.types import CLASSES


@dataclass(frozen=True)
class Noun:
    """One word (or compound) for an object."""

    word: str
    plural: str
    names: frozenset[str]
    """Classes that the generator may call so."""
    reads: frozenset[str]
    """Classes that a listener may count as such, a superset of ``names``."""
    support: str | None = None
    """Only objects with this support ("floor lamp": "floor")."""
    is_plural: bool = False
    """The word itself is plural ("books")."""


# class: "word weight" entries; "word@support" limits the word to objects with that support.
_NAMES: dict[str, str] = {
    "chair": "chair 92, seat 8",
    "office chair": "office chair 50, chair 25, desk chair 12, swivel chair 8, computer chair 5",
    "armchair": "armchair 60, chair 14, lounge chair 10, easy chair 8, arm chair 8",
    "stool": "stool 95, seat 5",
    "bench": "bench 1",
    "sofa": "sofa 46, couch 46, settee 8",
    "bed": "bed 1",
    "table": "table 1",
    "coffee table": "coffee table 75, table 25",
    "desk": "desk 80, work desk 5, writing desk 5, table 10",
    "nightstand": "nightstand 40, bedside table 42, night stand 10, bedside cabinet 8",
    "bookshelf": "bookshelf 38, bookcase 32, shelf 20, book shelf 10",
    "cabinet": "cabinet 66, cupboard 26, storage cabinet 8",
    "kitchen cabinet": "kitchen cabinet 52, cabinet 20, kitchen cupboard 16, cupboard 12",
    "wardrobe": "wardrobe 62, closet 25, armoire 13",
    "dresser": "dresser 55, chest of drawers 45",
    "lamp": "lamp 45, light 15, floor lamp@floor 25, standing lamp@floor 15, table lamp@object 25, "
    "ceiling lamp@ceiling 25, ceiling light@ceiling 15, wall lamp@wall 30",
    "door": "door 1",
    "window": "window 1",
    "curtain": "curtain 80, drape 20",
    "sink": "sink 68, washbasin 16, basin 16",
    "bathtub": "bathtub 58, tub 24, bath tub 18",
    "shower": "shower 70, shower stall 15, shower cabin 15",
    "toilet": "toilet 1",
    "radiator": "radiator 72, heater 28",
    "tv": "tv 56, television 32, tv screen 6, screen 6",
    "monitor": "monitor 48, computer monitor 18, screen 16, computer screen 18",
    "laptop": "laptop 75, laptop computer 12, computer 13",
    "keyboard": "keyboard 85, computer keyboard 15",
    "refrigerator": "refrigerator 45, fridge 52, appliance 3",
    "oven": "oven 48, stove 42, cooker 10",
    "microwave": "microwave 78, microwave oven 19, appliance 3",
    "washing machine": "washing machine 68, washer 29, appliance 3",
    "plant": "plant 56, potted plant 28, houseplant 16",
    "box": "box 88, carton 12",
    "bag": "bag 1",
    "trash can": "trash can 34, garbage can 16, trash bin 10, bin 16, wastebasket 9, garbage bin 7, "
    "trashcan 5, waste bin 3",
    "rug": "rug 55, carpet 33, mat 12",
    "pillow": "pillow 62, cushion 38",
    "picture": "picture 44, painting 32, picture frame 10, frame 8, artwork 6",
    "mirror": "mirror 1",
    "whiteboard": "whiteboard 70, white board 18, board 12",
    "clock": "clock 70, wall clock@wall 30",
    "vase": "vase 90, flower vase 10",
    "books": "books 46, stack of books 32, pile of books 22",
    "fireplace": "fireplace 90, hearth 10",
    "piano": "piano 1",
    "bottle": "bottle 1",
}

# Classes beyond the named ones that a listener may count under a word.
_READS: dict[str, tuple[str, ...]] = {
    "chair": ("chair", "office chair", "armchair", "stool"),
    "seat": ("chair", "office chair", "armchair", "stool", "bench", "sofa", "toilet"),
    "desk chair": ("chair", "office chair"),
    "computer chair": ("chair", "office chair"),
    "armchair": ("sofa",),
    "table": ("table", "coffee table", "desk", "nightstand"),
    "coffee table": ("table",),
    "work desk": ("table",),
    "writing desk": ("table",),
    "desk": ("table",),
    "bedside cabinet": ("cabinet", "dresser"),
    "shelf": ("bookshelf", "cabinet"),
    "cabinet": ("cabinet", "kitchen cabinet", "wardrobe", "dresser", "nightstand"),
    "cupboard": ("cabinet", "kitchen cabinet", "wardrobe", "dresser"),
    "storage cabinet": ("cabinet", "kitchen cabinet", "wardrobe", "dresser"),
    "kitchen cabinet": ("cabinet",),
    "kitchen cupboard": ("cabinet",),
    "closet": ("cabinet",),
    "wardrobe": ("cabinet",),
    "armoire": ("cabinet",),
    "chest of drawers": ("nightstand", "cabinet"),
    "dresser": ("cabinet",),
    "tv screen": ("monitor",),
    "television": ("monitor",),
    "tv": ("monitor",),
    "monitor": ("tv",),
    "screen": ("tv", "monitor", "laptop", "whiteboard"),
    "computer screen": ("laptop",),
    "computer": ("monitor", "laptop"),
    "oven": ("microwave",),
    "appliance": ("refrigerator", "oven", "microwave", "washing machine"),
    "carton": ("box",),
    "bin": ("box",),
    "frame": ("mirror",),
    "picture frame": ("mirror",),
    "board": ("picture",),
    "vase": ("bottle",),
}

_PLURALS = {
    "shelf": "shelves", "bookshelf": "bookshelves", "book shelf": "book shelves", "box": "boxes", "bench": "benches",
    "couch": "couches",
    "books": "books", "stack of books": "stacks of books", "pile of books": "piles of books",
    "chest of drawers": "chests of drawers",
}  # fmt: skip

THINGS = ("object", "thing", "item")
"""Words that may mean anything; used only with a relation that leaves one object."""


def _build() -> tuple[dict[str, Noun], dict[str, tuple[tuple[str, float], ...]]]:
    named: dict[str, set[str]] = {}
    supports: dict[str, str] = {}
    choices: dict[str, list[tuple[str, float]]] = {}
    for name, entries in _NAMES.items():
        for entry in entries.split(","):
            word, weight = entry.strip().rsplit(" ", 1)
            word, _, support = word.partition("@")
            named.setdefault(word, set()).add(name)
            if support:
                supports[word] = support
            choices.setdefault(name, []).append((word, float(weight)))
    nouns = {}
    for word, names in named.items():
        reads = frozenset(names | set(_READS.get(word, ())))
        nouns[word] = Noun(
            word, _PLURALS.get(word, word + "s"), frozenset(names), reads, supports.get(word), is_plural=word == "books"
        )
    for word in THINGS:
        nouns[word] = Noun(word, word + "s", frozenset(CLASSES), frozenset(CLASSES))
    return nouns, {name: tuple(entries) for name, entries in choices.items()}


NOUNS, NOUNS_OF_CLASS = _build()
"""``NOUNS[word]`` and, for each class, its (word, weight) choices."""

CONFUSABLE_COLORS: dict[str, tuple[str, ...]] = {
    "beige": ("brown", "yellow", "white"),
    "brown": ("beige", "orange"),
    "orange": ("brown", "red", "yellow"),
    "red": ("orange", "pink"),
    "pink": ("red", "purple"),
    "purple": ("pink", "blue"),
    "blue": ("purple",),
    "yellow": ("beige", "orange"),
    "white": ("beige",),
}
"""Colours that a listener may also accept for a colour word, seen in dim light."""

COLOR_WORDS: dict[str, tuple[str, ...]] = {
    "gray": ("gray", "gray", "grey"),
    "beige": ("beige", "beige", "tan", "cream"),
    "purple": ("purple", "purple", "violet"),
    "white": ("white", "white", "white", "white colored"),
    "black": ("black", "black", "black", "black colored"),
}
"""Synonyms of a colour; colours not listed have only their own name."""

MATERIAL_WORDS: dict[str, tuple[str, ...]] = {
    "wooden": ("wooden", "wooden", "wood"),
    "metal": ("metal", "metal", "metallic"),
    "leather": ("leather",),
    "fabric": ("fabric", "cloth", "upholstered"),
    "glass": ("glass",),
    "plastic": ("plastic",),
}

SIZE_WORDS: dict[str, tuple[str, ...]] = {
    "big": ("big", "large"),
    "small": ("small", "little"),
    "tall": ("tall",),
    "short": ("short", "low"),
    "wide": ("wide",),
    "narrow": ("narrow",),
}

SEATS = frozenset({"chair", "office chair", "armchair", "stool", "bench", "sofa"})
"""Classes that one sits on: "when you sit on the sofa, on your left"."""

FIXED = frozenset({"door", "window", "curtain", "radiator", "shower", "bathtub", "fireplace", "rug"})
"""Classes of which nobody says that they are against or on the wall."""

MOVABLE = frozenset(
    {
        "lamp",
        "plant",
        "box",
        "bag",
        "books",
        "pillow",
        "vase",
        "bottle",
        "laptop",
        "picture",
        "mirror",
        "clock",
        "tv",
        "monitor",
    }
)
"""Classes of which it is worth saying that they are on the floor."""

SURFACES = frozenset(
    {
        "table", "coffee table", "desk", "bench", "bed", "piano", "sink", "stool", "chair", "office chair", "armchair",
        "sofa", "nightstand",
    }
)  # fmt: skip
"""Classes with free room underneath them."""

FACED = frozenset(
    {
        "sofa", "bed", "desk", "bookshelf", "cabinet", "wardrobe", "dresser", "door", "window", "sink", "toilet",
        "radiator", "tv", "monitor", "refrigerator", "oven", "washing machine", "picture", "mirror", "whiteboard",
        "fireplace", "piano", "armchair", "nightstand", "curtain",
    }
)  # fmt: skip
"""Classes that one can stand before and face, so that left and right have a meaning."""

FRONTED = FACED - {"bed", "nightstand", "curtain"} | {"chair", "office chair", "bench"}
"""Classes for which "in front of" means their own front."""

BACKED = frozenset({"chair", "office chair", "armchair", "sofa", "tv", "monitor"})
"""Classes with a back of their own, for "behind". A desk is left out: its back may be either side."""

COUNTS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven"}
ORDINALS = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth", 6: "sixth"}

VIEW_WORDS = frozenset(
    {"front", "behind", "back", "left", "right", "facing", "leftmost", "rightmost", "looking", "across"}
)
"""A sentence with one of these words is counted as view-dependent, as Nr3D's evaluation does."""


def is_view_dependent(text: str) -> bool:
    """Whether ``text`` contains one of :data:`VIEW_WORDS`."""
    return not VIEW_WORDS.isdisjoint(text.lower().replace(".", " ").replace(",", " ").replace("?", " ").split())
