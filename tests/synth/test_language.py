"""Sentences as a whole: each fits exactly one object, the mix is spread, the metadata agrees with the text."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tsp3d.synth.expressions import Expression, Interpreter
from tsp3d.synth.language import corpus, generate_sentences, referents, referring_expressions
from tsp3d.synth.proposals import Proposer
from tsp3d.synth.types import RELATIONS, SceneDescription
from tsp3d.synth.vocabulary import COLOR_WORDS, NOUNS, VIEW_WORDS

# Helpers beside the tests: nothing is on the path in pytest's importlib mode.
sys.path.insert(0, str(Path(__file__).parent))
from language_scenes import box_object, random_scene
from plain_reading import fitting

SEEDS = range(24)


@pytest.fixture(scope="module")
def written():
    """(scene, expression, sentence) of 24 random rooms."""
    scenes = [random_scene(seed, 6 + seed % 12) for seed in SEEDS]
    return [(s, e, t) for k, s in enumerate(scenes) for e, t in referring_expressions(s, np.random.default_rng(k), 40)]


def test_every_sentence_fits_its_target_alone_in_an_independent_reading(written):
    for scene, expression, sentence in written:
        assert fitting(expression, scene) == [sentence.target], (scene.scene_id, sentence.text, expression)


def test_every_sentence_fits_its_target_alone_in_both_readings(written):
    for scene, expression, sentence in written[::7]:
        assert referents(expression, scene, strict=True) == (sentence.target,), sentence.text
        assert referents(expression, scene, strict=False) == (sentence.target,), sentence.text


def test_words_of_the_structure_are_in_the_text(written):
    for _, expression, sentence in written:
        text = sentence.text.lower()
        for part in expression.parts():
            noun = NOUNS[part.noun]
            assert noun.word in text or noun.plural in text, (noun.word, text)
            if part.color:
                assert any(word in text for word in (*COLOR_WORDS.get(part.color, ()), part.color)), (part.color, text)


@pytest.mark.parametrize(
    ("name", "width", "height", "said", "unsaid"),
    [
        ("stool", 0.35, 0.75, "bar stool", "footstool"),
        ("stool", 0.45, 0.4, "footstool", "bar stool"),
        ("sofa", 1.5, 0.8, "loveseat", None),
        ("sofa", 2.3, 0.8, "couch", "loveseat"),
        ("cabinet", 0.45, 1.3, "file cabinet", "sideboard"),
        ("cabinet", 1.6, 0.9, "sideboard", "file cabinet"),
    ],
)
def test_words_that_tell_a_size_are_said_of_that_size(name, width, height, said, unsaid):
    item = box_object(0, name, 0, 0, height / 2, width, 0.35, height)
    scene = SceneDescription("room", (item,), (0, 0, 1.25, 5, 4, 2.5))
    proposer = Proposer(Interpreter(scene), np.random.default_rng(0))
    words = {proposer.word(0) for _ in range(300)}
    assert said in words and unsaid not in words
    assert referents(Expression(said), scene, strict=True) == (0,)
    if unsaid:
        assert referents(Expression(unsaid), scene, strict=True) == ()
        assert referents(Expression(unsaid), scene, strict=False) == (0,)  # a listener may still take it for that


def test_metadata_agrees_with_scene_and_text(written):
    for scene, _, sentence in written:
        names = {o.id: o.name for o in scene.objects}
        same = sum(n == names[sentence.target] for n in names.values()) - 1
        assert sentence.distractors == same
        assert sentence.unique == (same == 0)
        assert sentence.relation in RELATIONS[:-1]
        assert 1 <= sentence.clauses <= 3
        assert sentence.target not in sentence.anchors
        assert set(sentence.anchors) <= set(names)
        words = set("".join(c if c.isalpha() else " " for c in sentence.text.lower()).split())
        assert sentence.view_dependent == bool(words & VIEW_WORDS), sentence.text


def test_left_and_right_are_view_dependent(written):
    assert all(t.view_dependent for _, _, t in written if t.relation in ("left", "right", "front", "behind"))


def test_all_labels_occur_and_the_mix_is_near_its_aims(written):
    labels = Counter(t.relation for _, _, t in written)
    assert set(labels) == set(RELATIONS[:-1])
    shares = {label: count / len(written) for label, count in labels.items()}
    assert 0.2 < sum(t.unique for _, _, t in written) / len(written) < 0.45
    assert 0.15 < shares["attribute"] < 0.35
    assert 0.06 < shares["conjunction"] < 0.25
    assert max(shares[r] for r in RELATIONS[:-1] if r not in ("none", "attribute", "conjunction")) < 0.12
    assert {t.clauses for _, _, t in written} == {1, 2, 3}


def test_most_objects_are_targets():
    for seed in range(6):
        scene = random_scene(seed, 12)
        targets = {t.target for t in generate_sentences(scene, np.random.default_rng(seed), 60)}
        assert len(targets) > 0.75 * len(scene.objects)


def test_texts_of_a_scene_differ_and_are_tidy(written):
    by_scene: dict[str, list[str]] = {}
    for scene, _, sentence in written:
        by_scene.setdefault(scene.scene_id, []).append(sentence.text)
        text = sentence.text
        assert text == text.strip()
        assert not any(
            bad in text for bad in ("  ", " ,", " .", "..", "{", "}", "None", "not not", "it it", " a a", "the the")
        ), text
    assert all(len(set(texts)) == len(texts) for texts in by_scene.values())


def test_articles():
    text = " ".join(corpus(np.random.default_rng(0), 3000)).lower().replace(".", "").split()
    for article, word in zip(text, text[1:], strict=False):
        if article == "a":
            assert word[0] not in "aeiou", word
        if article == "an":
            assert word[0] in "aeiou", word


def test_same_seed_same_sentences():
    scene = random_scene(3, 14)
    a, b, c = (generate_sentences(scene, np.random.default_rng(s), 30) for s in (1, 1, 2))
    assert a == b
    assert a != c
    assert corpus(np.random.default_rng(5), 50) == corpus(np.random.default_rng(5), 50)


def test_small_scenes():
    empty = SceneDescription("empty", (), (0, 0, 1.3, 4, 4, 2.6))
    assert generate_sentences(empty, np.random.default_rng(0)) == []
    chair = box_object(7, "chair", 0, 0, 0.45, 0.5, 0.5, 0.9, color="red")
    sentences = generate_sentences(SceneDescription("one", (chair,), empty.room), np.random.default_rng(0), 10)
    assert sentences
    assert all(s.target == 7 and s.unique and s.distractors == 0 and s.anchors == () for s in sentences)
    # Two equal chairs at mirrored places: without a viewpoint or an anchor nothing can tell them apart.
    twins = (box_object(1, "chair", 1, 0, 0.45, 0.5, 0.5, 0.9), box_object(2, "chair", -1, 0, 0.45, 0.5, 0.5, 0.9))
    assert generate_sentences(SceneDescription("two", twins, empty.room), np.random.default_rng(0), 10) == []


def test_hypernyms_count_as_distractors():
    room = (0.0, 0.0, 1.3, 6.0, 6.0, 2.6)
    chair = box_object(0, "chair", 0, 0, 0.45, 0.5, 0.5, 0.9)
    other = box_object(1, "armchair", 2, 0, 0.45, 0.8, 0.8, 0.9)
    texts = [
        s
        for seed in range(20)
        for s in generate_sentences(SceneDescription("s", (chair, other), room), np.random.default_rng(seed), 6)
    ]
    assert texts
    bare = {t.text.lower().strip(".?") for t in texts if t.relation == "none"}
    assert not any(t in ("the chair", "chair", "find the chair") for t in bare)
    assert any("armchair" in t or "arm chair" in t for t in bare)
