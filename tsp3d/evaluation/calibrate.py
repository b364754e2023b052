"""Fits what a network needs to say "nothing fits" and "these several": its calibration.

Presence is Platt's scaling of the network's logit (Platt, "Probabilistic Outputs for Support Vector Machines", 1999);
the thresholds are those with the best mean F1 over the sentences, by search over a grid.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import expit, logit

from tsp3d.evaluation.metrics import THRESHOLDS, CalibrationError, f1_at
from tsp3d.evaluation.multi import KINDS, MultiTargetF1
from tsp3d.evaluation.protocols import SceneSource, ground_scenes
from tsp3d.evaluation.report import groups_table
from tsp3d.models.config import CalibrationConfig
from tsp3d.models.decode import several_boxes
from tsp3d.models.net import SEVERAL_CANDIDATES, SEVERAL_LOOSE_IOU, GroundingNet

SHARES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
IOUS = (0.1, 0.25, 0.4)
PRESENCE_STEPS = 40


@dataclass
class Answered:
    """What a network answered to one sentence, before any threshold."""

    kind: str
    """Its ``eval_type``."""
    logit: float
    """Of presence, uncalibrated."""
    boxes: np.ndarray
    """(k, 6)"""
    scores: np.ndarray
    """(k,)"""
    true: np.ndarray
    """(m, 6) boxes of what it means."""

    @property
    def present(self) -> bool:
        """Whether it means anything."""
        return len(self.true) > 0


class _Loose:
    """A network asked for more boxes than it would give."""

    def __init__(self, net: GroundingNet) -> None:
        self.encode, self.net = net.encode, net

    def ground(self, encoded: Any, texts: list[str], top_k: int = 1) -> Any:
        return self.net.ground(encoded, texts, top_k=top_k, nms_iou=SEVERAL_LOOSE_IOU)


def answers(net: GroundingNet, dataset: SceneSource, scenes: Iterable[int], queries: int = 0) -> list[Answered]:
    """The network's answers to the scenes' sentences that have an ``eval_type``, at most ``queries`` of each scene."""
    kept, net.config.calibration = net.config.calibration, CalibrationConfig()
    found = []
    try:
        for group in ground_scenes(
            _Loose(net), dataset, lambda query: query.meta.get("eval_type") in KINDS, scenes=scenes,
            queries_per_scene=queries, batch=16, top_k=SEVERAL_CANDIDATES, points=0, color=True, device=net.device,
            progress=None,
        ):  # fmt: skip
            for sample, query, out, _ in group:
                true = sample.boxes[list(query.targets)].astype(np.float64).reshape(-1, 6)
                boxes, scores = (t.detach().float().cpu().numpy() for t in (out.boxes, out.scores))
                raw = float(logit(np.clip(out.presence, 1e-9, 1 - 1e-9)))
                found.append(Answered(query.meta["eval_type"], raw, boxes, scores, true))
    finally:
        net.config.calibration = kept
    return found


def fit(found: list[Answered]) -> CalibrationConfig:
    """The calibration of these answers.

    Raises:
        ValueError: no sentence means nothing, or none anything: there is nothing to tell apart.
    """
    x, y = np.array([a.logit for a in found]), np.array([a.present for a in found])
    if y.all() or not y.any():
        raise ValueError(
            f"{int(y.sum())} of {len(y)} sentences mean an object: a calibration needs both kinds; for generated rooms "
            "add sentences with tools/make_synth.py --sets"
        )

    def loss(values: np.ndarray) -> float:
        z = values[0] * x + values[1]
        return float(np.logaddexp(0, np.where(y, -z, z)).mean() + 1e-4 * (values**2).sum())

    scale, bias = minimize(loss, np.array([1.0, 0.0]), method="L-BFGS-B", bounds=[(0, None), (None, None)]).x
    calibration = CalibrationConfig(float(scale), float(bias))
    # What is taken of a sentence that means something does not depend on presence, and is chosen first.
    some = [a for a in found if a.present]
    pairs = [(share, iou) for share in SHARES for iou in IOUS]
    means = [np.mean([_f1(a, _chosen(a, *pair)) for a in some]) for pair in pairs]
    share, iou = pairs[int(np.argmax(means))]
    given = np.array([_f1(a, _chosen(a, share, iou)) if a.present else 0.0 for a in found])
    presence = expit(scale * x + bias)
    levels = [0.0, *np.quantile(presence, np.linspace(0, 1, PRESENCE_STEPS + 1))[1:-1]]
    totals = [np.where(presence >= level, given, ~y).mean() for level in levels]
    return replace(
        calibration, min_presence=float(levels[int(np.argmax(totals))]), several_share=share, several_iou=iou
    )


def measures(found: list[Answered], calibration: CalibrationConfig) -> dict[str, Any]:
    """F1 by kind of sentence (``groups``), calibration error and area under the ROC curve of presence."""
    metric, error = MultiTargetF1(sync_on_compute=False), CalibrationError(sync_on_compute=False)
    presence = expit(calibration.scale * np.array([a.logit for a in found]) + calibration.bias)
    for a, p in zip(found, presence, strict=True):
        rows = _chosen(a, calibration.several_share, calibration.several_iou) if p >= calibration.min_presence else []
        metric.update([[f1_at(a.boxes[rows], a.true, t) for t in THRESHOLDS]], [a.kind])
    y = np.array([a.present for a in found])
    error.update(presence, y.astype(float))
    pairs = presence[y][:, None] - presence[~y][None]
    area = float(((pairs > 0) + 0.5 * (pairs == 0)).mean()) if pairs.size else float("nan")
    return {"groups": metric.compute(), "presence_calibration_error": error.compute(), "presence_auc": area}


def _chosen(a: Answered, share: float, iou: float) -> np.ndarray:
    return several_boxes(torch.from_numpy(a.boxes), torch.from_numpy(a.scores), share, iou).numpy()


def _f1(a: Answered, rows: np.ndarray) -> float:
    return float(np.mean([f1_at(a.boxes[rows], a.true, t) for t in THRESHOLDS]))


def describe(
    model: str, kinds: Mapping[str, CalibrationConfig], reports: Mapping[str, dict[str, Any]], sentences: int
) -> str:
    """Markdown of what :func:`measures` says of each of some calibrations; that called "after" is the one chosen."""
    chosen = kinds["after"]
    parts = [f"# Calibration\n\n{model}, fitted on {chosen.fitted_on}\n"]
    parts.append("".join(f"- {name}: {value}\n" for name, value in asdict(chosen).items()))
    for name, report in reports.items():
        error, area = report["presence_calibration_error"], report["presence_auc"]
        threshold = kinds[name].min_presence
        parts.append(f"## {name.capitalize()}: min_presence {threshold:.2f}, on the other {sentences} sentences\n")
        parts.append(f"Presence: expected calibration error {error:.3f}, area under the ROC curve {area:.3f}\n")
        parts.append(groups_table(report["groups"]))
    return "\n".join(parts)
