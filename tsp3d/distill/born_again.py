"""Born-again: a teacher of the student's size (Furlanello et al., ICML 2018), or the student's own average."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tsp3d.distill.base import DistillConfig, Frozen, Method
from tsp3d.distill.matching import Grid, Taught, voxel_losses
from tsp3d.distill.teachers import Average, load_teacher, random_teacher

if TYPE_CHECKING:
    from tsp3d.data.annotated import SceneSet
    from tsp3d.data.collate import GroundingBatch
    from tsp3d.models.net import GroundingNet
    from tsp3d.models.supervision import TrainingOutputs


@dataclass
class BornAgainConfig(DistillConfig):
    """Settings of "born-again"."""

    teacher: str = "tsp3d-tiny"
    """Name of bundled weights or a weights folder; "ema" for the moving average of the student."""
    ema: float = 0.998
    """Decay of that average."""
    weight: float = 1.0
    """Of the divergence between the distributions over voxels."""
    box_weight: float = 0.0
    """Of the distance to the teacher's boxes; 0 leaves boxes to the targets."""
    temperature: float = 1.0
    union: bool = True
    """Voxels that the teacher has pruned count as zero; otherwise they are left out."""


class BornAgain(Method):
    """The student's distribution over its level-0 voxels follows the teacher's; the boxes too, by the teacher's score.

    The teacher runs on the augmented batch itself, in evaluation mode, with its own pruning and without the targets.
    """

    config_type = BornAgainConfig
    config: BornAgainConfig

    def __init__(self, config: BornAgainConfig, student: GroundingNet) -> None:
        super().__init__(config, student)
        random = config.control == "random"
        self.teacher: Average | Frozen
        if config.teacher != "ema":
            self.teacher = Frozen(load_teacher(config.teacher, random))
        elif random:
            self.teacher = Frozen(random_teacher(student.config))
        else:
            self.teacher = Average(student, config.ema)
        self.grid, self.teacher_grid = Grid.of(student), Grid.of(self.teacher.net)

    def prepare(self, net: GroundingNet, scenes: SceneSet) -> None:
        """The average begins as the student does."""
        if isinstance(self.teacher, Average):
            self.teacher.net.load_state_dict(net.state_dict())

    def after_step(self, net: GroundingNet) -> None:
        """The average follows the student."""
        if isinstance(self.teacher, Average):
            self.teacher.follow(net)

    @torch.no_grad()
    def ask(self, batch: GroundingBatch) -> TrainingOutputs:
        """The teacher's forward pass."""
        return self.teacher.net.to(batch.xyz.device).forward_training(batch, supervised=False)

    def teach(self, batch: GroundingBatch, outputs: TrainingOutputs) -> Taught:
        """What the teacher says of the same points and sentences."""
        return self.taught(self.ask(batch), batch)

    @staticmethod
    def taught(outputs: TrainingOutputs, batch: GroundingBatch) -> Taught:
        """A teacher's outputs as what is taught; its confidence is the score."""
        out = outputs.head
        logits, trust = out.logits.float(), out.positions.new_ones(len(batch.texts))
        return Taught(out.positions, out.query, logits, out.boxes.float(), logits.sigmoid(), trust)

    def shuffle(self, taught: Taught, batch: GroundingBatch) -> Taught:
        """The answers to sentences of another scene."""
        return taught.shuffled(batch)

    def losses(self, batch: GroundingBatch, outputs: TrainingOutputs, taught: Taught) -> dict[str, Tensor]:
        """Losses "score" and "box", those that have a weight."""
        config = self.config
        found = voxel_losses(outputs.head, self.grid, taught, self.teacher_grid, config.temperature, config.union)
        weights = {"score": config.weight, "box": config.box_weight}
        return {name: weight * found[name] for name, weight in weights.items() if weight > 0}
