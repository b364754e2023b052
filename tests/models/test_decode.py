"""The choice among a sentence's boxes, on cases worked by hand."""

import pytest
import torch

from tsp3d.models.decode import best_boxes


def unit(*xs: float) -> torch.Tensor:
    return torch.tensor([[x, 0.0, 0.0, 1.0, 1.0, 1.0] for x in xs])


def test_without_votes_the_highest_logit_wins() -> None:
    boxes, scores, rows = best_boxes(torch.tensor([0.0, 2.0, 1.0]), unit(0, 5, 0.1), 1, 0.25, 0.0)
    assert torch.equal(boxes, unit(5)) and torch.allclose(scores, torch.tensor([2.0]).sigmoid())


def test_agreeing_boxes_outvote_a_single_better_one() -> None:
    logits = torch.tensor([2.0, 1.9, 1.9, 1.8])
    boxes, scores, rows = best_boxes(logits, unit(5, 0.0, 0.1, 0.2), 1, 0.25, 0.5)
    p = logits.sigmoid()
    place = (0.1 * p[2] ** 2 + 0.2 * p[3] ** 2) / (p[1:] ** 2).sum()
    share = logits.softmax(0)[1:].sum()
    assert torch.allclose(boxes[0, 0], place) and torch.allclose(scores[0], (share * p[1]).sqrt())


def test_low_scores_leave_boxes_in_place() -> None:
    logits = torch.tensor([0.0, -1.0, -14.0])
    expected = best_boxes(logits - 10, unit(5.0, 5.1, 9.0), 3, 0.25, 0.5)[0]
    for less in (20, 200):
        boxes, scores, _ = best_boxes(logits - less, unit(5.0, 5.1, 9.0), 3, 0.25, 0.5)
        torch.testing.assert_close(boxes[0], expected[0], atol=0.05, rtol=0)
        assert torch.equal(boxes[1], unit(9.0)[0]) and bool((scores >= 0).all())


def test_several_boxes_come_without_overlap_and_best_first() -> None:
    logits = torch.tensor([2.0, 1.9, 1.9, -1.0])
    boxes, scores, rows = best_boxes(logits, unit(5, 0.0, 0.1, 9), 3, 0.25, 0.5)
    assert boxes[:, 0].round().tolist() == [0, 5, 9] and len(scores) == 3
    boxes, _, _ = best_boxes(logits, unit(5, 0.0, 0.1, 9), 2, 0.25, 0.0)
    assert boxes[:, 0].tolist() == [5, 0]


@pytest.mark.parametrize("vote_iou", [0.0, 0.5])
def test_one_box_is_the_best_of_several(vote_iou: float) -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = torch.cat([torch.rand(60, 3, generator=generator), 0.5 + torch.rand(60, 3, generator=generator)], 1)
    logits = torch.randn(60, generator=generator)
    one, several = (best_boxes(logits, boxes, top_k, 0.25, vote_iou) for top_k in (1, 5))
    for alone, among in zip(one, several, strict=True):
        torch.testing.assert_close(alone, among[:1])


def test_no_voxels_and_no_volume() -> None:
    for vote in (0.0, 0.5):
        for top_k in (1, 3):
            boxes, scores, rows = best_boxes(torch.zeros(0), torch.zeros(0, 6), top_k, 0.25, vote)
            assert boxes.shape == (0, 6) and scores.shape == (0,)
    flat = torch.tensor([[1.0, 2.0, 3.0, 0.0, 0.0, 0.0]])
    boxes, scores, rows = best_boxes(torch.zeros(1), flat, 1, 0.25, 0.5)
    assert torch.equal(boxes, flat) and torch.allclose(scores, torch.tensor([0.5]).sqrt())
