"""spaCy's parse beside the rules, where spaCy and its small model of English are installed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from tsp3d.data.parse import parse
from tsp3d.data.parse_spacy import spacy_parser
from tsp3d.synth.language import referring_expressions

sys.path.insert(0, str(Path(__file__).parents[1] / "synth"))
from language_scenes import random_scene


def test_a_missing_model_is_named() -> None:
    with pytest.raises(ImportError, match=r"'no_such_model'.*tsp3d\[parse\]"):
        spacy_parser("no_such_model")


def test_the_rules_are_right_at_least_as_often() -> None:
    pytest.importorskip("spacy")
    try:
        other = spacy_parser()
    except ImportError as error:
        pytest.skip(str(error))
    right = {"rules": 0, "spacy": 0}
    total = 0
    for seed in range(1000, 1004):
        for e, sentence in referring_expressions(random_scene(seed, 16), np.random.default_rng(seed), 30):
            total += 1
            right["rules"] += parse(sentence.text).main == e.noun
            right["spacy"] += other(sentence.text).main == e.noun
    assert right["spacy"] > 0.7 * total and right["rules"] >= right["spacy"], right
