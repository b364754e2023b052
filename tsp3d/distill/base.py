"""What every method that teaches the grounding network has in common.

A method is a module that trains beside the network and is dropped after the last step: nothing of it is exported unless
its ``export`` says so, and the network knows nothing of it. To write one:

1. a dataclass of its settings, derived from :class:`DistillConfig`;
2. a class derived from :class:`Method`: what it adds to the student are its submodules; ``teach`` gives what the
   teacher knows of a batch, ``losses`` holds the student against it, ``shuffle`` swaps its answers between scenes;
3. a line in :mod:`tsp3d.distill.methods` and a YAML in ``configs/distill``.

Batches are augmented anew in each step. What a teacher says of the points of a batch has to be computed on that batch,
by a forward pass without gradients. What does not depend on the augmentation (of an object as scanned, or of words) is
the same in every step and belongs in a cache on disk (:mod:`tsp3d.views.cache`), which ``prepare`` can fill before
the first step; ``batch.scene_ids`` and an object's index within its scene say which object is meant.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from tsp3d.data.annotated import SceneSet
    from tsp3d.data.collate import GroundingBatch
    from tsp3d.models.net import GroundingNet
    from tsp3d.models.supervision import TrainingOutputs

CONTROLS = ("none", "random", "shuffled")


@dataclass
class DistillConfig:
    """Settings that all methods have."""

    method: str = ""
    """Name of the method (:data:`tsp3d.distill.methods.METHODS`)."""
    control: str = "none"
    """What the method is compared with: "none" is the method itself, "random" has a teacher of the same architecture
    with random weights, "shuffled" gives each scene what the teacher says of another scene of the batch."""


class Method(nn.Module):
    """A distillation method. Its parameters are trained with the student's, and are part of a run's checkpoints.

    A teacher that is not trained must not be a submodule: keep it in :class:`Frozen`.

    Args:
        config: an instance of the class's ``config_type``.
        student: the network to be taught, to read sizes from; it must not be kept.
    """

    config_type: ClassVar[type[DistillConfig]] = DistillConfig
    unlabelled: ClassVar[bool] = False
    """Whether it finds targets for the sentences that come without (``data.unlabelled_sentences``)."""

    def __init__(self, config: Any, student: GroundingNet) -> None:
        super().__init__()
        self.config = config

    # ---- what a method defines

    def prepare(self, net: GroundingNet, scenes: SceneSet) -> None:
        """Called once before the first step, with the weights that the student starts from and the training scenes as
        stored: the place to fill caches, or to copy the student."""

    def student_losses(self, net: GroundingNet, batch: GroundingBatch) -> tuple[TrainingOutputs, dict[str, Tensor]]:
        """Run the student once: its outputs, and the losses that it has without a teacher.

        A method that replaces these (training without boxes) overrides this.
        """
        outputs = net.forward_training(batch)
        return outputs, net.losses_of(outputs, batch)

    def teach(self, batch: GroundingBatch, outputs: TrainingOutputs) -> Any:
        """What the teacher knows of the batch, in any form; ``random`` is up to how the teacher was built."""
        raise NotImplementedError

    def shuffle(self, taught: Any, batch: GroundingBatch) -> Any:
        """What ``teach`` gave, with the answers of each scene from another one (see :mod:`tsp3d.distill.controls`)."""
        raise NotImplementedError

    def losses(self, batch: GroundingBatch, outputs: TrainingOutputs, taught: Any) -> dict[str, Tensor]:
        """The method's losses by name, weighted. No gradient may reach a teacher through ``taught``."""
        raise NotImplementedError

    def after_step(self, net: GroundingNet) -> None:
        """Called after each step of the optimiser, for teachers that follow the student."""

    def export(self, folder: Path) -> None:
        """Called when the student's weights are in ``folder``: the place to write what may be of use beside them, into
        a folder of its own. Weights of a method are not averaged."""

    # ---- what all share

    def forward(self, net: GroundingNet, batch: GroundingBatch) -> dict[str, Tensor]:
        """The student's losses and the method's, the latter as "distill_NAME"; "total" is the sum of all."""
        # The student first, so that its random choices are those of a run without a method.
        outputs, losses = self.student_losses(net, batch)
        taught = self.teach(batch, outputs)
        if self.config.control == "shuffled":
            taught = self.shuffle(taught, batch)
        losses.pop("total", None)
        losses |= {f"distill_{name}": value for name, value in self.losses(batch, outputs, taught).items()}
        losses["total"] = torch.stack(list(losses.values())).sum()
        return losses


class Frozen:
    """Holds a teacher, in evaluation mode, out of the method's sight: neither trained, saved nor moved with it."""

    def __init__(self, net: Any) -> None:
        self.net = net.requires_grad_(False).eval()
