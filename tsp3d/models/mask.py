"""The mask head: which points of a scan belong to the object that a box was predicted for.

Every voxel in the slightly enlarged box gets a logit from the backbone's features at its place, its colour and where in
the box it lies, conditioned on the fused feature of the head voxel that predicted the box by scale and shift (Perez et
al., "FiLM", AAAI 2018). The backbone's features are projected once a scene, so that a sentence pays for the voxels of
its own box alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsp3d import sparse
from tsp3d.sparse import SparseTensor

from .config import MaskConfig

POINT_CHANNELS = 12


@dataclass
class MaskScene:
    """What the mask head needs of B encoded scenes: N voxels and the projected features of levels 0 and 1."""

    xyz: Tensor
    """(3, N) metres, the mean of each voxel's points; contiguous by axis, since boxes are searched by axis."""
    color: Tensor
    """(N, 3) as the network reads colours."""
    starts: list[int]
    """B + 1 rows: scene b has the voxels from starts[b] to starts[b + 1]."""
    row: Tensor
    """(P,) int64, voxel of each point."""
    levels: list[SparseTensor]
    """H channels and a last one of ones."""


@dataclass
class Region:
    """The voxels of Q enlarged boxes, M in all."""

    rows: Tensor
    """(M,) int64 voxel."""
    query: Tensor
    """(M,) int64 box, ascending."""


class MaskHead(nn.Module):
    def __init__(self, config: MaskConfig, dim: int, voxel_size: float) -> None:
        super().__init__()
        self.config, self.voxel_size = config, voxel_size
        hidden = config.hidden
        self.project = nn.ModuleList(nn.Linear(dim, hidden, bias=False) for _ in range(2))
        self.point = nn.Linear(POINT_CHANNELS, hidden)
        self.condition = nn.Linear(dim + 3, 2 * hidden)
        self.pooled = nn.Linear(hidden, hidden, bias=False)
        self.mix = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, 1)

    def prepare(self, voxels: SparseTensor, row: Tensor, levels: list[SparseTensor]) -> MaskScene:
        """Once a scene: ``voxels`` (stride 1) hold xyz (m) and colour, ``row`` (P,) is the voxel of each point."""
        projected = [
            level.replace(torch.cat([linear(level.feats), torch.ones_like(level.feats[:, :1])], 1))
            for linear, level in zip(self.project, levels, strict=False)
        ]
        starts = [0, *voxels.counts.cumsum(0).tolist()]
        return MaskScene(voxels.feats[:, :3].T.contiguous(), voxels.feats[:, 3:], starts, row, projected)

    def region(self, scene: MaskScene, boxes: Tensor, scenes: list[int], limit: int = 0) -> Region:
        """The voxels in each of the boxes (Q, 6), enlarged, of scene ``scenes[q]``; at most ``limit`` of a box, drawn
        at random (0: all)."""
        half = boxes[:, 3:] * (0.5 + self.config.enlarge) + self.config.margin
        low, high = (boxes[:, :3] - half).tolist(), (boxes[:, :3] + half).tolist()
        found = []
        for q, b in enumerate(scenes):
            start, end = scene.starts[b : b + 2]
            inside = torch.ones(end - start, dtype=torch.bool, device=boxes.device)
            for axis in range(3):
                values = scene.xyz[axis, start:end]
                inside &= (values >= low[q][axis]) & (values <= high[q][axis])
            rows = inside.nonzero().squeeze(1) + start
            if limit and len(rows) > limit:
                rows = rows[torch.randperm(len(rows), device=rows.device)[:limit]]
            found.append(rows)
        counts = torch.tensor([len(rows) for rows in found], dtype=torch.long, device=boxes.device)
        query = torch.repeat_interleave(torch.arange(len(found), device=boxes.device), counts)
        return Region(torch.cat(found) if found else query, query)

    def forward(self, scene: MaskScene, region: Region, boxes: Tensor, scenes: Tensor, features: Tensor) -> Tensor:
        """Logits (M,) of the region's voxels, positive where they belong to the object.

        Args:
            boxes: (Q, 6) centre and full size in metres. scenes: (Q,) int64, the scene of each.
            features: (Q, C) fused feature of the head voxel that each box is from.
        """
        rows, query = region.rows, region.query
        xyz = scene.xyz.index_select(1, rows).T  # (M, 3)
        box = boxes.index_select(0, query)
        half = box[:, 3:] / 2
        offset = xyz - box[:, :3]
        outside = (offset.abs() - half).amax(1, keepdim=True)
        relative = (offset / half.clamp(min=self.voxel_size)).clamp(-2, 2)
        rise = offset[:, 2:] + half[:, 2:]
        place = [relative, relative.abs(), 10 * outside.clamp(-0.2, 0.2), rise, xyz[:, 2:]]
        hidden = self.point(torch.cat([*place, scene.color.index_select(0, rows)], 1))
        at = scenes.index_select(0, query)[:, None]
        for level in scene.levels:
            # From minimum corners, which the operator goes by, to centres.
            values = sparse.interpolate(level, torch.cat([at, xyz / self.voxel_size - level.stride / 2], 1))
            hidden = hidden + values[:, :-1] / values[:, -1:].clamp(min=1e-3)  # over the voxels that there are
        told = torch.cat([features, boxes[:, 3:].clamp(min=self.voxel_size).log()], 1)
        scale, shift = self.condition(told).index_select(0, query).chunk(2, 1)
        hidden = (hidden * (1 + scale) + shift).relu()
        mean = sparse.segment_mean(hidden, query, len(boxes))  # what the box holds on the whole
        hidden = (self.mix(hidden) + self.pooled(mean).index_select(0, query)).relu()
        return self.out(hidden)[:, 0]


def mask_loss(logits: Tensor, target: Tensor, query: Tensor, queries: int) -> Tensor:
    """Binary cross-entropy plus dice loss (Milletari et al., 3DV 2016), each taken per box, mean over the boxes that
    have a voxel. logits and target (M,), query (M,) int64 in [0, queries) -> scalar."""

    def total(values: Tensor) -> Tensor:
        return values.new_zeros(queries).index_add(0, query, values)

    count = total(torch.ones_like(logits))
    some = count > 0
    p = logits.sigmoid()
    entropy = total(F.binary_cross_entropy_with_logits(logits, target, reduction="none")) / count.clamp(min=1)
    dice = 1 - (2 * total(p * target) + 1) / (total(p) + total(target) + 1)
    return (entropy + dice)[some].mean() if bool(some.any()) else logits.sum() * 0.0
