"""Measures of masks, on cases counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tsp3d.data.sample import SceneSample
from tsp3d.evaluation.masks import mask_iou, mask_measures, mask_row, points_inside
from tsp3d.evaluation.protocols import Evaluation
from tsp3d.evaluation.report import markdown


def test_iou_by_hand() -> None:
    a, b = np.array([1, 1, 0, 0], bool), np.array([0, 1, 1, 0], bool)
    assert mask_iou(a, b) == pytest.approx(1 / 3)
    assert mask_iou(a, a) == 1.0 and mask_iou(a & ~a, b & ~b) == 0.0


def test_a_row_compares_the_mask_and_the_points_in_the_box() -> None:
    xyz = np.array([[0, 0, 0], [0.5, 0, 0], [0, 0, 0.4], [2, 0, 0]], np.float32)
    none = np.zeros(0, np.int64)
    sample = SceneSample("s", xyz, xyz, np.array([0, 0, -1, 1]), np.zeros((2, 6), np.float32), none, none)
    box = np.array([0, 0, 0, 1, 1, 1.0])
    assert points_inside(xyz, box).tolist() == [True, True, True, False]
    row = mask_row(np.array([1, 1, 0, 0], bool), box, sample, 0)
    assert row == {"mask_iou": 1.0, "inside_iou": pytest.approx(2 / 3)}


def test_measures_count_queries_without_a_box_as_wrong() -> None:
    rows = [{"mask_iou": 0.6, "inside_iou": 0.3}, {"mask_iou": 0.5, "inside_iou": 0.1}, {}]
    found = mask_measures(rows)
    assert found["predicted mask"] == pytest.approx({"miou": 110 / 3, "acc@0.25": 200 / 3, "acc@0.5": 100 / 3})
    assert found["all points in the box"]["acc@0.25"] == pytest.approx(100 / 3)
    assert mask_measures([{}, {}]) == {}


def test_the_report_has_masks_where_there_are_some() -> None:
    rows = [{"f1": 1}]
    assert "## Masks" not in markdown(Evaluation({"overall": {"queries": 1}}, 0.0, rows))
    text = markdown(Evaluation({"overall": {"queries": 1}}, 0.0, rows, mask_measures([{"mask_iou": 0.6}])))
    assert "| predicted mask | 60.00 | 100.00 | 100.00 |" in text
