"""Text-guided pruning (TSP3D, section 3.2): which voxels of a sentence stay."""

from __future__ import annotations

import torch
from torch import Tensor

from tsp3d import sparse
from tsp3d.sparse import SparseTensor, ops
from tsp3d.sparse.tensor import summable


def inference_mask(probability: Tensor, offsets: Tensor, threshold: float, keep_min: int, keep_max: int) -> Tensor:
    """Voxels above the threshold, always the ``keep_min`` best of each sentence, never more than ``keep_max`` (0: no
    limit). probability (N,), offsets (Q + 1,) as a tensor has them -> (N,) bool."""
    if threshold <= 0:  # every probability is above
        return top_mask(probability, offsets, keep_max or len(probability))
    mask = (probability > threshold) | top_mask(probability, offsets, keep_min)
    return mask & top_mask(probability, offsets, keep_max) if keep_max else mask


def top_mask(scores: Tensor, offsets: Tensor, keep: int) -> Tensor:
    """The ``keep`` best voxels of a sentence, of equal ones the first; scores (N,), offsets (Q + 1,) -> (N,) bool."""
    return ops.top_mask(summable(scores), offsets, keep)  # autocast makes half precision


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
    shift = (fine.stride - coarse.stride) / 2 if half else 0.0  # centre to centre; else it goes by minimum corners
    return sparse.interpolate_over(coarse, fine.coordinate_set, shift)[:, 0]


def features_at(scene_level: SparseTensor, x: SparseTensor, sentence_scene: Tensor) -> Tensor:
    """Backbone features of a scene batch at the voxels of a sentence batch, 0 where the scan has none -> (N, C).

    The sentences' scenes are looked up by index, so that the scene level need not be replicated per sentence.
    """
    coords = x.coords
    if scene_level.batch_size > 1 or x.batch_size > 1:
        coords = torch.cat([sentence_scene[coords[:, 0].long()].to(torch.int32)[:, None], coords[:, 1:]], 1)
    return sparse.align_features(scene_level, coords)
