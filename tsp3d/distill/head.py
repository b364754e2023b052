"""In-network distillation of the head: a heavy decoder that exists in training alone teaches the head of each voxel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tsp3d import sparse
from tsp3d.distill.base import DistillConfig, Method
from tsp3d.distill.matching import Grid, Taught, voxel_losses
from tsp3d.models.fusion import PositionEmbedding
from tsp3d.models.head import LOG_SIZE_RANGE, HeadOutput, VoxelBoxes
from tsp3d.models.pruning import top_mask
from tsp3d.models.ragged import RaggedAttention, RaggedPlan
from tsp3d.models.supervision import head_losses

if TYPE_CHECKING:
    from tsp3d.data.collate import GroundingBatch
    from tsp3d.models.net import GroundingNet
    from tsp3d.models.supervision import TrainingOutputs


@dataclass
class HeadTeacherConfig(DistillConfig):
    """Settings of "head"."""

    queries: int = 64
    """Voxels of a sentence, by their score, that the decoder answers for."""
    layers: int = 3
    dim: int = 128
    heads: int = 8
    feedforward: int = 256
    dropout: float = 0.1
    detach: bool = False
    """Keep the decoder's own training from reaching the student's features."""
    decoder_weight: float = 1.0
    """Of the decoder's losses on the targets."""
    weight: float = 1.0
    """Of the divergence between the distributions over voxels."""
    box_weight: float = 0.5
    """Of the distance to the decoder's boxes."""


class DecoderLayer(nn.Module):
    """Queries attend to each other, to the sentence's voxels and to its words (DETR, Carion et al., ECCV 2020)."""

    def __init__(self, config: HeadTeacherConfig) -> None:
        super().__init__()
        dim, hidden = config.dim, config.feedforward
        self.among, self.to_voxels, self.to_words = (RaggedAttention(dim, config.heads) for _ in range(3))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(4))
        self.feedforward = nn.Sequential(
            nn.Linear(dim, hidden), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(hidden, dim)
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, place: Tensor, voxels: Tensor, voxel_place: Tensor, words: Tensor, plans: list[RaggedPlan]
    ) -> Tensor:
        """x (K, D) queries at ``place`` (K, D), voxels (N, D) at ``voxel_place``, words (T, D) -> (K, D)."""
        x = self.norms[0](x + self.dropout(self.among(x + place, x + place, x, plans[0])))
        x = self.norms[1](x + self.dropout(self.to_voxels(x + place, voxels + voxel_place, voxels, plans[1])))
        x = self.norms[2](x + self.dropout(self.to_words(x + place, words, words, plans[2])))
        return self.norms[3](x + self.dropout(self.feedforward(x)))


class Decoder(nn.Module):
    """A box and a score for each of a sentence's best voxels, from all its voxels and words."""

    def __init__(self, config: HeadTeacherConfig, dim: int) -> None:
        super().__init__()
        self.queries = config.queries
        self.voxels, self.words = nn.Linear(dim, config.dim), nn.Linear(dim, config.dim)
        self.place = PositionEmbedding(config.dim)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.layers))
        self.box, self.score = nn.Linear(config.dim, 6), nn.Linear(config.dim, 1)
        nn.init.normal_(self.box.weight, std=0.01)
        nn.init.zeros_(self.box.bias)

    def forward(self, student: HeadOutput, words: Tensor, lengths: list[int]) -> tuple[VoxelBoxes, Tensor]:
        """words (T, C), ragged over the Q sentences -> its output at K voxels, and their rows (K,) in the student's."""
        counts = torch.bincount(student.query, minlength=len(lengths))
        offsets = nn.functional.pad(counts.cumsum(0), (1, 0))
        rows = top_mask(student.logits.detach(), offsets, self.queries).nonzero().squeeze(1)
        voxels, text = self.voxels(student.features), self.words(words)
        place = self.place(student.positions)
        chosen, each = counts.clamp(max=self.queries).tolist(), counts.tolist()
        plans = [RaggedPlan(chosen, keys, voxels.device) for keys in (chosen, each, lengths)]
        x = voxels[rows]
        for layer in self.layers:
            x = layer(x, place[rows], voxels, place, text, plans)
        at, raw = student.positions[rows], self.box(x)
        boxes = torch.cat([at + raw[:, :3], raw[:, 3:].clamp(*LOG_SIZE_RANGE).exp()], 1)
        return VoxelBoxes(at, student.query[rows], boxes, self.score(x)[:, 0]), rows


class HeadTeacher(Method):
    """The decoder learns from the targets, and the student's head of each voxel from the decoder.

    A voxel of the decoder is worth its probability times the IoU of its box with the target. These, as shares, are the
    distribution that the student's softmax over voxels follows, the greatest of them is the weight of the sentence, and
    each is the weight of its box. With the control "random" the decoder is never trained.
    """

    config_type = HeadTeacherConfig
    config: HeadTeacherConfig

    def __init__(self, config: HeadTeacherConfig, student: GroundingNet) -> None:
        super().__init__(config, student)
        self.decoder = Decoder(config, student.config.fusion.dim)
        self.decoder.requires_grad_(config.control != "random")
        self.student_config = student.config
        self.grid = Grid.of(student)

    def teach(self, batch: GroundingBatch, outputs: TrainingOutputs) -> tuple[VoxelBoxes, Tensor, Taught]:
        """The decoder's output, the rows (K,) of its voxels in the student's, and what it teaches."""
        student, words = outputs.head, outputs.text.tokens
        assert outputs.targets is not None
        if self.config.detach or self.config.control == "random":
            student, words = replace(student, features=student.features.detach()), words.detach()
        own, rows = self.decoder(student, words, outputs.text.lengths)
        return own, rows, worth(own, outputs.targets.boxes, outputs.targets.box_query, len(batch.texts))

    def shuffle(
        self, taught: tuple[VoxelBoxes, Tensor, Taught], batch: GroundingBatch
    ) -> tuple[VoxelBoxes, Tensor, Taught]:
        """The decoder's own training stays as it is; what it teaches is of another scene."""
        own, rows, said = taught
        return own, rows, said.shuffled(batch)

    def losses(
        self, batch: GroundingBatch, outputs: TrainingOutputs, taught: tuple[VoxelBoxes, Tensor, Taught]
    ) -> dict[str, Tensor]:
        """ "score" and "box" of the student, and the decoder's own as "decoder_NAME"."""
        config = self.config
        own, rows, said = taught
        found = voxel_losses(outputs.head, self.grid, said, self.grid)
        losses = {"score": config.weight * found["score"], "box": config.box_weight * found["box"]}
        if config.control != "random":
            assert outputs.targets is not None and outputs.assigned is not None
            assigned = outputs.assigned[rows]
            learnt = head_losses(self.student_config, own, assigned, outputs.targets.boxes, len(batch.texts))
            losses |= {f"decoder_{name}": config.decoder_weight * value for name, value in learnt.items()}
        return losses


@torch.no_grad()
def worth(out: VoxelBoxes, boxes: Tensor, box_query: Tensor, sentences: int) -> Taught:
    """What a decoder's output teaches, given the target boxes (M, 6) and the sentence (M,) of each."""
    logits, own = out.logits.detach().float(), out.boxes.detach().float()
    iou = sparse.box_iou_3d(own, boxes) * (out.query[:, None] == box_query[None])  # (K, M)
    best = iou.amax(1) if len(boxes) else torch.zeros_like(logits)
    value = logits.sigmoid() * best
    trust = value.new_zeros(sentences).scatter_reduce(0, out.query, value, "amax")
    return Taught(out.positions, out.query, value.clamp(min=1e-6).log(), own, value, trust)
