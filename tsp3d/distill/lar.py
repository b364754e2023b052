"""LAR: what an object looks like from around teaches what its voxels say ("Look Around and Refer", Bakr et al., NeurIPS
2022).

A 2D stream, which is dropped after training unless told otherwise, sees each object of a scene in five synthetic views.
It learns the classes of the objects and which one a sentence means, and the student's features of an object are drawn
to those of its views. The images are of the scan as stored, so what the encoder says of them is computed once and kept
on disk.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsp3d.data.sample import CLASS_INDEX
from tsp3d.distill.base import DistillConfig, Frozen, Method
from tsp3d.distill.controls import donor_rows, other_scenes
from tsp3d.distill.view_stream import ViewConfig, ViewStream, build_encoder, save_stream
from tsp3d.models.auxiliary import voxel_instances
from tsp3d.views.cache import FeatureCache
from tsp3d.views.features import object_features

if TYPE_CHECKING:
    from tsp3d.data.annotated import SceneSet
    from tsp3d.data.collate import GroundingBatch
    from tsp3d.models.net import GroundingNet
    from tsp3d.models.supervision import TrainingOutputs
    from tsp3d.sparse import SparseTensor

log = logging.getLogger(__name__)

TELL_SECONDS = 60


@dataclass
class LarConfig(ViewConfig, DistillConfig):
    """Settings of "lar"."""

    keep: bool = False
    """Write the 2D stream beside the student's weights, for both to answer together
    (:mod:`tsp3d.distill.two_streams`)."""
    cache: str = "runs/views"
    """Folder of the encoder's features."""
    ahead: bool = True
    """Look at all scenes before the first step; otherwise at each when it is first drawn."""
    levels: list[int] = field(default_factory=lambda: [0, 1])
    """Of the student's backbone, from the finest."""
    detach: bool = False
    """Keep the 2D stream's grounding from training the student's words."""
    margin: float = 0.1
    hardest: int = 3
    """Negatives of an object in the alignment."""
    align_weight: float = 2.0
    """Of the alignment of an object's two features."""
    feature_weight: float = 0.0
    """Of the encoder's own features, which each object's voxels foretell. The paper has no such loss: a hint as in
    FitNets (Romero et al., ICLR 2015)."""
    ground_weight: float = 0.2
    """Of the 2D stream's grounding."""
    class_3d_weight: float = 0.2
    class_2d_weight: float = 0.2
    class_text_weight: float = 0.1
    """Of the class that the sentence means, where the student's own losses lack it."""


class Objects(NamedTuple):
    """What the encoder says of the M objects of a batch, scene by scene."""

    features: Tensor
    """(M, A, D) of the views."""
    shown: Tensor
    """(M,) bool, whether any view shows the object."""


class Lar(Method):
    """An object's views, its voxels and the sentences, brought together in training. The paper keeps both streams at
    test; here the student is alone then, unless ``keep`` is set and both are asked for.

    With the control "random" the encoder has random weights; with "shuffled" the whole 2D stream sees the objects of
    another scene in the place of these. All else stays the same.
    """

    config_type = LarConfig
    config: LarConfig

    def __init__(self, config: LarConfig, student: GroundingNet) -> None:
        super().__init__(config, student)
        encoder = build_encoder(config.encoder, config.size, config.control == "random")
        self.encoder = Frozen(encoder)
        self.views = config.views()
        self.cache = FeatureCache(config.cache)
        self.scenes: SceneSet | None = None
        self.index: dict[str, int] = {}
        self.voxel_size = student.config.voxel_size
        width = encoder(torch.ones(1, 3, config.size, config.size)).pooled.shape[1]
        words, classes = student.config.fusion.dim, len(CLASS_INDEX)
        self.stream = ViewStream(config, width, len(self.views.angles), words)
        self.solid = nn.Linear(len(config.levels) * words, config.dim)
        self.foretell = nn.Linear(len(config.levels) * words, width) if config.feature_weight else None
        self.classify = nn.ModuleDict({name: nn.Linear(config.dim, classes) for name in ("class_2d", "class_3d")})
        if student.auxiliary is None:
            self.classify["class_text"] = nn.Linear(words, classes)

    def prepare(self, net: GroundingNet, scenes: SceneSet) -> None:
        """Features of all objects, for those scenes that are not in the cache yet."""
        self.scenes, self.index = scenes, {scene_id: index for index, scene_id in enumerate(scenes.scene_ids)}
        if not self.config.ahead:
            return
        begin = told = time.monotonic()
        # Processes, of one run or of several, begin far from each other; what one has found, the others read.
        start = int(os.getpid() * 0.618 % 1 * len(scenes))
        for done in range(len(scenes)):
            self.seen((start + done) % len(scenes), net.device)
            now = time.monotonic()
            if now - told > TELL_SECONDS:
                told, left = now, (now - begin) / (done + 1) * (len(scenes) - done - 1)
                log.info("views of objects: %d of %d scenes, %.0f min left", done + 1, len(scenes), left / 60)

    def seen(self, index: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Features (M, A, D) of a scene's objects as it is stored, and whether any view shows them (M,)."""
        assert self.scenes is not None, "prepare() comes first"
        sample, encoder = self.scenes[index], self.encoder.net.to(device)
        if not len(sample.boxes):
            return torch.empty(0, len(self.views.angles), self.stream.fuse.in_channels), torch.empty(0).bool()
        xyz, rgb, boxes = (torch.from_numpy(array) for array in (sample.xyz, sample.rgb, sample.boxes))
        features, shown = object_features(encoder, xyz, rgb, boxes, self.views, self.cache)
        return features, (shown > 0).any(1)

    def teach(self, batch: GroundingBatch, outputs: TrainingOutputs) -> Objects:
        """The encoder's features of the objects of the batch's scenes."""
        device = batch.xyz.device
        found = [self.seen(self.index[scene_id], device) for scene_id in batch.scene_ids]
        features, shown = (torch.cat(part).to(device) for part in zip(*found, strict=True))
        return Objects(features, shown)

    def shuffle(self, taught: Objects, batch: GroundingBatch) -> Objects:
        """Objects of another scene."""
        rows = donor_rows(_owner(batch), other_scenes(batch))
        return Objects(taught.features[rows], taught.shown[rows])

    def losses(self, batch: GroundingBatch, outputs: TrainingOutputs, taught: Objects) -> dict[str, Tensor]:
        """ "align", "ground", "class_3d", "class_2d", where it has a weight "feature", and where the student has none
        "class_text"."""
        config, device = self.config, batch.xyz.device
        classes, colors = (torch.cat(part).to(device) for part in (batch.classes, batch.colors))
        flat = self.stream.look(taught.features)  # (M, C)
        feats, present = object_voxels([outputs.levels[i] for i in config.levels], batch, self.voxel_size)
        solid = self.solid(feats)  # (M, C)
        both = present & taught.shown
        twins = (classes == classes[:, None]) & (colors == colors[:, None]) & ((classes >= 0) | (colors >= 0))
        found = {
            "align": alignment_loss(solid[both], flat[both], twins[both][:, both], config.margin, config.hardest),
            "ground": self._grounding(batch, outputs, flat),
            "class_3d": _class_loss(self.classify["class_3d"](solid), torch.where(present, classes, -1)),
            "class_2d": _class_loss(self.classify["class_2d"](flat), torch.where(taught.shown, classes, -1)),
        }
        if self.foretell is not None:
            found["feature"] = feature_loss(self.foretell(feats[both]), taught.features[both].mean(1))
        if "class_text" in self.classify:
            scenes = zip(batch.text_scene.tolist(), batch.targets, strict=True)
            meant = [int(batch.classes[s][t[0]]) if len(t) == 1 else -1 for s, t in scenes]
            logits = self.classify["class_text"](outputs.text.sentence)
            found["class_text"] = _class_loss(logits, torch.tensor(meant, device=device))
        return {name: getattr(config, f"{name}_weight") * value for name, value in found.items()}

    def export(self, folder: Path) -> None:
        """The 2D stream, where it is to be kept."""
        if self.config.keep:
            save_stream(folder, self.stream, self.config, self.encoder.net, self.config.control == "random")

    def _grounding(self, batch: GroundingBatch, outputs: TrainingOutputs, flat: Tensor) -> Tensor:
        """Cross-entropy of the objects meant among the scene's, mean over the sentences that mean one."""
        asked = [q for q, targets in enumerate(batch.targets) if len(targets)]
        if not asked:
            return flat.sum() * 0.0
        scene = batch.text_scene.tolist()
        objects, words = flat.split([len(boxes) for boxes in batch.boxes]), outputs.text.split()
        logits = self.stream(
            [objects[scene[q]] for q in asked],
            [batch.boxes[scene[q]].to(flat.device) for q in asked],
            [words[q].detach() if self.config.detach else words[q] for q in asked],
        )
        meant = torch.zeros_like(logits, dtype=torch.bool)
        for row, q in enumerate(asked):
            meant[row, batch.targets[q]] = True
        return (logits.logsumexp(1) - logits.masked_fill(~meant, float("-inf")).logsumexp(1)).mean()


def object_voxels(levels: list[SparseTensor], batch: GroundingBatch, voxel_size: float) -> tuple[Tensor, Tensor]:
    """Mean feature of each object's points, which have that of their voxel.

    Args:
        levels: L levels of C channels, over the batch's scenes. voxel_size: of the base grid, metres.

    Returns:
        (M, L * C) for the objects of all scenes, zeros where one has no point; (M,) bool, whether it has any.
    """
    sizes = torch.tensor([len(boxes) for boxes in batch.boxes], device=batch.xyz.device)
    first, count = sizes.cumsum(0) - sizes, int(sizes.sum())
    owned = (batch.instance >= 0).nonzero().squeeze(1)
    scene = batch.batch[owned]
    coords = torch.cat([scene[:, None], torch.floor(batch.xyz[owned] / voxel_size).long()], 1).int()
    instance = batch.instance[owned] + first[scene]
    total = torch.bincount(instance, minlength=count)
    means = []
    for level in levels:
        rows, objects, points = voxel_instances(level, coords, instance)
        share = points / total[objects]  # (K,)
        zeros = share.new_zeros(count, level.feats.shape[1])
        means.append(zeros.index_add(0, objects, level.feats[rows].float() * share[:, None]))
    return torch.cat(means, 1), total > 0


def alignment_loss(one: Tensor, other: Tensor, twins: Tensor, margin: float = 0.1, hardest: int = 3) -> Tensor:
    """Max-margin alignment of cosines with the hardest negatives, both ways (LAR; VSE++, Faghri et al., BMVC 2018).

    Args:
        one, other: (M, C) features of the same objects.
        twins: (M, M) bool: which are not each other's negatives, since nothing tells them apart. An object never is
            its own.
        hardest: negatives of each object that count.

    Returns:
        The mean over objects and negatives of margin - cosine with its own + cosine with the negative, where that is
        above 0; zero where there are no negatives.
    """
    cosine = F.normalize(one.float(), dim=1) @ F.normalize(other.float(), dim=1).T  # (M, M)
    apart = twins | torch.eye(len(twins), dtype=torch.bool, device=twins.device)
    rivals = torch.cat([cosine, cosine.T]).masked_fill(apart.repeat(2, 1), float("-inf"))  # (2 M, M)
    negatives = rivals.topk(min(hardest, len(cosine)), dim=1).values
    cost = (margin - cosine.diagonal().repeat(2)[:, None] + negatives).clamp(min=0)
    return cost.sum() / negatives.isfinite().sum().clamp(min=1)


def feature_loss(foretold: Tensor, features: Tensor) -> Tensor:
    """How far features (M, D) are from those foretold: 1 - cosine, mean over the objects.

    Each of the D is first brought to mean 0 and variance 1 over the objects, since most of an encoder's feature is the
    same for every image. Zero for fewer than two objects.
    """
    if len(features) < 2:
        return foretold.sum() * 0.0
    spread, mean = torch.std_mean(features.float(), 0, correction=0)
    return (1 - F.cosine_similarity(foretold.float(), (features - mean) / (spread + 1e-6))).mean()


def _class_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Cross-entropy where the class is known, zero where none is."""
    total = F.cross_entropy(logits.float(), classes, ignore_index=-1, reduction="sum")
    return total / (classes >= 0).sum().clamp(min=1)


def _owner(batch: GroundingBatch) -> Tensor:
    """Scene of each object of a batch (M,) int64."""
    sizes = torch.tensor([len(boxes) for boxes in batch.boxes])
    return torch.repeat_interleave(torch.arange(len(sizes)), sizes).to(batch.xyz.device)
