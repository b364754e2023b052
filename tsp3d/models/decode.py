"""From scored voxels of a sentence to its boxes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tsp3d import sparse

CANDIDATES = 512  # of the voxels that several boxes are chosen from
VOTERS = 256


def best_boxes(
    logits: Tensor, boxes: Tensor, top_k: int, nms_iou: float, vote_iou: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The best boxes of one sentence, best first, without those that overlap a better one by ``nms_iou``.

    Args:
        logits: (N,) of the sentence's voxels; ``boxes`` (N, 6) centre and full size.
        vote_iou: 0 ranks a box by its own logit. Otherwise boxes that overlap by more agree: a box counts with the
            softmax mass of all that agree with it (what the ranking loss trains), and its place is their mean weighted
            by the squared score (Solovyev et al., "Weighted boxes fusion", 2021). Its score is the geometric mean of
            that mass, which knows the rivals, and the best score among them, which knows the fit.

    Returns:
        boxes (k, 6), scores (k,) in 0..1, and the row (k,) int64 of the voxel that stands for each.
    """
    count = VOTERS if vote_iou > 0 else 1 if top_k == 1 else CANDIDATES
    ordered, order = logits.sort(descending=True, stable=True)
    everything = (logits - ordered[:1]).exp().sum()
    logits, order = ordered[:count], order[:count]
    boxes = boxes.index_select(0, order)
    scores = rank = logits.sigmoid()
    voted = vote_iou > 0 and len(boxes) > 0
    agree = scores
    if voted:
        agree = sparse.box_iou_3d(boxes, boxes).gt_(vote_iou)  # 1 or 0
        agree.fill_diagonal_(1.0)  # a box without volume overlaps nothing
        rank = agree @ (logits - logits[0]).exp() / everything
    if top_k == 1 and len(rank):  # the vote of one box is all that is asked for
        best = rank.argmax(0, keepdim=True)
        order, rank, agree = order[best], rank[best], agree[best]
        if not voted:
            boxes, scores = boxes[best], scores[best]
    if voted:
        voice = agree * scores.clamp(min=torch.finfo(scores.dtype).tiny)
        loudest = voice.amax(1, keepdim=True)
        weight = (voice / loudest).square()  # sums to 1 or more, however low the scores are
        boxes = (weight @ boxes) / weight.sum(1, keepdim=True)
        scores = (loudest[:, 0] * rank).sqrt()
    if top_k == 1:
        return boxes, scores, order
    kept = sparse.nms_3d(boxes, rank, nms_iou)[:top_k]
    return boxes[kept], scores[kept], order[kept]


def several_boxes(boxes: Tensor, scores: Tensor, share: float, nms_iou: float) -> Tensor:
    """Rows (k,) int64, best first, of the boxes that a sentence about several objects means: those that score at least
    ``share`` of the best, and overlap no better one by more than ``nms_iou``. boxes (N, 6), scores (N,)."""
    rows = (
        (scores >= share * scores.max()).nonzero().squeeze(1) if len(scores) else boxes.new_zeros(0, dtype=torch.long)
    )
    return rows[sparse.nms_3d(boxes[rows], scores[rows], nms_iou)]


def logit_of(p: float) -> float:
    """log(p / (1 - p)), finite for every p in 0..1."""
    p = min(max(p, 1e-6), 1 - 1e-6)
    return math.log(p / (1 - p))
