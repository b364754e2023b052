"""Training-only supervision of the backbone from every object of a scene, without a referring sentence.

Voxels are classified by their alignment with the text encoder's features of the class names, so that voxel and word
features share a space before the attention stacks see them; boxes and colours are regressed for every labelled voxel.
None of it runs at inference.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsp3d import sparse
from tsp3d.losses import diou_loss, focal_loss
from tsp3d.sparse import SparseTensor

from .config import AuxiliaryConfig
from .pruning import positions

BACKGROUND_WEIGHT = 0.2  # walls and floor are most of the voxels
COLOR_WEIGHT = 0.5


def voxel_instances(level: SparseTensor, point_coords: Tensor, instance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which objects' points lie in each voxel.

    Args:
        level: voxels at some tensor stride.
        point_coords: (P, 4) base-voxel coordinates [batch, x, y, z] of the points.
        instance: (P,) object index, -1 for none.

    Returns:
        rows (K,), instances (K,), counts (K,): each occupied (voxel, object) pair once, with its number of points.
    """
    coords = point_coords.clone()
    coords[:, 1:] = torch.div(coords[:, 1:], level.stride, rounding_mode="floor") * level.stride
    row = sparse.lookup(level, coords)
    known = row >= 0
    span = int(instance.max()) + 2 if len(instance) else 1
    pairs, counts = torch.unique(row[known] * span + instance[known] + 1, return_counts=True)
    return torch.div(pairs, span, rounding_mode="floor"), pairs % span - 1, counts


def majority(rows: Tensor, instances: Tensor, counts: Tensor, size: int) -> Tensor:
    """The object with the most points in each voxel, -1 where that is none -> (size,) int64."""
    label = torch.full((size,), -1, dtype=torch.long, device=rows.device)
    order = counts.argsort(stable=True)
    # One writer per voxel, for determinism: the last pair of each voxel in ascending count.
    order = order[rows[order].argsort(stable=True)]
    last = torch.ones(len(order), dtype=torch.bool, device=rows.device)
    last[:-1] = rows[order][1:] != rows[order][:-1]
    label[rows[order[last]]] = instances[order[last]]
    return label


class AuxiliaryHeads(nn.Module):
    """Per-level projections to the shared space of class prompts, and box regressions."""

    def __init__(self, config: AuxiliaryConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        self.align = nn.ModuleList(nn.Linear(dim, config.dim) for _ in range(3))
        self.align_color = nn.Linear(dim, config.dim)
        # Plain classifiers beside the alignment: they learn first, while prompts of like words still lie close.
        self.classify = nn.ModuleList(nn.Linear(dim, len(config.classes)) for _ in range(3))
        self.classify_color = nn.Linear(dim, len(config.colors))
        self.boxes = nn.ModuleList(nn.Linear(dim, 6) for _ in range(2))
        self.prompt = nn.Linear(dim, config.dim)
        self.scale = nn.Parameter(torch.full((4,), math.log(10.0)))
        self.bias = nn.Parameter(torch.full((3,), -4.0))
        self.background = nn.Parameter(torch.zeros(()))

    def _logits(self, x: Tensor, prompts: Tensor, which: int) -> Tensor:
        """Scaled cosine of (N, A) and (M, A) -> (N, M)."""
        return F.normalize(x, dim=1) @ F.normalize(prompts, dim=1).T * self.scale[which].exp().clamp(max=50)

    def text_logits(self, sentence: Tensor, classes: Tensor) -> Tensor:
        """Alignment of sentence tokens (Q, C) with class prompts (K, C) -> (Q, K)."""
        return self._logits(self.prompt(sentence), self.prompt(classes), 3)

    def class_logits(self, index: int, feats: Tensor, classes: Tensor) -> Tensor:
        """Logits of a level's voxels (N, C) for class prompts that :attr:`prompt` projected (K, A) -> (N, K)."""
        return self._logits(self.align[index](feats), classes, index) + self.classify[index](feats)

    def box_at(self, index: int, feats: Tensor, at: Tensor) -> Tensor:
        """Box of the object that each voxel (N, C) at ``at`` (N, 3, metres) is part of -> (N, 6)."""
        raw = self.boxes[index](feats)
        return torch.cat([at + raw[:, :3], raw[:, 3:].clamp(-5, 4).exp()], 1)

    def detect(self, level: SparseTensor, class_prompts: Tensor, voxel_size: float) -> tuple[Tensor, Tensor, Tensor]:
        """What each level-0 voxel says of the object that it is part of.

        Returns:
            boxes (N, 6) in metres, class logits (N, K), and the probability (N,) that there is an object.
        """
        logits = self.class_logits(0, level.feats, self.prompt(class_prompts))
        background = torch.cat([logits, self.background.expand(len(logits), 1)], 1).softmax(1)[:, -1]
        return self.box_at(0, level.feats, positions(level, voxel_size)), logits, 1 - background

    def forward(
        self, levels: list[SparseTensor], point_coords: Tensor, instance: Tensor, boxes: list[Tensor],
        classes: list[Tensor], colors: list[Tensor], class_prompts: Tensor, color_prompts: Tensor, voxel_size: float,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Losses "semantic", "color" and "dense_box" over B scenes; prompts (K, C) are projected sentence tokens."""
        device = class_prompts.device
        sizes = torch.tensor([len(b) for b in boxes], device=device)
        first = sizes.cumsum(0) - sizes  # (B,) row of each scene's first object
        # The row at the end, which no voxel is of, is there for batches without objects.
        all_boxes = torch.cat([*boxes, boxes[0].new_zeros(1, 6)]).to(device)
        all_classes, all_colors = (
            torch.cat([*rows, rows[0].new_full((1,), -1)]).to(device) for rows in (classes, colors)
        )
        offset = first[point_coords[:, 0].long()]
        instance = torch.where(instance >= 0, instance + offset, instance)
        prompts, color_space = self.prompt(class_prompts), self.prompt(color_prompts)
        semantic, color, box = [], class_prompts.new_zeros(()), []
        for index, level in enumerate(levels):
            rows, objects, counts = voxel_instances(level, point_coords, instance)
            label = majority(rows, objects, counts, len(level.feats))
            object_class = torch.where(label >= 0, all_classes[label.clamp(min=0)], -1)
            logits = self.class_logits(index, level.feats, prompts)
            # Small objects count as much as large ones do by the square root of their voxels.
            size = torch.bincount(label[label >= 0], minlength=len(all_boxes)).clamp(min=1)
            weight = size[label.clamp(min=0)].float().rsqrt()
            if index == 0:
                full = torch.cat([logits, self.background.expand(len(logits), 1)], 1)
                target = torch.where(object_class >= 0, object_class, logits.shape[1])
                balanced = torch.where(
                    label >= 0, weight, BACKGROUND_WEIGHT * weight[label >= 0].mean().nan_to_num(1.0)
                )
                balanced = torch.where((label >= 0) & (object_class < 0), 0.0, balanced)
                ce = F.cross_entropy(full, target, reduction="none", label_smoothing=0.05)
                semantic.append((ce * balanced).sum() / balanced.sum().clamp(min=1e-6))
                tone = torch.where(label >= 0, all_colors[label.clamp(min=0)], -1)
                with_tone = tone >= 0
                if bool(with_tone.any()):
                    feats = level.feats[with_tone]
                    tone_logits = self._logits(self.align_color(feats), color_space, 0) + self.classify_color(feats)
                    ce = F.cross_entropy(tone_logits, tone[with_tone], reduction="none")
                    color = (ce * weight[with_tone]).sum() / weight[with_tone].sum()
            else:
                present = torch.zeros_like(logits)
                known = (objects >= 0) & (counts >= 3)
                known &= torch.where(objects >= 0, all_classes[objects.clamp(min=0)], -1) >= 0
                present[rows[known], all_classes[objects[known]]] = 1.0
                if bool(known.any()) or not bool((objects >= 0).any()):  # objects without a class are no background
                    loss = focal_loss(logits + self.bias[index], present)
                    semantic.append(loss.sum() / present.sum().clamp(min=1.0))
            if index < 2:
                labelled = (label >= 0).nonzero().squeeze(1)
                if len(labelled):
                    at = positions(level, voxel_size)[labelled]
                    predicted = self.box_at(index, level.feats[labelled], at)
                    loss = diou_loss(predicted, all_boxes[label[labelled]])
                    box.append((loss * weight[labelled]).sum() / weight[labelled].sum())
        dense_box = torch.stack(box).mean() if box else class_prompts.new_zeros(())
        return {"semantic": torch.stack(semantic).mean(), "color": COLOR_WEIGHT * color, "dense_box": dense_box}
