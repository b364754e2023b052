"""Self-training ("Pseudo-Label", Lee, ICML workshops 2013; "Noisy Student", Xie et al., CVPR 2020): a teacher chooses
which objects further sentences mean, that nobody has labelled, and the student learns from them as from the others.

What must be known beside the sentences: the scenes' objects, their boxes and classes, as ScanNet has them for all its
scenes. The teacher sees the batch as the student does, without gradients.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tsp3d.distill.born_again import BornAgain, BornAgainConfig
from tsp3d.distill.coarse_match import sentence_classes
from tsp3d.distill.controls import other_sentences
from tsp3d.synth.types import CLASSES

if TYPE_CHECKING:
    from tsp3d.data.collate import GroundingBatch
    from tsp3d.models.net import GroundingNet

MARGIN = 0.05  # m around an object's box: a voxel's centre may lie outside of what it covers


@dataclass
class PseudoLabelsConfig(BornAgainConfig):
    """Settings of "pseudo-labels"."""

    teacher: str = "ema"
    weight: float = 0.0
    """Of the divergence between the distributions over voxels, for all sentences; 0 leaves it at the labels."""
    by_class: bool = True
    """Choose among the objects of the class that the sentence asks for, as parsed from its words."""
    min_share: float = 0.7
    """Share of the teacher's probability for the objects to choose from that the chosen one must have; a sentence that
    has none is left out of the step."""


class PseudoLabels(BornAgain):
    """The sentences that come without labels (``data.unlabelled_sentences``) get the teacher's."""

    config_type = PseudoLabelsConfig
    config: PseudoLabelsConfig
    unlabelled = True

    def forward(self, net: GroundingNet, batch: GroundingBatch) -> dict[str, Tensor]:
        """The student's losses on the batch with the teacher's labels, and those of born-again that have a weight."""
        batch = self.label(batch)
        weighted = self.config.weight > 0 or self.config.box_weight > 0
        return super().forward(net, batch) if weighted else net.losses(batch)

    def label(self, batch: GroundingBatch) -> GroundingBatch:
        """The batch with a target for each sentence that had no label, without those that remain without one.

        Raises:
            ValueError: no sentence remains.
        """
        open_rows = [q for q, meta in enumerate(batch.meta) if meta.get("kind") == "unlabelled"]
        if not open_rows:
            return batch
        if self.config.control == "shuffled":
            other_sentences(batch)  # which a step with one scene has not
        chosen = dict(zip(open_rows, self.choose(batch.with_sentences(open_rows)), strict=True))
        kept = [q for q in range(len(batch.texts)) if chosen.get(q, 0) >= 0]
        if not kept:
            raise ValueError(
                "pseudo-labels: the teacher is sure of no sentence of a step, and no other has a label; set "
                "data.sentences_per_scene=1 or more"
            )
        targets, meta = list(batch.targets), list(batch.meta)
        for q, picked in chosen.items():
            targets[q] = targets[q].new_tensor([picked])
            meta[q] = {**meta[q], "kind": "sentence"}
        return replace(batch, targets=targets, meta=meta).with_sentences(kept)

    def choose(self, batch: GroundingBatch) -> list[int]:
        """For each sentence the object of its scene that the teacher chooses, -1 where it is not sure enough."""
        out = self.ask(batch).head
        allowed = sentence_classes(batch.texts, CLASSES)
        candidates, shares = [], []
        for q, scene in enumerate(batch.text_scene.tolist()):
            boxes, classes = batch.boxes[scene], batch.classes[scene].cpu()
            usable = torch.ones(len(boxes), dtype=torch.bool)
            if self.config.by_class and bool(allowed[q].any()):
                usable = (classes >= 0) & allowed[q][classes.clamp(min=0)]
            objects = usable.nonzero().squeeze(1)
            mine = out.query == q
            centers = out.positions[mine] + self.teacher_grid.shift
            mass = object_mass(centers, out.logits[mine], boxes[objects.to(boxes.device)]).cpu()
            candidates.append(objects)
            shares.append(mass / mass.sum().clamp(min=1e-12))
        if self.config.control == "shuffled":
            shares = self._elsewhere(batch, shares)
        picked = []
        for objects, share in zip(candidates, shares, strict=True):
            best = int(share.argmax()) if len(share) else -1
            picked.append(int(objects[best]) if best >= 0 and float(share[best]) >= self.config.min_share else -1)
        return picked

    @staticmethod
    def _elsewhere(batch: GroundingBatch, shares: list[Tensor]) -> list[Tensor]:
        """For each sentence what is said of one of the next scene that has such: of as many objects as there are here,
        with its share for the object of its number. Nothing where no other scene has any."""
        scene = batch.text_scene.tolist()
        said: dict[int, list[Tensor]] = {}
        for place, own in zip(scene, shares, strict=True):
            if len(own):
                said.setdefault(place, []).append(own)
        result = []
        for q, own in enumerate(shares):
            others = [place for place in said if place > scene[q]] + [place for place in said if place < scene[q]]
            if not others:
                result.append(own[:0])
                continue
            there = said[others[0]]
            given = there[q % len(there)]
            result.append(torch.zeros_like(own))
            if len(own):
                result[q][int(given.argmax()) % len(own)] = given.max()
        return result


def object_mass(positions: Tensor, logits: Tensor, boxes: Tensor) -> Tensor:
    """The probability that a sentence's softmax over its voxels has within each box.

    Args:
        positions: (N, 3) voxel centres in metres. logits: (N,). boxes: (M, 6) centre and full size.

    Returns:
        (M,) in 0..1.
    """
    near = (positions[:, None] - boxes[:, :3]).abs() <= boxes[:, 3:] / 2 + MARGIN  # (N, M, 3)
    return logits.float().softmax(0) @ near.all(2).float()
