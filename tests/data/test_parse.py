"""The parse: sentences whose structure the generator knows, and sentences as people write them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from tsp3d.data.annotated import Annotation, mentioned
from tsp3d.data.parse import Parse, names, parse
from tsp3d.synth.language import referring_expressions

sys.path.insert(0, str(Path(__file__).parents[1] / "synth"))
from language_scenes import random_scene

# In the styles of ScanRefer (several sentences) and Nr3D (one, often short), written for this test.
WRITTEN = {
    "this is a brown wooden chair. it is to the left of the desk and faces the window.": ("chair", "desk", "window"),
    "there is a white cabinet in the corner of the room. it is below a row of shelves.": ("cabinet", "shelf"),
    "the backpack is on the floor. it is leaning against the couch.": ("backpack", "couch"),
    "this is a trash can. the trash can is blue, and sits between the copier and the door.":
        ("trash can", "copier", "door"),
    "a monitor on a desk. there is a keyboard in front of it.": ("monitor", "desk", "keyboard"),
    "Facing the bed, it's the pillow on the left side": ("pillow", "bed"),
    "when you face the bookcase the lamp is the one on the right": ("lamp", "bookcase"),
    "The chair closest to the door": ("chair", "door"),
    "of the two beds, choose the one with the red towel": ("bed", "towel"),
    "choose the armchair that is next to another armchair": ("armchair", "armchair"),
    "the light brown table in the middle of the room": ("table",),
    "on top of the dresser there is a small potted plant": ("potted plant", "dresser"),
    "the window behind the tv, not the one by the sink": ("window", "tv", "sink"),
    "the desk lamp under the painting": ("desk lamp", "painting"),
    "pick the file cabinet nearest to the printer": ("file cabinet", "printer"),
    "": ("",),
    "the one on the left": ("",),
}  # fmt: skip


@pytest.mark.parametrize("text", WRITTEN)
def test_sentences_as_people_write_them(text: str) -> None:
    main, *others = WRITTEN[text]
    assert parse(text) == Parse(main, tuple(others))


def test_generated_sentences_are_understood_as_they_were_meant() -> None:
    total = main = auxiliary = 0
    wrong = []
    for seed in range(12):
        for e, sentence in referring_expressions(random_scene(seed, 16), np.random.default_rng(seed), 30):
            found = parse(sentence.text)
            # A door may be the viewpoint ("from the door") without being an anchor.
            meant = {part.noun for part in list(e.parts())[1:]} - {"door"}
            total += 1
            main += found.main == e.noun
            auxiliary += set(found.auxiliary) - {"door"} == meant
            if found.main != e.noun or set(found.auxiliary) - {"door"} != meant:
                wrong.append((sentence.text, found))
    assert total > 300
    assert main / total >= 0.99 and auxiliary / total >= 0.98, wrong


def test_nouns_and_labels() -> None:
    assert names("chair", "office chair") and names("couch", "sofa") and names("printer", "printer")
    assert not names("chair", "table") and not names("chair", "chairlift")


def test_the_nearest_object_of_each_noun_is_mentioned() -> None:
    records = [
        {"id": 5, "name": "chair", "box": [0, 0, 0, 1, 1, 1]}, {"id": 6, "name": "desk", "box": [5, 0, 0, 1, 1, 1]},
        {"id": 7, "name": "desk", "box": [2, 0, 0, 1, 1, 1]}, {"id": 8, "name": "lamp", "box": [9, 0, 0, 1, 1, 1]},
        {"id": 9, "name": "chair", "box": [1, 0, 0, 1, 1, 1]},
    ]  # fmt: skip
    place = {item["id"]: index for index, item in enumerate(records)}

    def found(text: str, targets: tuple[int, ...] = (5,)) -> tuple[int, ...]:
        return mentioned(Annotation("scene", text, targets, "here"), records, place)

    assert found("the chair next to the desk and the lamp") == (2, 3)
    assert found("the chair next to another chair") == (4,) and found("the chair by the piano") == ()
    assert found("the chair next to the desk", ()) == ()
