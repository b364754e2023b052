"""What the room generator, the scanner and the language generator hand each other."""

from __future__ import annotations

from dataclasses import dataclass

CLASSES: tuple[str, ...] = (
    "chair", "office chair", "armchair", "stool", "bench", "sofa", "bed", "table", "coffee table", "desk",
    "nightstand", "bookshelf", "cabinet", "kitchen cabinet", "wardrobe", "dresser", "lamp", "door", "window", "curtain",
    "sink", "bathtub", "shower", "toilet", "radiator", "tv", "monitor", "laptop", "keyboard", "refrigerator",
    "oven", "microwave", "washing machine", "plant", "box", "bag", "trash can", "rug", "pillow", "picture",
    "mirror", "whiteboard", "clock", "vase", "books", "fireplace", "piano", "bottle",
)  # fmt: skip
"""Canonical names of the object classes; the index is the class id used in training."""

COLORS: tuple[str, ...] = (
    "white", "black", "gray", "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "beige",
)  # fmt: skip
"""Canonical colour words."""
RELATIONS: tuple[str, ...] = (
    "none", "attribute", "near", "far", "on", "under", "above", "next to", "between", "left", "right", "front",
    "behind", "corner", "window", "superlative", "ordinal", "conjunction", "other",
)  # fmt: skip
"""What a sentence tells its object by; "other" stands for what other datasets have."""


@dataclass(frozen=True)
class SceneObject:
    """One labelled object of a generated scene. Lengths in metres, z up."""

    id: int
    """Instance id, as in the point cloud's ``instance`` array."""
    name: str
    """One of :data:`CLASSES`."""
    box: tuple[float, float, float, float, float, float]
    """Centre and full size (x, y, z, dx, dy, dz) of the object's *scanned* points."""
    color: str | None = None
    """One of :data:`COLORS`, or None where no single colour dominates."""
    material: str | None = None
    """"wooden", "metal", "leather", "fabric", "glass", "plastic" or None where unknown."""
    front: float | None = None
    """Yaw (radians, counter-clockwise from +x) of the direction the object faces; None where it has no front."""
    support: str = "floor"
    """"floor", "wall", "ceiling" or "object"."""
    support_id: int = -1
    """Id of the object that it stands on, or -1."""
    model: str = ""
    """Name of the furniture model, e.g. ``"BlendSwap-CC-0/bed"`` or ``"parametric/chair"``."""


@dataclass(frozen=True)
class SceneDescription:
    """A generated scene without its points: what the language generator reads."""

    scene_id: str
    objects: tuple[SceneObject, ...]
    room: tuple[float, float, float, float, float, float]
    """Centre and full size of the room's interior."""
    entrance: tuple[float, float, float] | None = None
    """(x, y, yaw) of someone standing in the door and looking in; None where the room has no door."""


@dataclass(frozen=True)
class Sentence:
    """A generated referring sentence, true of exactly one object, with its structure kept for evaluation."""

    text: str
    target: int
    """Id of the object meant."""
    anchors: tuple[int, ...]
    """Ids of the other objects mentioned."""
    relation: str
    """"none", "attribute", "near", "far", "on", "under", "above", "next to", "between", "left", "right", "front",
    "behind", "corner", "window", "superlative", "ordinal" or "conjunction"."""
    view_dependent: bool
    unique: bool
    """No other object of the target's class is in the scene."""
    distractors: int
    """Other objects of the target's class in the scene."""
    clauses: int
    """1 to 3."""
