"""Sentences with any number of targets (Multi3DRefer): the protocol, and F1 by kind of sentence.

Zhang et al., "Multi3DRefer: Grounding Text Description to Multiple 3D Objects", ICCV 2023, section 5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchmetrics import Metric

from tsp3d.data.sample import Query, SceneSample
from tsp3d.evaluation.metrics import THRESHOLDS, CalibrationError, box_iou, f1_at
from tsp3d.evaluation.protocols import Evaluation, GroundingModel, SceneSource, evaluate_grounding, ground_scenes
from tsp3d.models.config import ModelConfig
from tsp3d.request import check_share

DATASETS: tuple[str, ...] = ("multi3drefer", "synth-multi")
"""Whose sentences have any number of targets."""
KINDS: tuple[str, ...] = ("zt_w_d", "zt_wo_d", "st_w_d", "st_wo_d", "mt")


class MultiTargetF1(Metric):
    """Mean F1@t over sentences, overall and for each kind of sentence."""

    full_state_update = False
    higher_is_better = True
    sums: Tensor
    total: Tensor

    def __init__(self, thresholds: Sequence[float] = THRESHOLDS, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.thresholds = tuple(thresholds)
        self.groups = ("overall", *KINDS)
        self.add_state(
            "sums", torch.zeros(len(self.groups), len(self.thresholds), dtype=torch.float64), dist_reduce_fx="sum"
        )
        self.add_state("total", torch.zeros(len(self.groups), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, f1: Iterable[Sequence[float]], kinds: Iterable[str]) -> None:
        """Add sentences: the F1 (0..1) of each at every threshold, and its kind."""
        for values, kind in zip(f1, kinds, strict=True):
            for group in (0, self.groups.index(kind)):
                self.total[group] += 1
                self.sums[group] += torch.as_tensor(np.asarray(values, dtype=np.float64))

    def compute(self) -> dict[str, dict[str, float]]:
        """For each group with sentences: ``queries`` and ``f1@t`` in percent."""
        result = {}
        for group, name in enumerate(self.groups):
            total = int(self.total[group])
            if total:
                row: dict[str, float] = {"queries": total}
                for column, threshold in enumerate(self.thresholds):
                    row[f"f1@{threshold:g}"] = 100 * float(self.sums[group, column]) / total
                result[name] = row
        return result


def evaluate_multi(
    net: GroundingModel,
    dataset: SceneSource,
    *,
    min_score: float,
    min_presence: float = 0.0,
    several: bool = False,
    scenes: Iterable[int] | None = None,
    queries_per_scene: int = 0,
    batch: int = 16,
    top_k: int = 16,
    points: int = 0,
    color: bool = True,
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """F1 on sentences whose ``meta`` has an ``eval_type``; their prediction is every box that scores ``min_score``.

    Args:
        min_score: boxes below are not predicted; chosen on training data, or the model's own (0 predicts ``top_k``).
        min_presence: nothing is predicted for sentences whose presence the network thinks to be less.
        several: leave it to the network how many boxes a sentence gets (its calibration).
        top_k: most boxes predicted for a sentence, after non-maximum suppression.

    The others are those of :func:`tsp3d.evaluation.protocols.evaluate_grounding`. The calibration error is that of all
    predicted boxes: one is right if the matching gives it a target with IoU > 0.25.
    """
    metric, calibration = MultiTargetF1(sync_on_compute=False), CalibrationError(sync_on_compute=False)
    rows: list[dict[str, Any]] = []
    for answers in ground_scenes(
        net, dataset, lambda query: query.meta.get("eval_type") in KINDS, scenes=scenes,
        queries_per_scene=queries_per_scene, batch=batch, top_k=top_k, points=points, color=color, device=device,
        progress=progress, several=several,
    ):  # fmt: skip
        done = [_row(*answer[:3], min_score, min_presence) for answer in answers]
        rows += done
        metric.update([row["f1"] for row in done], [row["eval_type"] for row in done])
        for row in done:
            calibration.update(row["scores"], row["matched_iou"])
    return Evaluation(metric.compute(), calibration.compute(), rows)


def prediction_rule(config: ModelConfig, min_score: float | None = None) -> dict[str, Any]:
    """What a model predicts, as arguments of :func:`evaluate_multi`: boxes from ``min_score`` on; unless that is given,
    by its calibration, or where it has none from its own threshold on.
    """
    if min_score is None and config.calibration.fitted_on:
        return {"min_score": 0.0, "min_presence": config.calibration.min_presence, "several": True}
    return {"min_score": config.head.min_score if min_score is None else min_score}


def evaluate_dataset(
    net: GroundingModel, dataset: SceneSource, kind: str, *, top_k: int = 5, min_score: float | None = None,
    **common: Any,
) -> Evaluation:  # fmt: skip
    """By the protocol of a kind of dataset: for those in ``DATASETS`` :func:`evaluate_multi`, with at least 16 boxes
    and the :func:`prediction_rule` of ``net.config``; otherwise
    :func:`tsp3d.evaluation.protocols.evaluate_grounding`. ``common`` are arguments that both take.

    Raises:
        ValueError: ``min_score`` is not from 0 to 1, a count is below 0, or no box or sentence is asked for.
    """
    check_share("min_score", min_score)
    if kind in DATASETS:
        rule = prediction_rule(net.config, min_score)  # type: ignore[attr-defined]
        result = evaluate_multi(net, dataset, top_k=max(16, top_k), **rule, **common)
        result.info |= rule
    else:
        result = evaluate_grounding(net, dataset, top_k=top_k, **common)
    result.dataset = kind
    return result


def matched_iou(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """IoU of each predicted box (P, 6) with the target that Hungarian matching gives it, 0 where it gets none. (P,)"""
    result = np.zeros(len(predicted))
    if len(predicted) and len(true):
        iou = box_iou(predicted, true)
        rows, columns = linear_sum_assignment(iou, maximize=True)
        result[rows] = iou[rows, columns]
    return result


def _row(sample: SceneSample, query: Query, out: Any, min_score: float, min_presence: float) -> dict[str, Any]:
    scores = np.asarray(out.scores.detach().float().cpu(), dtype=np.float64)
    chosen = (scores >= min_score) & (min_presence <= getattr(out, "presence", 1.0))
    boxes = np.asarray(out.boxes.detach().float().cpu(), dtype=np.float64)[chosen, :6]
    true = sample.boxes[list(query.targets)].astype(np.float64).reshape(-1, 6)
    return {
        "scene_id": sample.scene_id,
        "text": query.text,
        "targets": list(query.targets),
        **{key: value for key, value in query.meta.items() if key != "kind"},
        "f1": [f1_at(boxes, true, threshold) for threshold in THRESHOLDS],
        "scores": scores[chosen].tolist(),
        "matched_iou": matched_iou(boxes, true).tolist(),
        "boxes": boxes.round(4).tolist(),
        "target_boxes": true.round(4).tolist(),
    }
