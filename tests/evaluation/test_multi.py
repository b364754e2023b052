"""Multi3DRefer's protocol and the papers' tables, with answers that are known."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tsp3d.data.sample import Query, SceneSample
from tsp3d.evaluation import Evaluation, MultiTargetF1, evaluate_multi, markdown
from tsp3d.evaluation.metrics import GroundingAccuracy, box_iou
from tsp3d.evaluation.multi import KINDS, evaluate_dataset, matched_iou, prediction_rule
from tsp3d.evaluation.published import TABLES, paper_table
from tsp3d.models.config import CalibrationConfig, ModelConfig


@dataclass
class Out:
    boxes: torch.Tensor
    scores: torch.Tensor


def box(x: float) -> list[float]:
    return [x, 0.0, 0.5, 1, 1, 1]


TEXTS = {  # text: (targets, kind, predicted boxes with scores)
    "nothing, and quiet": ((), "zt_wo_d", [(box(9), 0.1)]),
    "nothing, but one found": ((), "zt_w_d", [(box(0), 0.9)]),
    "one, right": ((0,), "st_wo_d", [(box(0), 0.8)]),
    "one, right and wrong": ((1,), "st_w_d", [(box(0), 0.7), (box(3), 0.6), (box(3), 0.2)]),
    "one, loosely": ((1,), "st_w_d", [(box(3.5), 0.6)]),
    "all three, two found": ((0, 1, 2), "mt", [(box(6), 0.9), (box(0.1), 0.5)]),
    "all three, none found": ((0, 1, 2), "mt", []),
}


class Scenes:
    """One scene with objects at x = 0, 3, 6."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> SceneSample:
        points = np.zeros((4, 3), dtype=np.float32)
        queries = [Query(text, row[0], meta={"kind": "sentence", "eval_type": row[1]}) for text, row in TEXTS.items()]
        queries.append(Query("a detection prompt", (0, 1), meta={"kind": "detection"}))
        return SceneSample(
            "scene", points, points, np.zeros(4, dtype=np.int64), np.array([box(0), box(3), box(6)], dtype=np.float32),
            np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64), tuple(queries), labels=("chair",) * 3,
        )  # fmt: skip


class Net:
    def encode(self, xyz: torch.Tensor, rgb: torch.Tensor | None = None) -> None:
        assert xyz.shape == (4, 3)

    def ground(self, encoded: None, texts: list[str], top_k: int = 1) -> list[Out]:
        answers = [TEXTS[text][2] for text in texts]
        boxes = [torch.tensor([b for b, _ in a]).reshape(-1, 6) for a in answers]
        return [Out(b, torch.tensor([s for _, s in a])) for a, b in zip(answers, boxes, strict=True)]


def test_f1_by_kind_by_hand() -> None:
    result = evaluate_multi(Net(), Scenes(), min_score=0.4, batch=3)
    groups = result.groups
    assert groups["zt_wo_d"] == {"queries": 1, "f1@0.25": 100, "f1@0.5": 100}  # 0.1 is below 0.4
    assert groups["zt_w_d"] == {"queries": 1, "f1@0.25": 0, "f1@0.5": 0}
    assert groups["st_wo_d"]["f1@0.5"] == 100
    # One of two boxes is right: 2/3; the loose box has IoU 1/3: right at 0.25 alone.
    assert groups["st_w_d"]["f1@0.25"] == pytest.approx(100 * (2 / 3 + 1) / 2)
    assert groups["st_w_d"]["f1@0.5"] == pytest.approx(100 * (2 / 3) / 2)
    assert groups["mt"]["f1@0.5"] == pytest.approx(100 * (4 / 5) / 2)
    assert groups["overall"]["queries"] == 7
    assert groups["overall"]["f1@0.25"] == pytest.approx(100 * (1 + 0 + 1 + 2 / 3 + 1 + 4 / 5 + 0) / 7)
    everything = evaluate_multi(Net(), Scenes(), min_score=0.0).groups
    assert everything["zt_wo_d"]["f1@0.25"] == 0 and everything["st_w_d"]["f1@0.5"] == pytest.approx(100 * 0.5 / 2)
    # Scores of the seven predictions; right are those with IoU > 0.25 with a target of their own.
    scores = {0.9: [0, 1], 0.8: [1], 0.7: [0], 0.6: [1, 1], 0.5: [1]}
    error = sum(abs(sum(right) - score * len(right)) for score, right in scores.items())
    assert result.calibration_error == pytest.approx(error / 7, abs=1e-6)


class Judge(Net):
    """Says how sure it is that something fits, and notes what it is asked for."""

    def __init__(self) -> None:
        self.config = ModelConfig(calibration=CalibrationConfig(min_presence=0.5, fitted_on="these"))
        self.asked: set[tuple[int, bool]] = set()

    def ground(self, encoded: None, texts: list[str], top_k: int = 1, several: bool = False) -> list[Out]:
        self.asked.add((top_k, several))
        outs = super().ground(encoded, texts, top_k)
        for text, out in zip(texts, outs, strict=True):
            out.presence = 0.2 if text.startswith("nothing") else 0.5  # type: ignore[attr-defined]
        return outs


def test_nothing_is_predicted_where_presence_is_too_low() -> None:
    kinds = ("zt_w_d", "zt_wo_d", "st_wo_d")
    for least, nothing, one in ((0.2, 0, 100), (0.5, 100, 100), (0.6, 100, 0)):
        groups = evaluate_multi(Judge(), Scenes(), min_score=0.0, min_presence=least).groups
        assert [groups[kind]["f1@0.5"] for kind in kinds] == [nothing, nothing, one]


def test_a_dataset_is_measured_by_the_networks_own_rule_unless_a_score_is_given() -> None:
    net = Judge()
    result = evaluate_dataset(net, Scenes(), "synth-multi", top_k=5)
    assert net.asked == {(16, True)} and result.groups["zt_w_d"]["f1@0.5"] == 100
    assert result.dataset == "synth-multi" and result.info == prediction_rule(net.config)
    assert prediction_rule(net.config, 0.4) == {"min_score": 0.4}
    plain = ModelConfig()
    plain.head.min_score = 0.3
    assert prediction_rule(plain) == {"min_score": 0.3}


def test_the_report_has_the_papers_layout() -> None:
    result = evaluate_multi(Net(), Scenes(), min_score=0.4)
    result.dataset = "multi3drefer"
    text = markdown(result)
    assert "| M3DRef-CLIP | 81.80 | 39.40 |  |  |  |  |  |  | 42.80 | 38.40 |" in text
    assert "| **ours** | 100.00 | 0.00 | 100.00 | 100.00 | 83.33 | 33.33 | 40.00 | 40.00 |" in text
    assert "| mt | 2 | 40.00 | 40.00 |" in text and "recall" not in text and "## Errors" not in text


def test_scanrefers_two_definitions_stand_side_by_side() -> None:
    metric = GroundingAccuracy()
    metas = [
        {"unique": True, "unique_official": False},
        {"unique": False, "unique_official": True},
        {"unique": False, "unique_official": False},
    ]
    metric.update([[0.9], [0.3], [0.0]], metas)
    groups = metric.compute()
    assert groups["unique"]["acc@0.5"] == 100 and groups["unique (official)"]["acc@0.5"] == 0
    assert groups["unique (official)"]["acc@0.25"] == 100 and groups["multiple (official)"]["acc@0.5"] == 50
    rows = paper_table("scanrefer", groups, {"cold": 80.0}, "tsp3d").splitlines()
    table = {row.split("|")[1].strip(): [cell.strip() for cell in row.split("|")[2:-1]] for row in rows if "|" in row}
    assert table["method"][4:6] == ["Overall @0.25", "Overall @0.5"] and table["method"][-1] == "FPS"
    assert table["TSP3D"] == ["87.30", "71.40", "51.00", "42.40", "56.45", "46.71", "", "", "", "", "12.43"]
    assert table["**tsp3d**"][:6] == ["100.00", "100.00", "50.00", "0.00", "66.67", "33.33"]
    assert table["**tsp3d**"][-1] == "12.50"


def test_referit3ds_groups() -> None:
    metric = GroundingAccuracy()
    metas = [{"distractors": 1, "view_dependent": True}, {"distractors": 2, "view_dependent": False}]
    metric.update([[0.9], [0.1]], metas)
    text = paper_table("nr3d", metric.compute())
    assert "| TSP3D | 48.70 |" in text and "| **ours** | 50.00 | 100.00 | 0.00 | 100.00 | 0.00 | 50.00 |" in text
    assert "| TSP3D | 57.10 |" in paper_table("sr3d", {})
    assert paper_table("synth", {}) == ""
    assert "## " not in markdown(Evaluation({}, 0.0, [])).split("## Errors")[0]


def test_every_published_figure_has_a_column() -> None:
    for table in TABLES.values():
        for figures in table.rows.values():
            assert figures.keys() <= table.columns.keys() and figures


@given(st.integers(0, 3), st.integers(0, 3), st.integers(0, 1000))
def test_matching_against_all_assignments(predicted: int, true: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = np.concatenate([rng.uniform(0, 1, (predicted, 3)), np.ones((predicted, 3))], 1)
    b = np.concatenate([rng.uniform(0, 1, (true, 3)), np.ones((true, 3))], 1)
    iou, small = box_iou(a, b), min(predicted, true)
    best = max(
        float(iou[list(rows), list(columns)].sum()) if small else 0.0
        for rows in itertools.permutations(range(predicted), small)
        for columns in itertools.combinations(range(true), small)
    )
    assert matched_iou(a, b).sum() == pytest.approx(best)


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.floats(0, 1)), min_size=1, max_size=20))
def test_f1_in_parts_is_f1_of_the_whole(queries: list[tuple[str, float]]) -> None:
    whole, parts = MultiTargetF1(), MultiTargetF1()
    whole.update([[value, value / 2] for _, value in queries], [kind for kind, _ in queries])
    for kind, value in queries:
        parts.update([[value, value / 2]], [kind])
    got = whole.compute()
    assert got.keys() == parts.compute().keys()
    for kind in (*KINDS, "overall"):
        own = [value for name, value in queries if kind in ("overall", name)]
        if own:
            assert got[kind]["queries"] == len(own) and got[kind]["f1@0.25"] == pytest.approx(100 * np.mean(own))
            assert parts.compute()[kind]["f1@0.5"] == pytest.approx(50 * np.mean(own))
