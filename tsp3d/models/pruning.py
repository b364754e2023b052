"""Text-guided pruning (TSP3D, section 3.2): which voxels of a sentence stay."""

from __future__ import annotations

import torch
from torch import Tensor

from tsp3d import sparse
from tsp3d.sparse import SparseTensor


def rank_in_query(scores: Tensor, counts: Tensor) -> Tensor:
    """Rank (0 = best) of each voxel in its sentence, ties by row. scores (N,), counts (Q,) rows each -> (N,) int64."""
    order = scores.argsort(descending=True, stable=True)
    if len(counts) == 1:
        return torch.empty_like(order).index_copy_(0, order, torch.arange(len(order), device=scores.device))
    query = torch.repeat_interleave(torch.arange(len(counts), device=scores.device), counts)
    order = order[query[order].argsort(stable=True)]
    starts = counts.cumsum(0) - counts
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=scores.device) - starts[query]
    return rank


def inference_mask(probability: Tensor, counts: Tensor, threshold: float, keep_min: int, keep_max: int) -> Tensor:
    """Voxels above the threshold, always the ``keep_min`` best of each sentence, never more than ``keep_max`` (0: no
    limit). probability (N,), counts (Q,) -> (N,) bool."""
    rank = rank_in_query(probability, counts)
    mask = (probability > threshold) | (rank < keep_min)
    return mask & (rank < keep_max) if keep_max else mask


def top_mask(scores: Tensor, counts: Tensor, keep: int) -> Tensor:
    """The ``keep`` best voxels of each sentence. scores (N,), counts (Q,) -> (N,) bool."""
    return rank_in_query(scores, counts) < keep


def scattered_scores(x: SparseTensor) -> Tensor:
    """Score (N,) of each voxel that is a hash of its place alone: to choose as if at random, the same in every run."""
    mixed = torch.zeros_like(x.batch, dtype=torch.int64)
    for axis in (x.coords[:, 1:].long() // x.stride).unbind(1):
        mixed = mixed + axis + 0x9E3779B9
        for _ in range(2):  # multiplications and shifts, as integer hashes go
            mixed = ((mixed >> 16) ^ mixed) * 0x45D9F3B & 0xFFFFFFFF
        mixed = (mixed >> 16) ^ mixed
    return (mixed & 0xFFFFFF).float()


def positions(x: SparseTensor, voxel_size: float, half: bool = True) -> Tensor:
    """Voxel centres (or minimum corners, ``half=False``) in metres, (N, 3)."""
    return (x.coords[:, 1:].float() + (x.stride / 2 if half else 0.0)) * voxel_size


def scores_at(coarse: SparseTensor, fine: SparseTensor, half: bool = True) -> Tensor:
    """Score of a coarser level (one channel) interpolated at the voxels of a finer one -> (N_fine,)."""
    points = fine.coords.float()
    if half:  # centre to centre; the operator's positions are minimum corners
        points[:, 1:] += (fine.stride - coarse.stride) / 2
    return sparse.interpolate(coarse, points)[:, 0]


def features_at(scene_level: SparseTensor, x: SparseTensor, sentence_scene: Tensor) -> Tensor:
    """Backbone features of a scene batch at the voxels of a sentence batch, 0 where the scan has none -> (N, C).

    The sentences' scenes are looked up by index, so that the scene level need not be replicated per sentence.
    """
    coords = torch.cat([sentence_scene[x.coords[:, 0].long()].to(torch.int32)[:, None], x.coords[:, 1:]], 1)
    return sparse.align_features(scene_level, coords)
