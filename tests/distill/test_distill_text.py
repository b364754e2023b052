"""Distilling the text encoder: sentences, tokenizer, word alignment, losses, and that a student learns."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from torch.nn import functional as F

from tsp3d.distill.text import (
    WordFeatures,
    align,
    cached_features,
    distil,
    encode_for,
    mean_by_index,
    new_student,
    relational_loss,
    student_features,
)
from tsp3d.distill.text_corpus import (
    TemplateSentences,
    build_tokenizer,
    count_words,
    lesson,
    plural,
    vocabulary,
    wordnet_artifacts,
)
from tsp3d.distill.text_eval import LISTED, UNLISTED, evaluate
from tsp3d.distill.text_words import NAMES, things, words
from tsp3d.synth.types import CLASSES


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    whole = vocabulary([], [], [], [], 5000)
    return build_tokenizer(whole, whole, pieces=600)


def test_every_class_has_names_and_is_its_own_first_name() -> None:
    assert set(NAMES) == set(CLASSES)
    assert all(words(names)[0] == cls for cls, names in NAMES.items())


def test_held_out_names_are_what_they_claim() -> None:
    listed = {(name, cls) for cls, text in LISTED.items() for name in words(text)}
    assert listed <= {(name, cls) for cls, text in NAMES.items() for name in words(text)}
    assert not {name for text in UNLISTED.values() for name in words(text)} & set(things())
    assert set(UNLISTED) <= set(CLASSES)


def test_a_lesson_maps_each_word_to_what_teaches_it() -> None:
    got = lesson("the {rubbish bin|trash can}, by one {loo|water closet} .")
    assert got.student == "the rubbish bin, by one loo ." and got.teacher == "the trash can, by one water closet ."
    assert got.words == [(0, 1), (1, 3), (1, 3), (3, 4), (4, 5), (5, 6), (6, 8), (8, 9)]


def test_template_sentences_are_reproducible_and_their_lessons_fit() -> None:
    sentences = [TemplateSentences(random.Random(3)).sentence() for _ in range(2)]
    assert sentences[0] == sentences[1]
    source = TemplateSentences(random.Random(3), ["gadget"])
    for text in (source.sentence() for _ in range(300)):
        got = lesson(text)
        assert "{" not in got.student + got.teacher
        assert len(got.words) == count_words(got.student) and got.words[-1][1] == count_words(got.teacher)


@pytest.mark.parametrize(
    ("one", "many"), [("box", "boxes"), ("bookshelf", "bookshelves"), ("tv", "tvs"), ("balcony", "balconies")]
)
def test_plural(one: str, many: str) -> None:
    assert plural(one) == many


def test_wordnet_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "data.noun").write_text(
        "  1 licence text\n"
        '04256520 06 n 02 sofa 0 Love_Seat 0 001 @ 04161981 n 0000 | an upholstered seat; "they sat"  \n'
        "02084071 05 n 01 dog 0 001 @ 02083346 n 0000 | a member of the genus Canis  \n"
    )
    assert wordnet_artifacts(tmp_path) == dict.fromkeys(["sofa", "love seat"], "an upholstered seat")
    with pytest.raises(FileNotFoundError, match="wordnet-base"):
        wordnet_artifacts(tmp_path / "none")


def test_tokenizer_keeps_known_words_whole_and_covers_every_script(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("The Wastebasket!", add_special_tokens=False).tokens == ["the", "wastebasket", "!"]
    found = tokenizer.encode("quxly 椅子 стул", add_special_tokens=False)
    assert "[UNK]" not in found.tokens and max(w for w in found.word_ids if w is not None) == 2


def test_mean_by_index() -> None:
    rows = torch.tensor([[1.0], [3.0], [5.0]])
    assert mean_by_index(rows, torch.tensor([1, 1, 0]), 3).flatten().tolist() == [5.0, 2.0, 0.0]


def test_align_averages_the_words_that_teach_and_drops_what_does_not_fit() -> None:
    rows = torch.arange(5.0).unsqueeze(1).half()
    found = WordFeatures(rows, [3, 2], torch.zeros(2, 1))
    got = align(found, [[(0, 1), (1, 3), (1, 3)], [(0, 1)]])
    assert got.lengths == [3, 0] and got.words.flatten().tolist() == [0.0, 1.5, 1.5]


def test_relational_loss_ignores_rotation_and_scale() -> None:
    torch.manual_seed(0)
    a = torch.randn(20, 8, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64)).Q
    assert relational_loss(a, 3 * a @ turn).item() < 1e-24
    assert relational_loss(a, torch.randn(20, 8, dtype=torch.float64)).item() > 0.05


def test_a_student_learns_from_random_word_vectors(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """The teacher of this test gives each word a fixed vector: a few steps must bring the student near it."""
    torch.manual_seed(0)
    source = TemplateSentences(random.Random(0))
    texts = [lesson(source.sentence()).student for _ in range(120)]
    student, heads = new_student(tokenizer, layers=1, dim=32, heads=4, ffn=32)
    data = encode_for(student, texts)
    table = torch.randn(tokenizer.get_vocab_size(), 384)
    parts = []
    for ids, index in zip(data.ids, data.words, strict=True):
        parts.append(mean_by_index(table[ids[1:]], torch.tensor(index), index[-1] + 1))
    target = WordFeatures(
        torch.cat(parts).half(), [len(p) for p in parts], torch.stack([p.mean(0) for p in parts]).half()
    )
    losses = distil(student, heads, texts, target, 60, batch=32, lr=1e-2)
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    found, sentence = student_features(student, data, [0, 1])
    assert found.shape == (target.lengths[0] + target.lengths[1], 32) and sentence.shape == (2, 32)


class Stopped:
    """A teacher that knows two words of a sentence, and is stopped in the middle of writing them down."""

    def features(self, texts: list[str]) -> WordFeatures:
        return WordFeatures(torch.ones(2, 4).half(), [2], torch.ones(1, 4).half())


def test_features_that_were_not_written_whole_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_: object, path: Path, *__: object) -> None:
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    file = tmp_path / "cache/features.safetensors"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("safetensors.torch.save_file", stop)
        cached_features(Stopped(), ["the desk"], file)  # type: ignore[arg-type]
    for _ in range(2):  # written, then read
        assert cached_features(Stopped(), ["the desk"], file).lengths == [2]  # type: ignore[arg-type]


def test_evaluation_of_a_perfect_and_a_blind_encoder() -> None:
    meaning = {name: i for i, cls in enumerate(CLASSES) for name in words(f"{cls},{LISTED.get(cls, '')}")}

    def featurise(texts):  # each word carries the class that the whole name stands for
        parts = []
        for text in texts:
            name = text.removeprefix("the brown ").removesuffix(" is next to the window .")
            row = F.one_hot(torch.tensor(meaning.get(name, len(CLASSES))), len(CLASSES) + 1).float()
            parts.append(row.expand(count_words(text), -1))
        return parts, torch.ones(len(texts), 4)

    figures = evaluate(featurise, CLASSES)
    assert figures["listed: nearest class"] == 100 and figures["unlisted: nearest class"] < 10
    assert evaluate(featurise, CLASSES, "a davenport")["listed synonyms"] == figures["listed synonyms"] - 1
