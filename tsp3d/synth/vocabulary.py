"""Words of the referring sentences: which classes a noun names, and which a listener may understand by it.

Two readings of every word are kept apart. *Names* are the classes that the generator calls by that word; *reads* are
all the classes that a reasonable listener could take it for (hyponyms, look-alikes). A sentence is accepted only
where nothing but the target fits the wider reading.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tsp3d.synth.types import CLASSES, SceneObject


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
    measure: tuple[str, float, float] | None = None
    """The generator calls only objects so whose "height" or "width" (the longer side), in metres, lies between these
    two ("bar stool": a height from 0.6); a listener may take others for it."""
    is_plural: bool = False
    """The word itself is plural ("books")."""

    def suits(self, item: SceneObject) -> bool:
        """Whether the generator may call an object of :attr:`names` so."""
        if self.measure is not None:
            name, least, greatest = self.measure
            if not least <= (item.box[5] if name == "height" else max(item.box[3:5])) <= greatest:
                return False
        return self.support in (None, item.support)


# class: "word weight" entries. "word@floor" limits the word to objects that stand there, "word@height>0.6" or
# "word@width<0.7" to those of that size in metres.
_NAMES: dict[str, str] = {
    "chair": "chair 88, seat 7, dining chair 5",
    "office chair": "office chair 47, chair 23, desk chair 11, swivel chair 8, computer chair 5, rolling chair 4, "
    "wheeled chair 2",
    "armchair": "armchair 55, chair 12, lounge chair 9, sofa chair 9, easy chair 6, arm chair 6, recliner 3",
    "stool": "stool 80, seat 4, bar stool@height>0.6 24, barstool@height>0.6 10, ottoman@height<0.5 12, "
    "footstool@height<0.5 8, pouf@height<0.5 4",
    "bench": "bench 1",
    "sofa": "sofa 44, couch 44, settee 7, loveseat@width<1.75 5, love seat@width<1.75 3",
    "bed": "bed 1",
    "table": "table 94, dining table@width>1.1 6",
    "coffee table": "coffee table 65, table 22, side table@width<0.7 12, end table@width<0.7 10",
    "desk": "desk 76, work desk 5, writing desk 4, table 9, office desk 3, computer desk 3",
    "nightstand": "nightstand 37, bedside table 39, night stand 9, bedside cabinet 7, side table 4, end table 4",
    "bookshelf": "bookshelf 36, bookcase 31, shelf 18, book shelf 9, shelving unit 4, book rack 2",
    "cabinet": "cabinet 60, cupboard 24, storage cabinet 7, filing cabinet@width<0.65 6, file cabinet@width<0.65 6, "
    "sideboard@height<1.1 6, credenza@height<1.1 2",
    "kitchen cabinet": "kitchen cabinet 52, cabinet 20, kitchen cupboard 16, cupboard 12",
    "wardrobe": "wardrobe 62, closet 25, armoire 13",
    "dresser": "dresser 53, chest of drawers 43, bureau 4",
    "lamp": "lamp 45, light 15, floor lamp@floor 25, standing lamp@floor 15, table lamp@object 20, "
    "desk lamp@object 8, bedside lamp@object 5, ceiling lamp@ceiling 22, ceiling light@ceiling 14, "
    "chandelier@ceiling 6, wall lamp@wall 30",
    "door": "door 1",
    "window": "window 1",
    "curtain": "curtain 80, drape 20",
    "sink": "sink 68, washbasin 16, basin 16",
    "bathtub": "bathtub 55, tub 23, bath tub 16, bath 6",
    "shower": "shower 70, shower stall 15, shower cabin 15",
    "toilet": "toilet 90, loo 4, wc 3, commode 3",
    "radiator": "radiator 72, heater 28",
    "tv": "tv 53, television 31, tv screen 6, screen 6, flat screen 2, telly 2",
    "monitor": "monitor 46, computer monitor 18, screen 16, computer screen 17, display 3",
    "laptop": "laptop 73, laptop computer 11, computer 12, notebook 4",
    "keyboard": "keyboard 85, computer keyboard 15",
    "refrigerator": "refrigerator 45, fridge 52, appliance 3",
    "oven": "oven 47, stove 41, cooker 10, range 2",
    "microwave": "microwave 78, microwave oven 19, appliance 3",
    "washing machine": "washing machine 68, washer 29, appliance 3",
    "plant": "plant 54, potted plant 26, houseplant 15, flower pot 5",
    "box": "box 86, carton 10, crate 4",
    "bag": "bag 1",
    "trash can": "trash can 33, garbage can 15, trash bin 10, bin 15, wastebasket 8, garbage bin 6, trashcan 5, "
    "waste bin 3, dustbin 3, recycling bin 2",
    "rug": "rug 55, carpet 33, mat 12",
    "pillow": "pillow 62, cushion 38",
    "picture": "picture 42, painting 30, picture frame 10, frame 8, artwork 5, poster 3, photo 2",
    "mirror": "mirror 97, looking glass 3",
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
    "dining chair": ("office chair", "armchair"),
    "desk chair": ("chair", "office chair"),
    "computer chair": ("chair", "office chair"),
    "rolling chair": ("chair",),
    "wheeled chair": ("chair",),
    "armchair": ("sofa",),
    "sofa chair": ("sofa",),
    "recliner": ("sofa",),
    "loveseat": ("armchair",),
    "love seat": ("armchair",),
    "table": ("table", "coffee table", "desk", "nightstand"),
    "coffee table": ("table",),
    "dining table": ("desk", "coffee table"),
    "side table": ("table", "stool"),
    "end table": ("table", "stool"),
    "work desk": ("table",),
    "writing desk": ("table",),
    "office desk": ("table",),
    "computer desk": ("table",),
    "desk": ("table",),
    "bedside cabinet": ("cabinet", "dresser"),
    "shelf": ("bookshelf", "cabinet"),
    "cabinet": ("cabinet", "kitchen cabinet", "wardrobe", "dresser", "nightstand"),
    "cupboard": ("cabinet", "kitchen cabinet", "wardrobe", "dresser"),
    "storage cabinet": ("cabinet", "kitchen cabinet", "wardrobe", "dresser"),
    "filing cabinet": ("nightstand", "dresser"),
    "file cabinet": ("nightstand", "dresser"),
    "sideboard": ("kitchen cabinet", "dresser"),
    "credenza": ("kitchen cabinet", "dresser"),
    "shelving unit": ("cabinet",),
    "book rack": ("cabinet",),
    "bureau": ("desk", "cabinet", "nightstand"),
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
    "flat screen": ("monitor",),
    "telly": ("monitor",),
    "display": ("tv", "laptop"),
    "notebook": ("books",),
    "monitor": ("tv",),
    "screen": ("tv", "monitor", "laptop", "whiteboard"),
    "computer screen": ("laptop",),
    "computer": ("monitor", "laptop"),
    "oven": ("microwave",),
    "appliance": ("refrigerator", "oven", "microwave", "washing machine"),
    "crate": ("trash can",),
    "flower pot": ("vase",),
    "bin": ("box",),
    "recycling bin": ("box",),
    "poster": ("whiteboard",),
    "frame": ("mirror",),
    "picture frame": ("mirror",),
    "board": ("picture",),
    "vase": ("bottle",),
}

_PLURALS = {
    "shelf": "shelves", "bookshelf": "bookshelves", "book shelf": "book shelves", "box": "boxes", "bench": "benches",
    "couch": "couches", "looking glass": "looking glasses",
    "books": "books", "stack of books": "stacks of books", "pile of books": "piles of books",
    "chest of drawers": "chests of drawers",
}  # fmt: skip

THINGS = ("object", "thing", "item")
"""Words that may mean anything; used only with a relation that leaves one object."""


def _build() -> tuple[dict[str, Noun], dict[str, tuple[tuple[str, float], ...]]]:
    named: dict[str, set[str]] = {}
    supports: dict[str, str] = {}
    measures: dict[str, tuple[str, float, float]] = {}
    choices: dict[str, list[tuple[str, float]]] = {}
    for name, entries in _NAMES.items():
        for entry in entries.split(","):
            word, weight = entry.strip().rsplit(" ", 1)
            word, _, limit = word.partition("@")
            named.setdefault(word, set()).add(name)
            if ">" in limit:
                measure, least = limit.split(">")
                measures[word] = (measure, float(least), math.inf)
            elif "<" in limit:
                measure, greatest = limit.split("<")
                measures[word] = (measure, 0.0, float(greatest))
            elif limit:
                supports[word] = limit
            choices.setdefault(name, []).append((word, float(weight)))
    nouns = {}
    for word, names in named.items():
        reads = frozenset(names | set(_READS.get(word, ())))
        nouns[word] = Noun(
            word,
            _PLURALS.get(word, word + "s"),
            frozenset(names),
            reads,
            supports.get(word),
            measures.get(word),
            is_plural=word == "books",
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
