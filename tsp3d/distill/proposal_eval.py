"""What proposals alone are worth: the floor and the ceiling of any method that chooses among them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from tsp3d.data.augment import AugmentConfig
from tsp3d.data.collate import collate
from tsp3d.data.loader import DataConfig, TrainingSamples
from tsp3d.distill.proposals import propose
from tsp3d.evaluation.metrics import THRESHOLDS, box_iou
from tsp3d.evaluation.protocols import spread

if TYPE_CHECKING:
    from tsp3d.data.annotated import SceneSet
    from tsp3d.distill.coarse_to_fine import CoarseToFineConfig
    from tsp3d.models.net import GroundingNet


def chance_accuracy(ious: Iterable[ArrayLike], thresholds: Sequence[float] = THRESHOLDS) -> dict[str, float]:
    """Accuracy in percent of a listener who chooses a proposal at random, and of one who cannot err.

    Args:
        ious: for each sentence, the IoU of each of its scene's proposals with the target; empty where there is none.

    Returns:
        ``chance@t``: expected, of a proposal chosen at random. ``best@t``: of the best proposal. ``sentences``.
    """
    rows = [np.asarray(values, dtype=np.float64).reshape(-1) for values in ious]
    result: dict[str, float] = {"sentences": len(rows)}
    for t in thresholds:
        shares = [(values > t).mean() if len(values) else 0.0 for values in rows]
        result[f"chance@{t:g}"] = 100 * float(np.mean(shares)) if rows else 0.0
        result[f"best@{t:g}"] = 100 * float(np.mean([share > 0 for share in shares])) if rows else 0.0
    return result


def evaluate_proposals(
    proposer: GroundingNet, scenes: SceneSet, config: CoarseToFineConfig, limit: int = 0, queries: int = 16
) -> dict[str, float]:
    """:func:`chance_accuracy` of the proposals of whole scenes, for sentences that mean one object.

    Args:
        config: how many proposals, and which.
        limit: scenes, evenly spread; 0 for all. queries: at most so many sentences of each; 0 for all.

    Returns:
        Also ``proposals``, their mean number in a scene.
    """
    plain = DataConfig(
        augment=AugmentConfig(enabled=False), points_per_scene=0, sentences_per_scene=queries or sys.maxsize,
        detection_probability=0, mirror_probability=0,
    )  # fmt: skip
    samples = TrainingSamples(scenes, plain)
    ious, counts = [], []
    for index in spread(len(scenes), limit):
        batch = collate([samples[0, index]])
        limits = config.proposals, config.nms_iou, config.objectness, config.candidates
        found = propose(proposer, batch.to(proposer.device), *limits)
        boxes = found.boxes[0][found.mask[0]].cpu()
        counts.append(len(boxes))
        ious += [box_iou(boxes, batch.boxes[0][meant])[:, 0] for meant in batch.targets if len(meant) == 1]
    return {**chance_accuracy(ious), "proposals": float(np.mean(counts))}
