"""Measures of grounding: accuracy at an IoU threshold by group of queries, F1 of several targets, calibration.

Boxes are axis-aligned (x, y, z, dx, dy, dz), metres. A box is right at threshold t if its IoU is strictly greater.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchmetrics import Metric

from tsp3d.synth.types import RELATIONS

THRESHOLDS: tuple[float, ...] = (0.25, 0.5)
GROUPS: tuple[str, ...] = (
    "overall", "unique", "multiple", "unique (official)", "multiple (official)", "easy", "hard",
    "view-dependent", "view-independent", "1 clause", "2 clauses", "3 clauses",
    *(f"relation: {name}" for name in RELATIONS),
)  # fmt: skip
"""Groups that accuracy is reported for. Unique: no other object of the target's class in the scene (the definition of
TSP3D and BUTD-DETR; all objects of the scene count). Unique (official): no other annotated object of the target's
class. ScanRefer has 18 classes for either. Easy: one such object, hard: more (Nr3D, Sr3D)."""


def box_iou(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """IoU of each box of ``a`` (M, 6) with each of ``b`` (K, 6), float64 (M, K). Boxes without volume have IoU 0."""
    first = np.asarray(a, dtype=np.float64).reshape(-1, 6)[:, None]
    second = np.asarray(b, dtype=np.float64).reshape(-1, 6)[None]
    lower = np.maximum(first[..., :3] - first[..., 3:] / 2, second[..., :3] - second[..., 3:] / 2)
    upper = np.minimum(first[..., :3] + first[..., 3:] / 2, second[..., :3] + second[..., 3:] / 2)
    common = np.clip(upper - lower, 0, None).prod(-1)
    total = first[..., 3:].prod(-1) + second[..., 3:].prod(-1) - common
    return np.divide(common, total, out=np.zeros_like(common), where=total > 0)


def groups_of(meta: dict[str, Any]) -> list[str]:
    """Groups that a query belongs to, by what the dataset says of it; a missing field puts it in none of its groups."""
    found = ["overall"]
    if "unique" in meta:
        found.append("unique" if meta["unique"] else "multiple")
    if "unique_official" in meta:
        found.append("unique (official)" if meta["unique_official"] else "multiple (official)")
    if meta.get("distractors", 0) > 0:
        found.append("easy" if meta["distractors"] == 1 else "hard")
    if "view_dependent" in meta:
        found.append("view-dependent" if meta["view_dependent"] else "view-independent")
    if "clauses" in meta:
        count = min(max(int(meta["clauses"]), 1), 3)
        found.append("1 clause" if count == 1 else f"{count} clauses")
    if "relation" in meta:
        found.append(f"relation: {meta['relation'] if meta['relation'] in RELATIONS else 'other'}")
    return found


class GroundingAccuracy(Metric):
    """Share of queries whose top box has IoU > t with the target, for each group and threshold.

    A query without a predicted box counts as wrong. ``recall`` counts a query as right if any of its boxes is.
    """

    full_state_update = False
    higher_is_better = True
    correct: Tensor
    recalled: Tensor
    total: Tensor
    iou_sum: Tensor

    def __init__(self, thresholds: Sequence[float] = THRESHOLDS, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.thresholds = tuple(thresholds)
        shape = (len(GROUPS), len(self.thresholds))
        self.add_state("correct", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("recalled", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("total", torch.zeros(len(GROUPS), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("iou_sum", torch.zeros(len(GROUPS), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, ious: Iterable[ArrayLike], metas: Iterable[dict[str, Any]]) -> None:
        """Add queries.

        Args:
            ious: for each query, the IoU of its boxes (best score first) with the target; empty where none was found.
            metas: for each query, the fields that :func:`groups_of` reads.
        """
        for values, meta in zip(ious, metas, strict=True):
            values = np.asarray(values, dtype=np.float64).reshape(-1)
            top, best = (values[0], values.max()) if len(values) else (0.0, 0.0)
            for name in groups_of(meta):
                group = GROUPS.index(name)
                self.total[group] += 1
                self.iou_sum[group] += float(top)
                for column, threshold in enumerate(self.thresholds):
                    self.correct[group, column] += int(top > threshold)
                    self.recalled[group, column] += int(best > threshold)

    def compute(self) -> dict[str, dict[str, float]]:
        """For each group with queries: ``queries``, ``acc@t`` and ``recall@t`` in percent, and ``mean_iou``."""
        result = {}
        for group, name in enumerate(GROUPS):
            total = int(self.total[group])
            if total == 0:
                continue
            row: dict[str, float] = {"queries": total}
            for column, threshold in enumerate(self.thresholds):
                row[f"acc@{threshold:g}"] = 100 * int(self.correct[group, column]) / total
                row[f"recall@{threshold:g}"] = 100 * int(self.recalled[group, column]) / total
            row["mean_iou"] = float(self.iou_sum[group]) / total
            result[name] = row
        return result


class CalibrationError(Metric):
    """Expected calibration error: mean over queries of |share right - mean score| of the query's score bin.

    Guo et al., "On Calibration of Modern Neural Networks", 2017, with equal-width bins; right means IoU > threshold.
    """

    full_state_update = False
    higher_is_better = False
    count: Tensor
    score: Tensor
    right: Tensor

    def __init__(self, bins: int = 15, threshold: float = 0.25, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bins, self.threshold = bins, threshold
        for name in ("count", "score", "right"):
            self.add_state(name, torch.zeros(bins, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, scores: ArrayLike, ious: ArrayLike) -> None:
        """Add queries: top score (Q,) in 0..1 and IoU of the top box (Q,)."""
        score = torch.as_tensor(np.asarray(scores), dtype=torch.float64).reshape(-1)
        right = (torch.as_tensor(np.asarray(ious), dtype=torch.float64).reshape(-1) > self.threshold).double()
        place = (score * self.bins).long().clamp(0, self.bins - 1)
        self.count.index_add_(0, place, torch.ones_like(score))
        self.score.index_add_(0, place, score)
        self.right.index_add_(0, place, right)

    def compute(self) -> float:
        """The error in 0..1; 0 without queries."""
        total = float(self.count.sum())
        return float((self.right - self.score).abs().sum()) / total if total else 0.0


def f1_at(predicted: ArrayLike, true: ArrayLike, threshold: float) -> float:
    """F1 of one query with any number of targets (Multi3DRefer): 2 TP / (predicted + true), Hungarian matching on IoU.

    Args:
        predicted: (P, 6) boxes. true: (T, 6) boxes. threshold: a match counts if its IoU is greater.

    Returns:
        0..1; without targets 1 if nothing is predicted and 0 otherwise.
    """
    boxes, wanted = (
        np.asarray(predicted, dtype=np.float64).reshape(-1, 6),
        np.asarray(true, dtype=np.float64).reshape(-1, 6),
    )
    if not len(wanted):
        return float(not len(boxes))
    if not len(boxes):
        return 0.0
    iou = box_iou(boxes, wanted)
    rows, columns = linear_sum_assignment(iou, maximize=True)
    return 2 * float((iou[rows, columns] > threshold).sum()) / (len(boxes) + len(wanted))
