"""Assignment and losses of the base model (TSP3D, section 3.4, and the release's behaviour)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

MIN_POSITIVES = 4  # voxels that a box takes however small it is


def focal_loss(logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Sigmoid focal loss per element (Lin et al., ICCV 2017, eq. 5). logits and targets (...) -> (...)."""
    p = logits.sigmoid()
    ce = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    p_t = p * targets + (1 - p) * (1 - targets)
    return (alpha * targets + (1 - alpha) * (1 - targets)) * (1 - p_t) ** gamma * ce


def quality_focal_loss(logits: Tensor, quality: Tensor, gamma: float = 2.0) -> Tensor:
    """Quality focal loss per element (Li et al., NeurIPS 2020, eq. 6): targets are an IoU in [0, 1]. (...) -> (...)."""
    ce = F.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    return (logits.sigmoid() - quality).abs() ** gamma * ce


def paired_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of axis-aligned boxes (N, 6) and (N, 6), centre and full size -> (N,)."""
    low = torch.maximum(a[:, :3] - a[:, 3:] / 2, b[:, :3] - b[:, 3:] / 2)
    high = torch.minimum(a[:, :3] + a[:, 3:] / 2, b[:, :3] + b[:, 3:] / 2)
    inter = (high - low).clamp(min=0).prod(1)
    union = a[:, 3:].prod(1) + b[:, 3:].prod(1) - inter
    return inter / union.clamp(min=1e-9)


def diou_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """1 - IoU + (centre distance / diagonal of the enclosing box)^2 (Zheng et al., AAAI 2020). (N, 6) each -> (N,)."""
    low = torch.minimum(predicted[:, :3] - predicted[:, 3:] / 2, target[:, :3] - target[:, 3:] / 2)
    high = torch.maximum(predicted[:, :3] + predicted[:, 3:] / 2, target[:, :3] + target[:, 3:] / 2)
    diagonal = ((high - low) ** 2).sum(1).clamp(min=1e-9)
    distance = ((predicted[:, :3] - target[:, :3]) ** 2).sum(1)
    return 1 - paired_iou(predicted, target) + distance / diagonal


def rank_loss(logits: Tensor, query: Tensor, positive: Tensor, queries: int) -> Tensor:
    """Minus the log of the softmax mass that each query's positives have among all its voxels, mean over the queries
    that have a positive. logits (N,), query (N,) int64 in [0, queries), positive (N,) bool -> scalar."""
    # Shifted by a constant per query, which a softmax does not see, so that exp() stays finite.
    top = torch.full((queries,), float("-inf"), device=logits.device, dtype=logits.dtype)
    top = top.scatter_reduce(0, query, logits.detach(), "amax")
    mass = (logits - top[query]).exp()
    everything = mass.new_zeros(queries).index_add(0, query, mass)
    meant = mass.new_zeros(queries).index_add(0, query, mass * positive)
    rows = torch.zeros(queries, dtype=torch.bool, device=logits.device).index_fill(0, query[positive], True)
    if not bool(rows.any()):
        return logits.sum() * 0.0
    return (everything[rows].log() - meant[rows].clamp(min=1e-12).log()).mean()


def nearest_assignment(
    positions: Tensor, position_query: Tensor, boxes: Tensor, box_query: Tensor, positives: int, margin: float = 0.0
) -> Tensor:
    """Index of the box that each voxel is responsible for, or -1: a box takes the voxels of its query nearest to its
    centre, a voxel that several boxes take goes to the nearest of them.

    Args:
        positions: (N, 3) metres, ``position_query`` (N,) the query each belongs to, ascending.
        boxes: (M, 6), ``box_query`` (M,).
        positives: voxels that a box takes.
        margin: if positive, voxels that lie outside of the box by more (m) are not taken, except the nearest four: a
            small object must not claim what lies around it.

    Returns:
        (N,) int64.
    """
    assigned = torch.full((len(positions),), -1, dtype=torch.long, device=positions.device)
    best = torch.full((len(positions),), float("inf"), device=positions.device)
    queries = int(max(position_query.max(), box_query.max())) + 1 if len(positions) and len(boxes) else 0
    ends = torch.bincount(position_query, minlength=queries).cumsum(0).tolist()
    for m, query in enumerate(box_query.tolist() if queries else []):
        begin, end = (ends[query - 1] if query else 0), ends[query]
        if begin == end:
            continue
        distance = (positions[begin:end] - boxes[m, :3]).norm(dim=1)
        near, index = distance.topk(min(positives, end - begin), largest=False)
        index = index + begin
        if margin > 0:
            outside = ((positions[index] - boxes[m, :3]).abs() - boxes[m, 3:] / 2).amax(1)
            fits = (outside <= margin) | (torch.arange(len(index), device=index.device) < MIN_POSITIVES)
            index, near = index[fits], near[fits]
        closer = near < best[index]
        index, near = index[closer], near[closer]
        best[index] = near
        assigned[index] = m
    return assigned


def inside_cubes(
    positions: Tensor, position_query: Tensor, centers: Tensor, center_query: Tensor, side: float
) -> Tensor:
    """Which voxels lie in a cube of the given side (m) around any of their own query's centres -> (N,) bool."""
    inside = torch.zeros(len(positions), dtype=torch.bool, device=positions.device)
    if not len(centers) or not len(positions):
        return inside
    queries = int(max(position_query.max(), center_query.max())) + 1
    counts = torch.bincount(center_query, minlength=queries)
    padded = torch.full((queries, int(counts.max()), 3), float("inf"), device=positions.device)
    order = center_query.argsort(stable=True)
    rank = torch.arange(len(order), device=positions.device) - (counts.cumsum(0) - counts)[center_query[order]]
    padded[center_query[order], rank] = centers[order].to(padded.dtype)
    for j in range(padded.shape[1]):
        inside |= ((positions - padded[position_query, j]).abs() <= side / 2).all(1)
    return inside
