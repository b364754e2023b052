"""A student's voxels beside a teacher's: what each says of a sentence, compared where both look.

Pruning leaves the two with different voxels, and their grids may differ in size. Voxels are sorted into cells of the
coarser grid (their own, where the sizes are the same) by the place of their centres; a voxel's mass is its share in the
softmax of the sentence's score logits, a cell's that of its voxels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tsp3d.distill.controls import donor_rows, other_sentences
from tsp3d.losses import diou_loss
from tsp3d.models.head import VoxelBoxes

if TYPE_CHECKING:
    from tsp3d.data.collate import GroundingBatch
    from tsp3d.models.net import GroundingNet


@dataclass
class Grid:
    """How a network lays out its level-0 voxels."""

    edge: float
    """Metres."""
    shift: float
    """From a voxel's position in :class:`VoxelBoxes` to its centre, metres."""

    @classmethod
    def of(cls, net: GroundingNet) -> Grid:
        """The grid of a network."""
        edge = 4 * net.vision_backbone.stride * net.config.voxel_size
        return cls(edge, edge / 2 if net.config.compat.no_half_voxel else 0.0)


@dataclass
class Taught:
    """What a teacher says of Q sentences, at N voxels of its own; without gradients."""

    positions: Tensor
    """(N, 3) metres."""
    query: Tensor
    """(N,) int64 sentence of each, ascending."""
    logits: Tensor
    """(N,) whose softmax over a sentence's voxels is where the teacher sees the object."""
    boxes: Tensor
    """(N, 6) centre and full size, metres."""
    confidence: Tensor
    """(N,) 0..1, how much its box is worth."""
    trust: Tensor
    """(Q,) 0..1, weight of the sentence's distribution."""

    def shuffled(self, batch: GroundingBatch) -> Taught:
        """The same voxels, saying what those of a sentence of another scene say; boxes keep their offset from them."""
        donor = other_sentences(batch)
        rows = donor_rows(self.query, donor)
        boxes = self.boxes[rows]
        boxes = torch.cat([boxes[:, :3] - self.positions[rows] + self.positions, boxes[:, 3:]], 1)
        return replace(
            self, logits=self.logits[rows], boxes=boxes, confidence=self.confidence[rows], trust=self.trust[donor]
        )


def segment_logsumexp(values: Tensor, index: Tensor, count: int) -> Tensor:
    """Log of the sum of exp(values) of each group, -inf for an empty one. values (N,), index (N,) int64 -> (count,)."""
    top = values.new_full((count,), float("-inf")).scatter_reduce(0, index, values.detach(), "amax")
    total = values.new_zeros(count).index_add(0, index, (values - top[index]).exp())
    return torch.where(total > 0, total.clamp(min=torch.finfo(total.dtype).tiny).log() + top, float("-inf"))


def best_rows(values: Tensor, index: Tensor, count: int) -> Tensor:
    """Row with the greatest value of each group, -1 for an empty one. (count,) int64."""
    order = values.argsort(stable=True)
    order = order[index[order].argsort(stable=True)]
    ends = torch.bincount(index, minlength=count).cumsum(0)
    filled = ends.diff(prepend=ends.new_zeros(1)) > 0
    best = torch.full((count,), -1, dtype=torch.int64, device=values.device)
    best[filled] = order[ends[filled] - 1]
    return best


def cells(query: Tensor, centers: Tensor, edge: float) -> tuple[Tensor, Tensor]:
    """-> the cell (N,) int64 of each voxel, numbered from 0, and the sentence (M,) of each cell."""
    place = torch.cat([query[:, None], torch.floor(centers / edge).long()], 1)  # (N, 4)
    place = place - place.amin(0)
    key = place[:, 0]
    for axis in range(1, 4):
        key = key * (place[:, axis].max() + 1) + place[:, axis]
    found, cell = key.unique(return_inverse=True)
    sentence = torch.empty_like(found).scatter_(0, cell, query)
    return cell, sentence


def voxel_losses(
    student: VoxelBoxes,
    grid: Grid,
    taught: Taught,
    taught_grid: Grid,
    temperature: float = 1.0,
    union: bool = True,
) -> dict[str, Tensor]:
    """How far the student is from what it is taught; both are zero where it says the same.

    Returns:
        ``score``: KL divergence of the student's distribution over cells from the teacher's, times the squared
        temperature (Hinton et al., 2015, section 2), mean over sentences. Where the student has no voxel there is
        nothing to learn: the teacher's distribution is taken over the cells that the student has, and the sentence
        counts by the mass that they hold. Where the teacher has pruned the voxel away, its mass is zero (``union``), or
        the cell is left out of the student's distribution too.
        ``box``: 1 - DIoU of the student's boxes with the teacher's best box of the cell, weighted by the teacher's mass
        and confidence, mean over sentences.
    """
    sentences, split = len(taught.trust), len(student.query)
    query = torch.cat([student.query, taught.query])
    centers = torch.cat([student.positions + grid.shift, taught.positions + taught_grid.shift])
    if not split or len(query) == split:
        return {"score": student.logits.sum() * 0.0, "box": student.boxes.sum() * 0.0}
    cell, sentence = cells(query, centers, max(grid.edge, taught_grid.edge))
    own, theirs = cell[:split], cell[split:]
    log_own = segment_logsumexp(student.logits.float() / temperature, own, len(sentence))  # (M,)
    log_theirs = segment_logsumexp(taught.logits.float() / temperature, theirs, len(sentence))

    common = (log_own.isfinite() & log_theirs.isfinite()).nonzero().squeeze(1)  # (K,)
    at = sentence[common]
    inside = segment_logsumexp(log_theirs[common], at, sentences)  # (Q,)
    everything = segment_logsumexp(taught.logits.float() / temperature, taught.query, sentences)
    # Sentences without a common cell have a weight of zero.
    held = torch.where(inside.isfinite(), (inside - everything).exp(), 0.0)
    log_theirs = log_theirs[common] - inside[at]
    if union:
        norm = segment_logsumexp(student.logits.float() / temperature, student.query, sentences)
    else:
        norm = segment_logsumexp(log_own[common], at, sentences)
    log_ratio = log_theirs - (log_own[common] - norm[at])
    weight = held[at] * log_theirs.exp()  # (K,)
    score = (taught.trust[at] * weight * log_ratio).sum() * temperature**2 / sentences

    # Each voxel of the student beside the best of the teacher in its cell; a cell's mass is shared by its voxels.
    mass = log_own.new_zeros(len(sentence)).index_copy(0, common, weight)
    mass = mass / torch.bincount(own, minlength=len(sentence)).clamp(min=1)
    best = best_rows(taught.logits, theirs, len(sentence))[own]  # (N,)
    rows = (best >= 0).nonzero().squeeze(1)
    best = best[rows]
    apart = diou_loss(student.boxes[rows].float(), taught.boxes[best].float())
    box = (mass[own[rows]] * taught.confidence[best] * apart).sum() / sentences
    return {"score": score, "box": box}
