"""LAR: what an object looks like from around teaches what its voxels say ("Look Around and Refer", Bakr et al., NeurIPS
2022).

A 2D stream, which is dropped after training, sees each object of a scene in five synthetic views. It learns the classes
of the objects and which one a sentence means, and the student's features of an object are drawn to those of its views.
The images are of the scan as stored, so what the encoder says of them is computed once and kept on disk.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from tsp3d.data.sample import CLASS_INDEX
from tsp3d.distill.base import DistillConfig, Frozen, Method
from tsp3d.distill.controls import donor_rows, other_scenes
from tsp3d.models.auxiliary import voxel_instances
from tsp3d.views.cache import FeatureCache
from tsp3d.views.cameras import ObjectViews
from tsp3d.views.encoders import EfficientNetLite0, ImageEncoder, TransformersEncoder
from tsp3d.views.features import object_features

if TYPE_CHECKING:
    from tsp3d.data.annotated import SceneSet
    from tsp3d.data.collate import GroundingBatch
    from tsp3d.models.net import GroundingNet
    from tsp3d.models.supervision import TrainingOutputs
    from tsp3d.sparse import SparseTensor

log = logging.getLogger(__name__)

EFFICIENTNET = "efficientnet-lite0"
RANDOM_SEED = 0
"""Of the random twin: the same for all runs, which then share its features on disk."""
TELL_SECONDS = 60


@dataclass
class LarConfig(DistillConfig):
    """Settings of "lar"."""

    encoder: str = EFFICIENTNET
    """That (``pip install tsp3d[views]``), or the local folder of a vision model of transformers."""
    size: int = 96
    """Pixels of a side of the views. EfficientNet-Lite0 takes them as they are, others at their own size."""
    fit: bool = False
    """The views come so near that the object fills them. LAR's fixed distance shows how large an object is."""
    cache: str = "runs/views"
    """Folder of the encoder's features."""
    ahead: bool = True
    """Look at all scenes before the first step; otherwise at each when it is first drawn."""
    levels: list[int] = field(default_factory=lambda: [0, 1])
    """Of the student's backbone, from the finest."""
    dim: int = 128
    layers: int = 2
    heads: int = 4
    dropout: float = 0.1
    detach: bool = False
    """Keep the 2D stream's grounding from training the student's words."""
    margin: float = 0.1
    hardest: int = 3
    """Negatives of an object in the alignment."""
    align_weight: float = 2.0
    """Of the alignment of an object's two features."""
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


class ViewStream(nn.Module):
    """Objects' views fused by a 1D convolution over the angles, then a decoder of objects that read the sentence."""

    def __init__(self, config: LarConfig, features: int, views: int, words: int) -> None:
        super().__init__()
        dim = config.dim
        # Without weights: encoders' features, random ones too, come in one scale.
        self.norm = nn.LayerNorm(features, elementwise_affine=False)
        self.fuse = nn.Conv1d(features, dim, views)
        self.dropout = nn.Dropout(config.dropout)
        self.place, self.words = nn.Linear(6, dim), nn.Linear(words, dim)
        layer = nn.TransformerDecoderLayer(dim, config.heads, 2 * dim, config.dropout, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, config.layers)
        self.score = nn.Linear(dim, 1)

    def look(self, features: Tensor) -> Tensor:
        """(M, A, D) of the views -> (M, C) of the objects."""
        return self.fuse(self.dropout(self.norm(features)).transpose(1, 2)).squeeze(2)

    def forward(self, objects: list[Tensor], boxes: list[Tensor], words: list[Tensor]) -> Tensor:
        """Q sentences' objects (M_q, C) with boxes (M_q, 6), and their words (T_q, W) -> logits (Q, max M_q), -inf
        where a sentence has fewer objects. None may have no object."""
        centred = [torch.cat([box[:, :3] - box[:, :3].mean(0), box[:, 3:]], 1) for box in boxes]
        x = pad_sequence([own + self.place(box) for own, box in zip(objects, centred, strict=True)], batch_first=True)
        text = pad_sequence([self.words(own) for own in words], batch_first=True)
        x = self.decoder(
            x, text, tgt_key_padding_mask=_padding(objects), memory_key_padding_mask=_padding(words)
        )  # (Q, M, C)
        return self.score(x).squeeze(2).float().masked_fill(_padding(objects), float("-inf"))


class Lar(Method):
    """An object's views, its voxels and the sentences, brought together in training. The paper keeps both streams at
    test; here the student is alone then.

    With the control "random" the encoder has random weights; with "shuffled" the whole 2D stream sees the objects of
    another scene in the place of these. All else stays the same.
    """

    config_type = LarConfig
    config: LarConfig

    def __init__(self, config: LarConfig, student: GroundingNet) -> None:
        super().__init__(config, student)
        encoder = build_encoder(config.encoder, config.size, config.control == "random")
        self.encoder = Frozen(encoder)
        self.views = ObjectViews(size=config.size, fit=config.fit)
        self.cache = FeatureCache(config.cache)
        self.scenes: SceneSet | None = None
        self.index: dict[str, int] = {}
        self.voxel_size = student.config.voxel_size
        width = encoder(torch.ones(1, 3, config.size, config.size)).pooled.shape[1]
        words, classes = student.config.fusion.dim, len(CLASS_INDEX)
        self.stream = ViewStream(config, width, len(self.views.angles), words)
        self.solid = nn.Linear(len(config.levels) * words, config.dim)
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
        """ "align", "ground", "class_3d", "class_2d" and, where the student has none, "class_text"."""
        config, device = self.config, batch.xyz.device
        classes, colors = (torch.cat(part).to(device) for part in (batch.classes, batch.colors))
        flat = self.stream.look(taught.features)  # (M, C)
        feats, present = object_voxels([outputs.levels[i] for i in config.levels], batch, self.voxel_size)
        solid = self.solid(feats)  # (M, C)
        both = present & taught.shown
        twins = (classes == classes[:, None]) & (colors == colors[:, None])
        found = {
            "align": alignment_loss(solid[both], flat[both], twins[both][:, both], config.margin, config.hardest),
            "ground": self._grounding(batch, outputs, flat),
            "class_3d": _class_loss(self.classify["class_3d"](solid), torch.where(present, classes, -1)),
            "class_2d": _class_loss(self.classify["class_2d"](flat), torch.where(taught.shown, classes, -1)),
        }
        if "class_text" in self.classify:
            scenes = zip(batch.text_scene.tolist(), batch.targets, strict=True)
            meant = [int(batch.classes[s][t[0]]) if len(t) == 1 else -1 for s, t in scenes]
            logits = self.classify["class_text"](outputs.text.sentence)
            found["class_text"] = _class_loss(logits, torch.tensor(meant, device=device))
        return {name: getattr(config, f"{name}_weight") * value for name, value in found.items()}

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


def build_encoder(name: str, size: int, random: bool = False) -> ImageEncoder:
    """The image encoder of that name or in that folder, or its random twin.

    Raises:
        ImportError: the extra "views" is not installed. OSError, ValueError: the folder holds no vision model.
    """
    seed = RANDOM_SEED if random else None
    if name != EFFICIENTNET:
        return TransformersEncoder(name, seed)
    encoder = EfficientNetLite0(seed)
    encoder.size = size  # convolutions take any size, and small ones are cheap
    return encoder


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


def _class_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Cross-entropy where the class is known, zero where none is."""
    total = F.cross_entropy(logits.float(), classes, ignore_index=-1, reduction="sum")
    return total / (classes >= 0).sum().clamp(min=1)


def _padding(rows: list[Tensor]) -> Tensor:
    """(Q, longest) bool, True beyond the end of each of Q sequences."""
    lengths = torch.tensor([len(row) for row in rows], device=rows[0].device)
    return torch.arange(int(lengths.max()), device=lengths.device) >= lengths[:, None]


def _owner(batch: GroundingBatch) -> Tensor:
    """Scene of each object of a batch (M,) int64."""
    sizes = torch.tensor([len(boxes) for boxes in batch.boxes])
    return torch.repeat_interleave(torch.arange(len(sizes)), sizes).to(batch.xyz.device)
