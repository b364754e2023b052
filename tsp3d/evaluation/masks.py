"""Masks at the level of points, as referring segmentation measures them: mean IoU over queries, and the share of
queries whose mask has IoU > t (Huang et al., "Text-Guided Graph Neural Networks for Referring 3D Instance
Segmentation", AAAI 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tsp3d.data.sample import SceneSample
from tsp3d.evaluation.metrics import THRESHOLDS

KINDS = {"mask_iou": "predicted mask", "inside_iou": "all points in the box"}
"""Field of a query's row to what it is the IoU of; the second is what a mask has to beat."""


def mask_iou(predicted: np.ndarray, true: np.ndarray) -> float:
    """IoU of two masks (N,) bool; 0 where both are empty."""
    union = int((predicted | true).sum())
    return int((predicted & true).sum()) / union if union else 0.0


def points_inside(xyz: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Which points (N, 3) lie in a box (6,), its faces included -> (N,) bool."""
    return np.all(np.abs(xyz - box[:3]) <= box[3:6] / 2, axis=1)


def mask_row(mask: np.ndarray, box: np.ndarray, sample: SceneSample, target: int) -> dict[str, float]:
    """IoU of a mask (N,) bool, and of the points in the box (6,) that it is of, with the points of the target."""
    true = sample.instance == target
    return {"mask_iou": mask_iou(mask, true), "inside_iou": mask_iou(points_inside(sample.xyz, box), true)}


def mask_measures(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """For each of :data:`KINDS` ``miou``, ``acc@0.25`` and ``acc@0.5`` in percent, over all rows, of which those
    without a box count 0. Empty where no row has a mask."""
    if not any("mask_iou" in row for row in rows):
        return {}
    result = {}
    for name, title in KINDS.items():
        ious = np.array([row.get(name, 0.0) for row in rows])
        shares = {f"acc@{t:g}": 100 * float((ious > t).mean()) for t in THRESHOLDS}
        result[title] = {"miou": 100 * float(ious.mean()), **shares}
    return result
