"""3D IoU, with and without yaw, and non-maximum suppression."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tsp3d import sparse
from tsp3d.sparse import ops, reference_boxes

pytestmark = pytest.mark.usefixtures("on_device")


def test_known_values():
    unit = torch.tensor([[0.0, 0, 0, 1, 1, 1]])
    others = torch.tensor(
        [[0.0, 0, 0, 1, 1, 1], [0.5, 0, 0, 1, 1, 1], [1, 0, 0, 1, 1, 1], [0, 0, 0, 0, 1, 1], [0, 0, 0, 2, 2, 2]]
    )
    torch.testing.assert_close(sparse.box_iou_3d(unit, others), torch.tensor([[1.0, 1 / 3, 0, 0, 1 / 8]]))


def test_turned_squares_meet_in_a_regular_octagon():
    a = torch.tensor([[100.0, -50, 3, 1, 1, 2, 0.3]], dtype=torch.float64)
    b = a.clone()
    b[0, 6] += math.pi / 4
    shared = 2 * (math.sqrt(2) - 1) * 2
    torch.testing.assert_close(sparse.box_iou_3d(a, b)[0, 0], torch.tensor(shared / (4 - shared), dtype=torch.float64))


def test_quarter_turns_exchange_the_sides():
    a = torch.tensor([[0.0, 0, 0, 3, 1, 2]])
    b = torch.tensor([[0.5, 0.2, 0, 1, 3, 2]])
    turned = torch.tensor([[0.5, 0.2, 0, 3, 1, 2, math.pi / 2]])
    torch.testing.assert_close(sparse.box_iou_3d(a, turned), sparse.box_iou_3d(a, b))


@given(st.integers(0, 10**6), st.floats(-4, 4), st.floats(-20, 20))
def test_moving_both_boxes_changes_nothing(seed, angle, shift):
    generator = torch.Generator(torch.get_default_device()).manual_seed(seed)
    boxes = torch.rand(6, 7, generator=generator, dtype=torch.float64) * 2
    cos, sin = math.cos(angle), math.sin(angle)
    moved = boxes.clone()
    moved[:, 0] = cos * boxes[:, 0] - sin * boxes[:, 1] + shift
    moved[:, 1] = sin * boxes[:, 0] + cos * boxes[:, 1] - shift
    moved[:, 2] += shift
    moved[:, 6] += angle
    before, after = sparse.box_iou_3d(boxes, boxes), sparse.box_iou_3d(moved, moved)
    torch.testing.assert_close(after, before, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(before, before.T, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(before.diagonal(), torch.ones(6, dtype=torch.float64))


def test_nms_keeps_the_best_of_each_pile():
    boxes = torch.tensor([[0.0, 0, 0, 1, 1, 1], [0.1, 0, 0, 1, 1, 1], [5, 0, 0, 1, 1, 1], [0.2, 0, 0, 1, 1, 1]])
    scores = torch.tensor([0.5, 0.9, 0.1, 0.9])
    assert sparse.nms_3d(boxes, scores, 0.5).tolist() == [1, 2]
    assert sparse.nms_3d(boxes, scores, 1.0).tolist() == [1, 3, 0, 2]  # equal scores in the order of the input
    assert sparse.nms_3d(boxes[:0], scores[:0], 0.5).tolist() == []


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"a must be \(M, 6\) or \(M, 7\)"):
        sparse.box_iou_3d(torch.zeros(2, 5), torch.zeros(2, 6))
    with pytest.raises(ValueError, match="scores must be"):
        sparse.nms_3d(torch.zeros(2, 6), torch.zeros(3), 0.5)


@pytest.mark.parametrize("columns", [6, 7])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_box_that_is_no_number_overlaps_nothing(columns, bad):
    boxes = torch.tensor([[0.0, 0, 0, 2, 3, 4, 0], [0, 0, 0, 2, 3, 4, 0]])[:, :columns]
    boxes[0, :6] = bad
    assert sparse.box_iou_3d(boxes, boxes).tolist() == [[0, 0], [0, 1]]
    assert sparse.nms_3d(boxes, torch.tensor([0.9, 0.5]), 0.25).tolist() == [0, 1]


def test_turned_boxes_of_no_volume_and_boxes_far_out():
    flat = torch.tensor([[0.25, -0.25, -1, 1, 0, 0.5, -math.pi]])
    other = torch.tensor([[0.25, 0.5, -1, 1.5, 0, 0.5, -math.pi / 2]])
    inside_out = torch.tensor([[0.0, 0, 0, -1, -1, 1, 0.3]])
    for a, b in ((flat, other), (inside_out, inside_out)):
        assert ops.box_iou_3d(a, b).item() == reference_boxes.box_iou_3d(a, b).item() == 0
    far = torch.tensor([[5000.0, 5000, 0, 0.1, 0.1, 0.1]])
    assert ops.box_iou_3d(far, far).item() == pytest.approx(1, abs=1e-6)
