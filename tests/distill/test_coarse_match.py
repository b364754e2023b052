"""The coarse step: its scores by hand, its losses on constructed batches."""

from __future__ import annotations

import math

import pytest
import torch

from tsp3d.distill.coarse_match import CoarseMatcher, class_loss, coarse_scores, mil_nce, sentence_classes
from tsp3d.synth.types import CLASSES


def test_coarse_scores_by_hand() -> None:
    """Two objects and a third that is masked; the sentence asks for class 1."""
    similarity = torch.tensor([[math.log(3.0), 0.0, 9.0]])  # shares 3/4 and 1/4 without the third
    asked = torch.tensor([[0.0, 2.0]])
    seen = torch.tensor([[[1.0, 0.0], [0.0, math.log(4.0)], [0.0, 50.0]]])  # logits of class 1: 0, log 4
    mask = torch.tensor([[True, True, False]])
    scores = coarse_scores(similarity, asked, seen, mask)
    expected = [0.5 * 3 / 4 + 1 / 5 + 0.0, 0.5 * 1 / 4 + 4 / 5 + 1.0, -math.inf]
    assert scores.tolist()[0] == pytest.approx(expected)


def test_mil_nce_by_hand() -> None:
    """Scene 0 has one object, scene 1 two; a masked one does not count, however alike."""
    similarity = torch.log(torch.tensor([[[4.0, 1000.0], [1.0, 3.0]], [[2.0, 1000.0], [5.0, 1.0]]]))  # (Q, B, N)
    mask = torch.tensor([[True, False], [True, True]])
    loss = mil_nce(similarity, torch.tensor([0, 1]), mask)
    assert loss.item() == pytest.approx(-(math.log(4 / 8) + math.log(6 / 8)) / 2)


def test_mil_nce_pulls_a_sentence_to_the_objects_of_its_scene() -> None:
    similarity = torch.zeros(2, 3, 4, requires_grad=True)
    mask = torch.ones(3, 4, dtype=torch.bool)
    mil_nce(similarity, torch.tensor([2, 0]), mask).backward()
    assert similarity.grad is not None
    falls = similarity.grad < 0
    assert falls[0, 2].all() and falls[1, 0].all() and int(falls.sum()) == 8


def test_class_loss_by_hand() -> None:
    logits = torch.log(torch.tensor([[1.0, 2.0, 5.0], [1.0, 1.0, 2.0], [7.0, 1.0, 1.0]]))
    allowed = torch.tensor([[True, True, False], [False, False, True], [False, False, False]])
    assert class_loss(logits, allowed).item() == pytest.approx(-(math.log(3 / 8) + math.log(2 / 4)) / 2)
    assert class_loss(logits, torch.zeros(3, 3, dtype=torch.bool)).item() == 0


def test_the_class_is_that_of_the_first_noun() -> None:
    texts = ["the brown table next to the bed", "the couch", "the giraffe by the sofa", "the object on the desk"]
    found = [[CLASSES[i] for i in row.nonzero()[:, 0].tolist()] for row in sentence_classes(texts, CLASSES)]
    assert {"table", "coffee table"} <= set(found[0]) and "bed" not in found[0]
    assert found[1:3] == [["sofa"], []] and len(found[3]) == len(CLASSES)
    assert sentence_classes([], CLASSES).shape == (0, len(CLASSES))


def test_padding_changes_no_proposal() -> None:
    matcher = CoarseMatcher(text_dim=6, feature_dim=10, classes=3, dim=8, heads=2, feedforward=8)
    features, mask = torch.randn(2, 5, 10), torch.ones(2, 5, dtype=torch.bool)
    mask[1, 3:] = False
    alone = matcher.embed(features[1:, :3], mask[1:, :3])
    assert torch.allclose(matcher.embed(features, mask)[1, :3], alone[0], atol=1e-5)
    similarity = matcher.similarity(torch.randn(4, 6), matcher.embed(features, mask))
    assert similarity.shape == (4, 2, 5) and float(similarity.detach().abs().max()) <= 10 + 1e-4
