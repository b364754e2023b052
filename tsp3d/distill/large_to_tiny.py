"""Large to tiny: a teacher of another width, and perhaps of other voxels, that also shows its features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsp3d import sparse
from tsp3d.distill.born_again import BornAgain, BornAgainConfig
from tsp3d.distill.controls import donor_rows, other_scenes
from tsp3d.distill.matching import Taught
from tsp3d.sparse import SparseTensor

if TYPE_CHECKING:
    from tsp3d.data.collate import GroundingBatch
    from tsp3d.models.net import GroundingNet
    from tsp3d.models.supervision import TrainingOutputs


@dataclass
class LargeToTinyConfig(BornAgainConfig):
    """Settings of "large-to-tiny"."""

    teacher: str = ""
    """A weights folder."""
    box_weight: float = 0.5
    feature_weight: float = 0.0
    """Of the distance between the backbones' features; 0 for none."""


class LargeToTiny(BornAgain):
    """As born-again, and the student's backbone features, through a linear layer that is dropped after training, point
    where the teacher's do (FitNets, Romero et al., ICLR 2015, with the cosine as the distance)."""

    config_type = LargeToTinyConfig
    config: LargeToTinyConfig

    def __init__(self, config: LargeToTinyConfig, student: GroundingNet) -> None:
        if config.teacher == "ema":
            raise ValueError("distill.teacher=ema is of the student's size: use --distill born-again for it")
        super().__init__(config, student)
        own, theirs = student.config.fusion.dim, self.teacher.net.config.fusion.dim
        self.voxel_sizes = student.config.voxel_size, self.teacher.net.config.voxel_size
        self.projections = None
        if config.feature_weight > 0:
            self.projections = nn.ModuleList(nn.Linear(own, theirs) for _ in range(3))
            for layer in self.projections:
                nn.init.eye_(layer.weight)  # type: ignore[arg-type]
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def teach(self, batch: GroundingBatch, outputs: TrainingOutputs) -> tuple[Taught, list[SparseTensor]]:
        """What the teacher says, and the features of its levels."""
        asked = self.ask(batch)
        return self.taught(asked, batch), asked.levels

    def shuffle(
        self, taught: tuple[Taught, list[SparseTensor]], batch: GroundingBatch
    ) -> tuple[Taught, list[SparseTensor]]:
        """The answers to sentences of another scene, and that scene's features."""
        said, levels = taught
        if self.projections is not None:
            donor = other_scenes(batch)
            levels = [x.replace(x.feats[donor_rows(x.coords[:, 0].long(), donor)]) for x in levels]
        return said.shuffled(batch), levels

    def losses(  # type: ignore[override]
        self, batch: GroundingBatch, outputs: TrainingOutputs, taught: tuple[Taught, list[SparseTensor]]
    ) -> dict[str, Tensor]:
        """Those of born-again and, where it has a weight, "features"."""
        said, levels = taught
        losses = super().losses(batch, outputs, said)
        if self.projections is not None:
            pairs = zip(self.projections, outputs.levels, levels, strict=True)
            apart = [feature_loss(layer(own.feats), own, theirs, *self.voxel_sizes) for layer, own, theirs in pairs]
            losses["features"] = self.config.feature_weight * torch.stack(apart).mean()
        return losses


def feature_loss(
    projected: Tensor, student: SparseTensor, teacher: SparseTensor, voxel_size: float, teacher_voxel_size: float
) -> Tensor:
    """1 - cosine of each voxel's projected features (N, C') with those of the teacher's voxel that its centre lies in,
    mean over the voxels where there is one. Voxel sizes are those of the base grids, in metres."""
    centers = (student.coords[:, 1:].float() + student.stride / 2) * voxel_size
    place = torch.floor(centers / (teacher_voxel_size * teacher.stride)).int() * teacher.stride
    rows = sparse.lookup(teacher, torch.cat([student.coords[:, :1], place], 1))
    known = (rows >= 0).nonzero().squeeze(1)
    if not len(known):
        return projected.sum() * 0.0
    return 1 - F.cosine_similarity(projected[known].float(), teacher.feats[rows[known]].float()).mean()
