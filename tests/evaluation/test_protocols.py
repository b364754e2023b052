"""The grounding protocol and its report, with a network that knows the answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from tsp3d.data import PreparedScenes
from tsp3d.data.toy import write_toy_dataset
from tsp3d.evaluation import evaluate_grounding, markdown, measure_speed, write_report
from tsp3d.evaluation.protocols import CutScenes, Evaluation, spread


@dataclass
class Out:
    boxes: torch.Tensor
    scores: torch.Tensor


class Oracle:
    """Finds a scene by its points and a text by its words; wrong on purpose where the text contains ``fails_on``."""

    def __init__(self, scenes: PreparedScenes, fails_on: str = "", silent_on: str = "") -> None:
        self.scenes, self.fails_on, self.silent_on = scenes, fails_on, silent_on
        self.encoded = 0
        self.colors: list[bool] = []
        self.points: list[int] = []

    def encode(self, xyz: torch.Tensor, rgb: torch.Tensor | None = None) -> int:
        self.encoded += 1
        self.colors.append(rgb is not None)
        self.points.append(len(xyz))
        known = [i for i in range(len(self.scenes)) if bool((self.scenes[i].xyz == xyz[0].numpy()).all(1).any())]
        return known[0]

    def ground(self, encoded: int, texts: list[str], top_k: int = 1) -> list[Out]:
        assert len(texts) <= 3
        sample, result = self.scenes[encoded], []
        for text in texts:
            target = next(query.targets[0] for query in sample.queries if query.text == text)
            boxes = torch.from_numpy(sample.boxes)[[target, (target + 1) % 5]]
            if self.fails_on and self.fails_on in text:
                boxes = boxes.flip(0)
            if self.silent_on and self.silent_on in text:
                boxes = boxes[:0]
            result.append(Out(boxes[:top_k], torch.tensor([0.9, 0.5])[: len(boxes)][:top_k]))
        return result


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> PreparedScenes:
    return PreparedScenes(write_toy_dataset(tmp_path_factory.mktemp("toy"), val=3), "val")


def test_the_right_answers_score_100(scenes: PreparedScenes) -> None:
    net = Oracle(scenes)
    result = evaluate_grounding(net, scenes, batch=3)
    assert net.encoded == 3
    assert result.groups["overall"] == {
        "queries": 30, "acc@0.25": 100, "acc@0.5": 100, "recall@0.25": 100, "recall@0.5": 100, "mean_iou": 1
    }  # fmt: skip
    assert result.groups["view-dependent"]["queries"] == 15
    assert result.calibration_error == pytest.approx(0.1)
    assert len(result.rows) == 30 and all(row["hit"] == row["target"] for row in result.rows)


def test_wrong_and_missing_boxes_count_as_wrong(scenes: PreparedScenes) -> None:
    result = evaluate_grounding(
        Oracle(scenes, fails_on="far from", silent_on="number 1 from the left"), scenes, batch=3
    )
    overall = result.groups["overall"]
    assert overall["acc@0.25"] == pytest.approx(100 * 12 / 30)
    assert overall["recall@0.25"] == pytest.approx(100 * 24 / 30)
    assert result.groups["relation: far"]["acc@0.25"] == 0
    assert {row["box"] is None for row in result.rows} == {True, False}
    assert "on no object | 20.00 %" in markdown(result)


def test_masks_are_those_of_the_best_boxes(scenes: PreparedScenes) -> None:
    class Painter(Oracle):
        def masks(self, encoded: int, out: Out, which: list[int]) -> list[torch.Tensor]:
            centre = out.boxes[which[0], :3].numpy()
            target = int(np.abs(scenes[encoded].boxes[:, :3] - centre).sum(1).argmin())
            return [torch.from_numpy(np.flatnonzero(scenes[encoded].instance == target))]

    masks = evaluate_grounding(Painter(scenes, fails_on="far from"), scenes, batch=3).masks
    assert masks["predicted mask"] == {"miou": 50, "acc@0.25": 50, "acc@0.5": 50}  # half of the sentences are far from
    assert evaluate_grounding(Oracle(scenes), scenes, batch=3).masks == {}


def test_a_part_of_the_scenes_and_sentences(scenes: PreparedScenes) -> None:
    net = Oracle(scenes)
    result = evaluate_grounding(net, scenes, scenes=[2], queries_per_scene=3, batch=3, points=100, color=False)
    assert net.colors == [False] and net.points == [100]
    assert [row["text"] for row in result.rows] == [scenes[2].queries[i].text for i in (0, 4, 9)]


def test_no_box_or_no_batch_is_no_measurement(scenes: PreparedScenes) -> None:
    for top_k, batch in ((0, 1), (-1, 1), (1, 0)):
        with pytest.raises(ValueError, match="1 or more"):
            evaluate_grounding(Oracle(scenes), scenes, top_k=top_k, batch=batch)


def test_speed_is_measured_on_each_scene(scenes: PreparedScenes) -> None:
    net = Oracle(scenes)
    timings = measure_speed(net, scenes, scenes=2, queries=2, warm_up=1)
    assert net.encoded == 3
    assert set(timings) == {"cold", "encode", "warm", "points", "scenes"}
    assert timings["scenes"] == 2 and timings["points"] == 600 and timings["cold"] >= timings["encode"] > 0


def test_the_report_has_everything(scenes: PreparedScenes, tmp_path: Path) -> None:
    result = evaluate_grounding(Oracle(scenes, fails_on="far from"), scenes, batch=3)
    result.timings = {"cold": 12.0, "warm": 3.0, "points": 600.0, "scenes": 3.0}
    result.info = {"model": "oracle"}
    paths = write_report(result, tmp_path / "deep" / "out")
    text = paths["report.md"].read_text()
    assert "| overall | 30 | 50.00 | 50.00 |" in text and "model: oracle" in text and "12.0 ms" in text
    report = json.loads(paths["report.json"].read_text())
    assert report["groups"]["overall"]["acc@0.5"] == 50 and report["model"] == "oracle"
    rows = [json.loads(line) for line in paths["queries.jsonl"].read_text().splitlines()]
    assert len(rows) == 30
    wanted = {
        "scene_id",
        "text",
        "target",
        "anchors",
        "relation",
        "unique",
        "clauses",
        "iou",
        "score",
        "box",
        "target_box",
    }
    assert wanted <= rows[0].keys()
    assert sorted(path.name for path in paths["report.md"].parent.iterdir()) == sorted(paths)


def test_errors_are_told_apart() -> None:
    row = {"target": 0, "target_class": "chair", "anchors": [1], "iou": 0.1}
    hits = [(0, "chair"), (-1, ""), (1, "table"), (2, "chair"), (3, "lamp")]
    rows = [{**row, "hit": hit, "hit_class": name} for hit, name in hits]
    rows += [{**row, "target_class": "bed", "iou": 0.9, "hit": 0, "hit_class": "bed"}] * 5
    text = markdown(Evaluation({}, 0.0, rows))
    for kind in ("on the target, badly fitted", "on no object", "on an object that the sentence mentions",
                 "on another object of the class", "on an object of another class"):  # fmt: skip
        assert f"| {kind} | 10.00 % |" in text
    assert text.index("| chair | 5 | 0.00 |") < text.index("| bed | 5 | 100.00 |")  # the worst first


def test_spread() -> None:
    assert spread(10, 0) == spread(10, 99) == list(range(10))
    assert spread(10, 1) == [0]
    assert spread(10, 4) == [0, 3, 6, 9]
    for total, wanted in ((7, 3), (100, 33)):
        assert len(set(spread(total, wanted))) == wanted and np.all(np.diff(spread(total, wanted)) > 0)


def test_cut_scenes_lack_their_lowest_part(scenes: PreparedScenes) -> None:
    cut = CutScenes(scenes, 0.2)
    assert len(cut) == len(scenes)
    for place in range(len(cut)):
        whole, rest = scenes[place], cut[place]
        assert 0 < len(rest.xyz) == (whole.xyz[:, 2] >= 0.2).sum() < len(whole.xyz)
        assert rest.boxes[:, 5].sum() < whole.boxes[:, 5].sum() and len(rest.queries) <= len(whole.queries)
    with pytest.raises(ValueError, match="no point above 50"):
        CutScenes(scenes, 50.0)[0]
    for height in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="must be 0 m or more"):
            CutScenes(scenes, height)
