"""What the mask and presence heads are taught."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from tsp3d import sparse

from .decode import best_boxes
from .mask import mask_loss
from .supervision import TrainingOutputs

if TYPE_CHECKING:
    from tsp3d.data.collate import GroundingBatch

    from .net import GroundingNet

MASKS_OF_A_SENTENCE = 3  # boxes of a sentence whose masks a training step looks at
MASK_IOU = 0.25  # a box that overlaps no object by more has no mask to learn


def answer_losses(net: GroundingNet, batch: GroundingBatch, outputs: TrainingOutputs) -> dict[str, Tensor]:
    """Losses "mask" and "presence", as far as the network has these heads."""
    losses, out, weight = {}, outputs.head, net.config.loss
    if net.mask is not None:
        losses["mask"] = weight.mask * _mask_loss(net, batch, outputs)
    if net.presence is not None:
        present = torch.tensor([float(len(t) > 0) for t in batch.targets], device=out.logits.device)
        logit = net.presence(out.fused, out.logits, out.query, out.said)
        losses["presence"] = weight.presence * F.binary_cross_entropy_with_logits(logit, present)
    return losses


def _mask_loss(net: GroundingNet, batch: GroundingBatch, outputs: TrainingOutputs) -> Tensor:
    """Of the best boxes of each sentence, right or wrong: a mask is that of the object which its box is on."""
    assert net.mask is not None
    scene, out = net.mask.prepare(outputs.voxels, outputs.row, outputs.levels), outputs.head
    boxes, features, scenes, objects = [], [], [], []
    for q, b in enumerate(batch.text_scene.tolist()):
        rows = (out.query == q).nonzero().squeeze(1)
        logits, predicted = out.logits[rows].detach(), out.boxes[rows].detach()
        best, _, kept = best_boxes(logits, predicted, MASKS_OF_A_SENTENCE, 0.25, net.config.head.vote_iou)
        iou, hit = sparse.box_iou_3d(best, batch.boxes[b]).max(1)
        good = iou > MASK_IOU
        boxes.append(best[good])
        features.append(out.fused[rows[kept[good]]])
        objects.append(hit[good])
        scenes += [b] * int(good.sum())
    if not scenes:  # of the head's own parameters, the only ones with gradients where it is trained alone
        return torch.stack([parameter.sum() for parameter in net.mask.parameters()]).sum() * 0.0
    box, where = torch.cat(boxes), torch.tensor(scenes, dtype=torch.long, device=batch.xyz.device)
    region = net.mask.region(scene, box, scenes, net.config.mask.train_voxels)
    logits = net.mask(scene, region, box, where, torch.cat(features))
    instance = torch.full_like(scene.color[:, 0], -1, dtype=torch.long)
    instance = instance.scatter_reduce(0, scene.row, batch.instance, "amax")
    target = (instance[region.rows] == torch.cat(objects)[region.query]).to(logits.dtype)
    return mask_loss(logits, target, region.query, len(box))
