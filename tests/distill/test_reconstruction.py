"""The fine step: keywords, its score by hand, what the decoder may see, that it tells candidates apart."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tsp3d.data.annotated import plain_words
from tsp3d.distill import reconstruction
from tsp3d.distill.reconstruction import UNKNOWN, Reconstructor, keyword_mask, sentence_score

TEXTS = ["the chair next to the bed", "the chair next to the sofa"]


def build(words: int = 32) -> Reconstructor:
    made = Reconstructor(dim=16, heads=2, layers=2, feedforward=16, words=words)
    made.learn_words([*TEXTS, "the red lamp", "the blue lamp"])
    return made


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the brown chair next to the two coffee tables", "brown coffee tables"),
        ("it is a bag. it is grey.", "grey"),
        ("a small plastic box between the desk and the bookcase", "small plastic desk bookcase"),
        ("the window", ""),
        ("the photocopier behind the white curtain", "white curtain"),
    ],
)
def test_keywords(text: str, expected: str) -> None:
    marked = [word for word, key in zip(plain_words(text), keyword_mask(text), strict=True) if key]
    assert " ".join(marked) == expected


def test_the_score_by_hand() -> None:
    nll = torch.tensor([[[1.0, 2.0, 6.0, 100.0], [2.0, 3.0, 1.0, 100.0]], [[1.0, 5.0, 9.0, 9.0], [3.0, 1.0, 9.0, 9.0]]])
    keywords = torch.tensor([[False, False, True, True], [False] * 4])
    real = torch.tensor([[True, True, True, False], [True, True, False, False]])
    expected = [[0.3 * 1.5 + 0.7 * 6, 0.3 * 2.5 + 0.7 * 1], [0.3 * 3, 0.3 * 2]]
    assert torch.allclose(sentence_score(nll, keywords, real), torch.tensor(expected))


def test_the_vocabulary_is_the_most_frequent_words() -> None:
    made = build(words=4)  # the 6, chair 2, lamp 2, next 2, to 2; ties by the alphabet
    ids, keywords, real = made.read(["the chair next to the lamp", "the red giraffe"])
    assert (ids == UNKNOWN).tolist() == [
        [False, False, False, True, False, False],
        [False, True, True, True, True, True],
    ]
    assert real.sum(1).tolist() == [6, 3] and keywords.sum(1).tolist() == [1, 1]
    again = build(words=4)
    again.vocabulary.fill_(-1)
    again.load_state_dict(made.state_dict())
    assert torch.equal(again.read(TEXTS)[0], made.read(TEXTS)[0])


def words_nll(made: Reconstructor, candidates: Tensor, texts: list[str], monkeypatch: pytest.MonkeyPatch) -> Tensor:
    monkeypatch.setattr(reconstruction, "sentence_score", lambda nll, keywords, real: nll)
    torch.manual_seed(0)
    with torch.no_grad():
        return made(candidates, texts)


def test_keywords_are_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    candidates = torch.randn(1, 3, 16).expand(2, 3, 16)
    monkeypatch.setattr(reconstruction, "MASKED", 0.0)
    red, blue = words_nll(build(), candidates, ["the red lamp", "the blue lamp"], monkeypatch)
    assert torch.equal(red[:, [0, 2]], blue[:, [0, 2]]) and not torch.equal(red[:, 1], blue[:, 1])


def test_a_word_sees_only_those_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    candidates = torch.randn(1, 3, 16).expand(2, 3, 16)
    monkeypatch.setattr(reconstruction, "MASKED", 0.0)
    monkeypatch.setattr(reconstruction, "keyword_mask", lambda text: [False] * len(plain_words(text)))
    one, other = words_nll(build(), candidates, ["the lamp next", "the chair next"], monkeypatch)
    assert torch.equal(one[:, 0], other[:, 0]) and not torch.equal(one[:, 2], other[:, 2])


def test_candidates_and_longer_sentences_do_not_matter_to_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconstruction, "MASKED", 0.0)
    made, candidates = build(), torch.randn(2, 3, 16)
    texts = ["the red lamp", "the chair next to the sofa"]
    together = words_nll(made, candidates, texts, monkeypatch)
    alone = words_nll(made, candidates[:1, [2, 0]], texts[:1], monkeypatch)
    assert torch.allclose(together[:1, [2, 0], :3], alone, atol=1e-5)


def test_the_masks_are_the_same_for_all_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    candidates = torch.randn(2, 1, 16).expand(2, 4, 16)
    nll = words_nll(build(), candidates, TEXTS, monkeypatch)
    assert torch.allclose(nll, nll[:, :1].expand_as(nll), atol=1e-6)


def test_it_learns_which_candidate_a_sentence_is_of() -> None:
    """Each sentence with its own candidate; then the right one of two rebuilds it best."""
    made, features = build(), torch.randn(2, 16)
    optimizer = torch.optim.Adam(made.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        made(features[:, None], TEXTS).mean().backward()
        optimizer.step()
    with torch.no_grad():
        scores = made(features.expand(2, 2, 16), TEXTS)
    assert scores.argmin(1).tolist() == [0, 1] and float((scores[:, 0] - scores[:, 1]).abs().min()) > 0.3
