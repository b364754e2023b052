"""Losses and assignment on hand-worked cases."""

import math

import torch

from tsp3d.losses import (
    diou_loss,
    focal_loss,
    inside_cubes,
    nearest_assignment,
    paired_iou,
    quality_focal_loss,
    rank_loss,
)


def test_focal_loss_by_hand() -> None:
    logits, targets = torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.0])
    expected = torch.tensor([0.25, 0.75]) * 0.25 * math.log(2)
    assert torch.allclose(focal_loss(logits, targets), expected)


def test_quality_focal_loss_is_zero_at_its_target() -> None:
    quality = torch.tensor([0.3, 0.8])
    assert torch.allclose(quality_focal_loss(torch.logit(quality), quality), torch.zeros(2))
    assert bool((quality_focal_loss(torch.logit(quality) + 1, quality) > 0).all())


def test_iou_and_diou_by_hand() -> None:
    a = torch.tensor([[0.0, 0, 0, 2, 2, 2]])
    shifted = torch.tensor([[1.0, 0, 0, 2, 2, 2]])
    assert torch.allclose(paired_iou(a, shifted), torch.tensor([4 / 12]))
    # enclosing box 3 x 2 x 2: squared diagonal 17, squared distance 1
    assert torch.allclose(diou_loss(a, shifted), torch.tensor([1 - 1 / 3 + 1 / 17]))
    assert torch.allclose(diou_loss(a, a), torch.zeros(1), atol=1e-6)
    far = torch.tensor([[10.0, 0, 0, 2, 2, 2]])
    assert float(diou_loss(a, far)) > 1.0  # apart, yet with a gradient


def test_assignment_takes_the_nearest_and_resolves_overlap() -> None:
    positions = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0], [0.0, 0, 0]])
    query = torch.tensor([0, 0, 0, 0, 1])
    boxes = torch.tensor([[0.0, 0, 0, 1, 1, 1], [2.6, 0, 0, 1, 1, 1]])
    both = nearest_assignment(positions, query, boxes, torch.tensor([0, 0]), positives=3)
    assert both.tolist() == [0, 0, 1, 1, -1]
    assert nearest_assignment(positions, query, boxes[:1], torch.tensor([1]), 3).tolist() == [-1, -1, -1, -1, 0]
    assert nearest_assignment(positions[:0], query[:0], boxes, torch.tensor([0, 1]), 3).tolist() == []
    assert nearest_assignment(positions, query, boxes[:0], torch.tensor([], dtype=torch.long), 3).tolist() == [-1] * 5


def test_cubes_of_other_sentences_do_not_count() -> None:
    positions = torch.tensor([[0.0, 0, 0], [0.6, 0, 0], [0.0, 0, 0]])
    query = torch.tensor([0, 0, 1])
    inside = inside_cubes(positions, query, torch.tensor([[0.1, 0, 0], [5.0, 5, 5]]), torch.tensor([0, 1]), side=1.0)
    assert inside.tolist() == [True, True, False]
    assert (
        inside_cubes(positions, query, torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), 1.0).tolist() == [False] * 3
    )


def test_small_boxes_claim_only_what_is_near() -> None:
    positions = torch.tensor([[0.1 * i, 0.0, 0.0] for i in range(12)])
    query = torch.zeros(12, dtype=torch.long)
    boxes = torch.tensor([[0.0, 0, 0, 0.2, 0.2, 0.2]])
    free = nearest_assignment(positions, query, boxes, torch.tensor([0]), 10)
    near = nearest_assignment(positions, query, boxes, torch.tensor([0]), 10, margin=0.45)
    least = nearest_assignment(positions, query, boxes, torch.tensor([0]), 10, margin=0.01)
    assert (free >= 0).sum() == 10
    assert (near >= 0).nonzero().flatten().tolist() == [0, 1, 2, 3, 4, 5]
    assert (least >= 0).nonzero().flatten().tolist() == [0, 1, 2, 3]  # the nearest few always


def test_rank_loss_by_hand() -> None:
    logits = torch.tensor([1000.0, 1000.0, 1000.0, -2.0, 5.0, 0.0], requires_grad=True)
    query = torch.tensor([0, 0, 0, 1, 1, 3])
    positive = torch.tensor([True, False, True, True, False, False])
    loss = rank_loss(logits, query, positive, 4)  # queries 2 and 3 have no positive
    second = math.log(math.exp(-2) + math.exp(5)) + 2
    assert torch.allclose(loss, torch.tensor((math.log(3 / 2) + second) / 2))
    loss.backward()
    assert logits.grad is not None and bool(torch.isfinite(logits.grad).all())
    assert logits.grad[5] == 0 and logits.grad[0] < 0 < logits.grad[1]
    assert rank_loss(logits, query, torch.zeros(6, dtype=torch.bool), 4).item() == 0.0
