"""How well a text encoder's features tell synonyms from other things: the same test for teacher and student."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from tsp3d.distill.text import Teacher, encode_for, student_features
from tsp3d.distill.text_corpus import count_words
from tsp3d.distill.text_words import words
from tsp3d.models.text_small import SmallTextEncoder

Featurise = Callable[[Sequence[str]], tuple[list[Tensor], Tensor]]
"""texts → word features of each text (list of (words, C)), sentence features (Q, C)."""

CONTEXT = "the brown {} is next to the window ."

LISTED: dict[str, str] = {
    "sofa": "davenport, divan, chesterfield, futon, loveseat",
    "trash can": "rubbish bin, wastebasket, dustbin, litter bin, wastepaper basket",
    "tv": "telly, television set, tv set",
    "toilet": "lavatory, loo, latrine, water closet",
    "armchair": "recliner, rocking chair, wing chair",
    "refrigerator": "icebox, freezer",
    "wardrobe": "armoire, clothes cupboard",
    "dresser": "tallboy, commode, chest",
    "cabinet": "sideboard, credenza",
    "stool": "hassock, footstool, ottoman",
    "rug": "doormat, floor mat",
    "bag": "rucksack, knapsack, satchel, suitcase",
    "sink": "washbasin, washstand",
    "pillow": "bolster, headrest",
    "curtain": "drapery, shutter",
    "oven": "cooker, hob",
    "plant": "houseplant, fern, shrub",
    "picture": "photograph, portrait, mural",
    "lamp": "lantern, chandelier, sconce",
    "box": "crate, parcel",
    "bookshelf": "book rack",
    "nightstand": "night table, bedside table",
    "fireplace": "hearth, mantelpiece",
    "vase": "urn, pitcher",
    "bathtub": "hot tub, jacuzzi",
    "whiteboard": "blackboard, chalkboard",
    "radiator": "convector, space heater",
    "bottle": "flask, carafe",
    "clock": "timepiece",
    "mirror": "looking glass",
    "washing machine": "clothes washer, laundry machine",
}
"""Names that training pairs with their class (``text_words.NAMES``)."""

UNLISTED: dict[str, str] = {
    "sofa": "daybed, love seat",
    "chair": "windsor chair, ladder-back chair",
    "armchair": "fauteuil, morris chair",
    "stool": "taboret, milking stool",
    "trash can": "wheelie bin, ashbin, refuse container",
    "tv": "boob tube, flat screen television",
    "toilet": "potty, chamberpot, washroom",
    "refrigerator": "deepfreeze, cold storage",
    "dresser": "highboy, chiffonier",
    "rug": "hearthrug, scatter rug, kilim",
    "bag": "valise, carryall, holdall, portmanteau",
    "sink": "wash bowl",
    "curtain": "portiere, jalousie",
    "oven": "gas range, kiln",
    "plant": "geranium, begonia, orchid, philodendron",
    "picture": "etching, watercolor, lithograph, snapshot",
    "lamp": "candelabra, nightlight, torchiere",
    "box": "casket, hatbox",
    "fireplace": "inglenook, fireside",
    "vase": "amphora",
    "bathtub": "washtub, hip bath",
    "bottle": "demijohn, vial, beer bottle",
    "clock": "chronometer, cuckoo clock",
    "mirror": "cheval glass, pier glass",
    "piano": "spinet, harpsichord",
    "books": "encyclopedia, atlas, hymnal",
    "window": "porthole, fanlight",
    "table": "picnic table, pedestal table",
}
"""Names that training never pairs with their class: the student has them from the teacher alone, if at all."""


def teacher_featurise(teacher: Teacher) -> Featurise:
    def run(texts: Sequence[str]) -> tuple[list[Tensor], Tensor]:
        found = teacher.features(texts)
        return list(found.words.float().split(found.lengths)), found.sentences.float()

    return run


def student_featurise(student: SmallTextEncoder) -> Featurise:
    @torch.inference_mode()
    def run(texts: Sequence[str]) -> tuple[list[Tensor], Tensor]:
        data = encode_for(student, texts)
        words, sentences = student_features(student, data, range(len(texts)))
        return list(words.split([w[-1] + 1 for w in data.words])), sentences

    return run


def name_features(featurise: Featurise, names: Sequence[str], context: str = CONTEXT) -> Tensor:
    """Mean feature of each name's words within ``context``: (len(names), C), unit length."""
    begin = context.split().index("{}")
    found, _ = featurise([context.format(name) for name in names])
    rows = [found[i][begin : begin + count_words(name)].mean(0) for i, name in enumerate(names)]
    return F.normalize(torch.stack(rows), dim=1)


def evaluate(featurise: Featurise, classes: Sequence[str], grammar: str = "") -> dict[str, float]:
    """In-context similarities, and the nearest-class accuracy of synonyms in percent.

    Args:
        classes: the class names to choose among.
        grammar: text of the sentences that grounding is trained on; synonyms that occur in it are left out.
    """
    centres = name_features(featurise, classes)
    figures: dict[str, float] = {}
    for title, names in (("listed", LISTED), ("unlisted", UNLISTED)):
        pairs = [(name, cls) for cls, text in names.items() for name in words(text) if name not in grammar]
        guesses = name_features(featurise, [name for name, _ in pairs]) @ centres.T  # (n, classes)
        wanted = torch.tensor([list(classes).index(cls) for _, cls in pairs])
        rank = (guesses >= guesses.gather(1, wanted[:, None])).sum(1) - 1  # a tie does not count
        figures[f"{title} synonyms"] = len(pairs)
        figures[f"{title}: nearest class"] = round(100 * (rank == 0).float().mean().item(), 1)
        figures[f"{title}: within the 3 nearest"] = round(100 * (rank < 3).float().mean().item(), 1)
    sofa, couch, toilet, left, right = name_features(featurise, ["sofa", "couch", "toilet", "left", "right"])
    _, sentences = featurise(
        ["the sofa beside the window", "the couch next to the window", "the toilet beside the window"]
    )
    s = F.normalize(sentences, dim=1)
    cosines = {
        "sofa-couch": sofa @ couch,
        "sofa-toilet": sofa @ toilet,
        "left-right": left @ right,
        "sentence sofa-couch": s[0] @ s[1],
        "sentence sofa-toilet": s[0] @ s[2],
    }
    return figures | {key: round(value.item(), 3) for key, value in cosines.items()}
