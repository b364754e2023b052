"""What the network is taught by the sentences' boxes: regions, assignment and losses (TSP3D, sections 3.2 to 3.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tsp3d import losses as L
from tsp3d.sparse import SparseTensor

from .config import HeadConfig, ModelConfig
from .head import Focus, HeadOutput, VoxelBoxes, VoxelLogits
from .text import TextFeatures

if TYPE_CHECKING:
    from tsp3d.data.collate import GroundingBatch

MIN_INSIDE = 8  # a sentence without a target must not outweigh those that have one


@dataclass
class Targets:
    """The boxes that a batch's sentences mean, and the regions to keep."""

    focus: Focus
    boxes: Tensor
    """(M, 6) centre and full size in metres."""
    box_query: Tensor
    """(M,) int64, sentence of each."""


@dataclass
class TrainingOutputs:
    """What a training step computes on the way to its losses."""

    voxels: SparseTensor
    """Stride 1, with the mean xyz (m) and colour of its points."""
    row: Tensor
    """(P,) int64, voxel of each point."""
    levels: list[SparseTensor]
    """Voxel features of levels 0, 1, 2 over the batch's scenes, C channels each."""
    text: TextFeatures
    """Token features before the attention stacks."""
    head: HeadOutput
    """Level-0 voxels of the sentences with their boxes and logits."""
    targets: Targets | None
    """None where the network was not told the boxes."""
    assigned: Tensor | None
    """(N,) int64, row in ``targets.boxes`` that each voxel of ``head`` is responsible for, or -1."""


def targets_of(batch: GroundingBatch) -> Targets:
    """The target boxes, and around which centres voxels are to be kept."""
    device = batch.xyz.device
    scenes = batch.text_scene.tolist()

    def gather(chosen: list[Tensor]) -> tuple[Tensor, Tensor]:
        rows = [batch.boxes[s][c.to(batch.boxes[s].device)] for s, c in zip(scenes, chosen, strict=True)]
        query = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor([len(r) for r in rows]))
        return torch.cat(rows).to(device), query.to(device)

    boxes, box_query = gather(batch.targets)
    region, region_query = gather([torch.cat([t, a]) for t, a in zip(batch.targets, batch.anchors, strict=True)])
    everything, scene_query = gather([torch.arange(len(batch.boxes[s])) for s in scenes])
    focus = Focus(boxes[:, :3], box_query, region[:, :3], region_query, everything[:, :3], scene_query)
    return Targets(focus, boxes, box_query)


def assign(config: HeadConfig, out: VoxelBoxes, targets: Targets) -> Tensor:
    """Row of ``targets.boxes`` that each voxel is responsible for, or -1. (N,) int64."""
    boxes, box_query = targets.boxes, targets.box_query
    return L.nearest_assignment(out.positions, out.query, boxes, box_query, config.positives, config.positive_margin)


def head_losses(
    config: ModelConfig, out: VoxelBoxes, assigned: Tensor, boxes: Tensor, sentences: int
) -> dict[str, Tensor]:
    """Losses "box", "score" and, where it has a weight, "rank"; ``assigned`` (N,) as :func:`assign` gives it."""
    positive = (assigned >= 0).nonzero().squeeze(1)
    count = max(len(positive), 1)
    target = torch.zeros_like(out.logits)
    if len(positive):
        predicted, true = out.boxes[positive], boxes[assigned[positive]]
        box = L.diou_loss(predicted, true).mean()
        quality = (1 + L.paired_iou(predicted.detach(), true)) / 2 if config.head.quality else 1.0
        target[positive] = quality
    else:
        box = out.boxes.sum() * 0.0
    per_voxel = (L.quality_focal_loss if config.head.quality else L.focal_loss)(out.logits, target)
    weight = config.loss
    losses = {"box": weight.box * box, "score": weight.score * per_voxel.sum() / count}
    if weight.rank > 0:
        losses["rank"] = weight.rank * L.rank_loss(out.logits, out.query, assigned >= 0, sentences)
    return losses


def pruning_losses(config: ModelConfig, out: HeadOutput, focus: Focus, sentences: int) -> dict[str, Tensor]:
    """Losses "keep1" and "keep2": whether a voxel lies where something must be kept."""
    pruning = config.pruning
    losses = {}
    for level, kept in out.keep.items():
        centers, query = (focus.region_centers, focus.region_query)
        if level == 2 and pruning.scene_level:
            centers, query = focus.scene_centers, focus.scene_query
        inside = L.inside_cubes(kept.positions, kept.query, centers, query, pruning.cube_sides[level - 1]).float()
        # Focal over the number of voxels inside, per sentence, a third per level, mean over sentences.
        per_voxel = L.focal_loss(kept.logits, inside)
        total = per_voxel.new_zeros(sentences).index_add(0, kept.query, per_voxel)
        number = per_voxel.new_zeros(sentences).index_add(0, kept.query, inside)
        number = number.clamp(min=MIN_INSIDE)
        losses[f"keep{level}"] = config.loss.keep * (total / number).mean() / 3
    return losses


def completion_loss(config: ModelConfig, found: VoxelLogits, targets: Targets) -> Tensor:
    """Whether a candidate of the completion is among the voxels nearest to a box."""
    positives = config.completion.positives
    assigned = L.nearest_assignment(found.positions, found.query, targets.boxes, targets.box_query, positives)
    target = (assigned >= 0).to(found.logits.dtype)
    return config.loss.completion * L.focal_loss(found.logits, target).sum() / target.sum().clamp(min=1)
