"""Measures against hand-worked cases and brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tsp3d import sparse
from tsp3d.evaluation import CalibrationError, GroundingAccuracy, box_iou, f1_at
from tsp3d.evaluation.metrics import groups_of

UNIT = [0.0, 0, 0, 1, 1, 1]


def shifted(x: float) -> list[float]:
    return [x, 0.0, 0, 1, 1, 1]


def test_iou_by_hand() -> None:
    got = box_iou([UNIT], [UNIT, shifted(0.5), shifted(1.0), [0, 0, 0, 2, 2, 2], [0, 0, 0, 0, 1, 1]])
    np.testing.assert_allclose(got, [[1, 1 / 3, 0, 1 / 8, 0]])
    assert box_iou(np.zeros((0, 6)), [UNIT]).shape == (0, 1)
    assert box_iou([[0, 0, 0, 0, 0, 0]], [[0, 0, 0, 0, 0, 0]]).item() == 0


integers = st.lists(st.integers(0, 4), min_size=3, max_size=3)


@given(integers, integers, integers, integers)
def test_iou_against_counting_cells(a: list[int], b: list[int], a_size: list[int], b_size: list[int]) -> None:
    def cells(low: list[int], size: list[int]) -> set[tuple[int, ...]]:
        return set(itertools.product(*(range(start, start + length) for start, length in zip(low, size, strict=True))))

    def box(low: list[int], size: list[int]) -> list[float]:
        return [start + length / 2 for start, length in zip(low, size, strict=True)] + [float(s) for s in size]

    first, second = cells(a, a_size), cells(b, b_size)
    want = len(first & second) / len(first | second) if first | second else 0.0
    assert box_iou([box(a, a_size)], [box(b, b_size)]).item() == pytest.approx(want)


def test_iou_agrees_with_the_engine() -> None:
    rng = np.random.default_rng(0)
    a, b = (np.concatenate([rng.uniform(-1, 1, (n, 3)), rng.uniform(0.1, 2, (n, 3))], 1) for n in (7, 9))
    got = sparse.box_iou_3d(torch.tensor(a).float(), torch.tensor(b).float())
    np.testing.assert_allclose(box_iou(a, b), got.numpy(), atol=1e-5)


def test_accuracy_by_hand() -> None:
    metric = GroundingAccuracy()
    metas = [
        {"unique": True, "distractors": 0, "view_dependent": False, "relation": "near", "clauses": 1},
        {"unique": False, "distractors": 1, "view_dependent": True, "relation": "left", "clauses": 2},
        {"unique": False, "distractors": 3, "view_dependent": True, "relation": "left", "clauses": 5},
        {"unique": False, "distractors": 2, "view_dependent": False, "relation": "beneath", "clauses": 1},
    ]
    metric.update([[0.6, 0.1], [0.25, 0.7]], metas[:2])  # 0.25 is not greater than 0.25
    metric.update([[], [0.5]], metas[2:])
    got = metric.compute()
    assert got["overall"]["queries"] == 4
    assert got["overall"]["acc@0.25"] == 50 and got["overall"]["acc@0.5"] == 25
    assert got["overall"]["recall@0.25"] == 75 and got["overall"]["recall@0.5"] == 50
    assert got["overall"]["mean_iou"] == pytest.approx((0.6 + 0.25 + 0 + 0.5) / 4)
    assert got["unique"]["acc@0.5"] == 100
    assert got["multiple"]["queries"] == 3 and got["multiple"]["acc@0.25"] == pytest.approx(100 / 3)
    assert got["easy"]["queries"] == 1 and got["hard"]["queries"] == 2
    assert got["view-dependent"]["acc@0.25"] == 0 and got["view-independent"]["acc@0.25"] == 100
    assert got["relation: left"]["queries"] == 2 and got["relation: other"]["queries"] == 1
    assert got["1 clause"]["queries"] == 2 and got["3 clauses"]["queries"] == 1
    assert "relation: on" not in got
    metric.reset()
    assert metric.compute() == {}


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30))
def test_accuracy_in_parts_is_accuracy_of_the_whole(queries: list[tuple[float, bool]]) -> None:
    ious, metas = [[iou] for iou, _ in queries], [{"unique": unique} for _, unique in queries]
    whole, parts = GroundingAccuracy(), GroundingAccuracy()
    whole.update(ious, metas)
    for iou, meta in zip(ious, metas, strict=True):
        parts.update([iou], [meta])
    assert whole.compute() == parts.compute()
    assert whole.compute()["overall"]["acc@0.5"] == pytest.approx(100 * np.mean([iou > 0.5 for iou, _ in queries]))


def test_missing_fields_belong_to_no_group() -> None:
    assert groups_of({}) == ["overall"]


def test_calibration_by_hand() -> None:
    metric = CalibrationError(bins=10)
    assert metric.compute() == 0
    metric.update([0.95, 0.95, 0.15, 1.0], [0.9, 0.0, 0.0, 0.3])
    # Bin 0.9 to 1: three queries, mean score 2.9 / 3, two right; bin 0.1 to 0.2: score 0.15, none right.
    assert metric.compute() == pytest.approx((0.9 + 0.15) / 4)


def test_f1_by_hand() -> None:
    assert f1_at([], [], 0.5) == 1
    assert f1_at([UNIT], [], 0.5) == 0
    assert f1_at([], [UNIT], 0.5) == 0
    assert f1_at([UNIT], [UNIT], 0.5) == 1
    assert f1_at([UNIT, shifted(5)], [UNIT], 0.5) == pytest.approx(2 / 3)
    assert f1_at([UNIT, shifted(5)], [shifted(5.1), shifted(0.1), shifted(9)], 0.5) == pytest.approx(4 / 5)
    assert f1_at([UNIT, UNIT], [UNIT], 0.5) == pytest.approx(2 / 3)  # a second box on the same target is wrong


@given(st.integers(0, 3), st.integers(0, 3), st.integers(0, 1000))
def test_f1_against_all_assignments(predicted: int, true: int, seed: int) -> None:
    """Matching maximises the sum of IoU; with boxes of a lattice all maximal matchings have the same hits at 0.1."""
    rng = np.random.default_rng(seed)
    a = np.concatenate([rng.uniform(0, 1, (predicted, 3)), np.ones((predicted, 3))], 1)
    b = np.concatenate([rng.uniform(0, 1, (true, 3)), np.ones((true, 3))], 1)
    iou, best, hits = box_iou(a, b), -1.0, 0
    small = min(predicted, true)
    for rows in itertools.permutations(range(predicted), small):
        for columns in itertools.combinations(range(true), small):
            values = iou[list(rows), list(columns)] if small else np.zeros(0)
            if values.sum() > best:
                best, hits = float(values.sum()), int((values > 0.1).sum())
    want = 2 * hits / (predicted + true) if predicted + true else 1.0
    assert f1_at(a, b, 0.1) == pytest.approx(want)
