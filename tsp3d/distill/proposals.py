"""Boxes of a scene's objects, whatever they are, from a frozen network that was trained on detection alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from omegaconf import OmegaConf
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tsp3d import sparse
from tsp3d.models.config import load_model_config
from tsp3d.models.net import GroundingNet
from tsp3d.sparse import SparseTensor

if TYPE_CHECKING:
    from tsp3d.data.collate import GroundingBatch

SAME_OBJECT = 0.4  # voxels whose boxes overlap by more vote for one object
MIN_OBJECTNESS = 0.05  # of a voxel that votes
VOTERS = 2000  # of a scene
GEOMETRY = 6


@dataclass
class Proposals:
    """Up to N objects of each of B scenes, those that the most voxels agree on first; without gradients."""

    boxes: Tensor
    """(B, N, 6) centre and full size, metres."""
    features: Tensor
    """(B, N, F) of the backbone's three levels, then place in the scene and size."""
    logits: Tensor
    """(B, N, K) of the proposer's classes."""
    objectness: Tensor
    """(B, N) 0..1."""
    mask: Tensor
    """(B, N) bool, False at padding and at what is hardly an object."""


def load_proposer(run: str | Path) -> GroundingNet:
    """The network of a run of ``stage=detection``, in evaluation mode; its grounding head stays untrained and unused.

    Detection is supervised by the boxes and classes of the scenes' objects, but by no sentence.

    Raises:
        ValueError: not the folder of such a run.
    """
    from tsp3d.training.checkpoint import load_weights  # needs accelerate, which inference does without

    folder = Path(run)
    parts = "export/config.json", "averaged.safetensors", "config.yaml"
    config, weights, settings = (folder / name for name in parts)
    if not run or not (config.is_file() and weights.is_file() and settings.is_file()):
        raise ValueError(
            f"distill.proposer={run} is not the folder of a run: train one on objects alone (tools/train.py --config "
            "configs/train/tiny-detection.yaml) and name it, distill.proposer=runs/tiny-detection"
        )
    stage = OmegaConf.select(OmegaConf.load(settings), "stage")
    if stage != "detection":
        raise ValueError(
            f"{settings}: stage is {stage!r}, so sentences' boxes may have trained these weights; "
            "distill.proposer needs a run of stage=detection"
        )
    model = load_model_config(config)
    model.auxiliary.enabled = True
    net = GroundingNet(model)
    load_weights(net, weights, skip=["head."])
    return net.requires_grad_(False).eval()


def feature_dim(proposer: GroundingNet) -> int:
    """F of its proposals' features."""
    return 3 * proposer.config.fusion.dim + GEOMETRY


@torch.no_grad()
def propose(
    proposer: GroundingNet, batch: GroundingBatch, count: int, nms_iou: float, objectness: float, at_least: int
) -> Proposals:
    """Proposals for the scenes of a batch as they are, augmented or not. Only points and colours are read.

    Voxels whose boxes overlap vote together: an object is the mean of its voters' boxes, features and class logits,
    weighted by the probability that they are part of an object.

    Args:
        count: the most proposals of a scene.
        nms_iou: overlap with a better one that drops a proposal.
        objectness: below this a proposal is masked, except the best ``at_least`` of a scene.
    """
    levels, boxes, logits, probability = proposer.detections(batch)
    features = torch.cat([levels[0].feats, *(_at(level, levels[0].coords) for level in levels[1:])], 1)
    found = []
    for scene in range(batch.num_scenes):
        rows = (levels[0].coords[:, 0] == scene).nonzero().squeeze(1)
        rows = rows[probability[rows].argsort(descending=True, stable=True)[:VOTERS]]
        likely = probability[rows] > MIN_OBJECTNESS
        likely[:at_least] = True
        rows = rows[likely]
        weight = (sparse.box_iou_3d(boxes[rows], boxes[rows]) > SAME_OBJECT).to(boxes.dtype)
        weight.fill_diagonal_(1.0)  # a box without volume overlaps nothing
        weight *= probability[rows]
        votes = weight.sum(1)
        told = torch.cat([boxes, features, logits, probability[:, None]], 1)[rows]
        fused = weight @ told / votes[:, None]  # (M, 6 + F + K + 1)
        found.append(fused[sparse.nms_3d(fused[:, :6].contiguous(), votes, nms_iou)[:count]])
    everything = pad_sequence(found, batch_first=True)  # (B, N, 6 + F + K + 1)
    sizes = torch.tensor([len(rows) for rows in found], device=boxes.device)
    boxes, features, logits, certain = everything.split([6, features.shape[1], logits.shape[1], 1], 2)
    place = torch.arange(everything.shape[1], device=boxes.device)
    mask = (place < sizes[:, None]) & ((certain[..., 0] > objectness) | (place < at_least))
    return Proposals(boxes, torch.cat([features, _geometry(boxes, batch)], 2), logits, certain[..., 0], mask)


def _at(level: SparseTensor, fine: Tensor) -> Tensor:
    """Features (N, C) of the voxels of a coarser level that voxels (N, 4) of a finer one lie in."""
    place = torch.div(fine[:, 1:], level.stride, rounding_mode="floor") * level.stride
    rows = sparse.lookup(level, torch.cat([fine[:, :1], place.int()], 1))
    return torch.where(rows[:, None] >= 0, level.feats[rows.clamp(min=0)], 0.0)


def _geometry(boxes: Tensor, batch: GroundingBatch) -> Tensor:
    """Place from the middle of the scene's points (its floor for z), and log of the sizes: (B, N, 6) -> (B, N, 6)."""
    middle = torch.stack([
        torch.cat([(xyz.amin(0) + xyz.amax(0))[:2] / 2, xyz[:, 2].amin()[None]])
        for xyz in batch.xyz.split(torch.bincount(batch.batch, minlength=batch.num_scenes).tolist())
    ])  # (B, 3) # fmt: skip
    return torch.cat([boxes[..., :3] - middle[:, None], boxes[..., 3:].clamp(min=0.01).log()], 2)
