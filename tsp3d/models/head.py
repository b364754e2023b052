"""The grounding head of TSP3D: from three levels of voxels and a sentence to scored boxes.

Level 2 is the coarsest (64 cm in the paper). Module names are the public release's, so that published weights map one
to one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tsp3d import sparse
from tsp3d.losses import inside_cubes
from tsp3d.sparse import SparseTensor
from tsp3d.sparse import nn as snn
from tsp3d.sparse.fused import ConvNorm, conv_norm
from tsp3d.sparse.linear import layers_of, linear

from .config import ModelConfig
from .decode import logit_of
from .fusion import FusionStack, PositionEmbedding, Product
from .pruning import features_at, inference_mask, positions, scattered_scores, scores_at, top_mask
from .spatial import Place
from .text import TextFeatures

MATCH_CHANNELS = 8
LOG_SIZE_RANGE = (-5.0, 4.0)  # 7 mm to 55 m: keeps exp() finite whatever the weights


@dataclass
class Focus:
    """True regions, for training: centres (M, 3) in metres and the sentence (M,) of each."""

    target_centers: Tensor
    target_query: Tensor
    region_centers: Tensor
    region_query: Tensor
    """Targets and anchors."""
    scene_centers: Tensor
    scene_query: Tensor
    """Every object of the sentence's scene."""


@dataclass
class VoxelLogits:
    """One logit per voxel of a sentence batch."""

    positions: Tensor
    """(N, 3) metres."""
    batch: Tensor
    """(N,) int32 sentence, as a tensor has it."""
    logits: Tensor
    """(N,)"""

    @property
    def query(self) -> Tensor:
        """(N,) sentence."""
        return self.batch.long()


@dataclass(frozen=True)
class Begun:
    """Level 2 after the attention among its voxels, which no sentence enters, and where they are."""

    voxels: SparseTensor
    place: Place


@dataclass
class VoxelBoxes:
    """A box and a score for each of N voxels."""

    positions: Tensor
    """(N, 3) level-0 voxel positions in metres."""
    query: Tensor
    """(N,) sentence of each voxel, ascending."""
    boxes: Tensor
    """(N, 6) centre and full size in metres."""
    logits: Tensor
    """(N,) score logits."""


@dataclass
class HeadOutput(VoxelBoxes):
    fused: Tensor
    """(N, C) voxel and sentence together, what boxes and scores are read from."""
    said: Tensor
    """(Q, 2C) sentence tokens after the attention stacks, then before."""
    features: Tensor
    """(N, C) of the voxels, before the sentence token joins them."""
    keep: dict[int, VoxelLogits] = field(default_factory=dict)
    """Keep logits (positive = keep) of levels 2 and 1."""
    completion: VoxelLogits | None = None
    trace: dict[str, Tensor] = field(default_factory=dict)
    """Per stage the coordinates (N, 4) [sentence, x, y, z] in base voxels that were left."""


class Fuse(nn.Module):
    """Concatenated voxel and sentence features -> C."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = snn.Conv3d(2 * dim, dim, 1)
        self.norm = snn.BatchNorm(dim)

    def forward(self, x: SparseTensor) -> SparseTensor:
        return conv_norm(self.conv, self.norm, x)


class GroundingHead(nn.Module):
    lateral_block_0: ConvNorm

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.fusion.dim
        self.pos_embed = PositionEmbedding(dim)
        self.keep_trans = nn.ModuleList(
            FusionStack(config.fusion, n) for n in config.pruning.layers
        )  # level 1, level 2
        self.keep_conv = nn.ModuleList(snn.Conv3d(dim, 1, 1, bias=True) for _ in range(2))
        for level in (1, 2):
            mode = config.pruning.upsample[level - 1]
            if mode not in ("generative", "occupied"):
                raise ValueError(f"pruning.upsample: {mode!r} is neither 'generative' nor 'occupied'")
            up = snn.GenerativeConvTranspose3d if mode == "generative" else snn.ConvTranspose3d
            setattr(self, f"up_block_{level}", ConvNorm(up(dim, dim, 3, 2), snn.BatchNorm(dim)))
        for level in (0, 1, 2):
            setattr(self, f"lateral_block_{level}", _block(dim))
        self.out_block_0 = _block(dim)
        if config.completion.enabled:
            self.com_trans = FusionStack(config.fusion, config.completion.layers)
            self.com_cls = nn.Conv1d(dim, 1, 1)
            assert self.com_cls.bias is not None
            nn.init.constant_(
                self.com_cls.bias, logit_of(0.05)
            )  # below the threshold: nothing is added before it is learnt
        self.refine = nn.Linear(dim, dim) if config.completion.enabled and config.completion.refine else None
        if self.refine is not None:
            nn.init.zeros_(self.refine.weight)  # begins as no change
            nn.init.zeros_(self.refine.bias)
        self.fuse = Fuse(dim)
        width = config.head.match
        self.match = Product(2 * dim, 2 * dim, width, dim, MATCH_CHANNELS) if width else None
        self.bbox_conv = snn.Conv3d(dim, 6, 1, bias=True)
        self.cls_conv = snn.Conv3d(dim, 1, 1, bias=True)
        nn.init.normal_(self.cls_conv.kernel, std=0.01)
        nn.init.normal_(self.bbox_conv.kernel, std=0.01)
        assert self.cls_conv.bias is not None
        nn.init.constant_(self.cls_conv.bias, logit_of(config.head.prior))

    @property
    def _half(self) -> bool:
        return not self.config.compat.no_half_voxel

    def forward(
        self,
        levels: list[SparseTensor],
        text: Tensor,
        text_lengths: list[int],
        scene: Tensor,
        focus: Focus | None = None,
        begun: Begun | None = None,
    ) -> HeadOutput:
        """Grounds Q sentences.

        Args:
            levels: features of levels 0, 1, 2 over the B scenes, C channels each.
            text: (T, C) token features, ragged over the sentences; ``text_lengths`` their Q lengths.
            scene: (Q,) int64, the scene of each sentence.
            focus: true regions for training; without them pruning is by score alone.
            begun: level 2 from :meth:`begin`, where it is there already.
        """
        pruning, told = self.config.pruning, text
        keep: dict[int, VoxelLogits] = {}
        trace: dict[str, Tensor] = {}
        forced = None
        if focus is not None and pruning.enabled and pruning.teacher_forcing > 0:
            forced = torch.rand(len(scene), device=scene.device) < pruning.teacher_forcing  # (Q,)
        if begun is None and not self._exceeds(levels[2], pruning.stack_max[1]):
            begun = self.begin(levels[2])
        x = upsampled = probability = sparse.replicate(levels[2] if begun is None else begun.voxels, scene)
        for level in (2, 1):
            limit = pruning.stack_max[level - 1]
            known = begun.place if begun is not None and x is begun.voxels else None
            at = positions(x, self.config.voxel_size, self._half) if known is None else known.xyz
            x, text = self._attend(
                self.keep_trans[level - 1], x, at, text, text_lengths, limit, begun is not None and level == 2, known
            )
            scores = None
            if pruning.enabled:
                logits = self.keep_conv[level - 1](x).feats[:, 0]
                logits = -logits if self.config.compat.prune_sign else logits
                keep[level] = VoxelLogits(at, x.batch, logits)
                scores = logits.detach().sigmoid()
            probability = x.replace(torch.ones_like(x.feats[:, :1]) if scores is None else scores[:, None])
            x = getattr(self, f"lateral_block_{level}")(x)
            mask = self._kept(level, probability, focus, forced)
            x = x if mask is None else x.prune(mask)
            trace[f"level{level}"] = x.coords
            upsampled, x = self._upsample(level, x, mask, probability, levels[level - 1], scene, focus, forced)
        trace["level0"] = x.coords
        completion = None
        if self.config.completion.enabled:
            x, text, completion = self._complete(x, upsampled, probability, levels[0], scene, text, text_lengths)
            trace["completed"] = x.coords
        x = self.out_block_0(self.lateral_block_0(x))
        query = x.coords[:, 0].long()
        said = TextFeatures(torch.cat([text, told], 1), text_lengths).sentence  # (Q, 2C)
        backbone = features_at(levels[0], x, scene) if self.match is not None else None
        at, boxes, logits, fused = self.boxes(x, backbone, said, query)
        return HeadOutput(at, query, boxes, logits, fused, said, x.feats, keep, completion, trace)

    def begin(self, coarse: SparseTensor) -> Begun:
        """What no sentence enters: once serves all of a scene's."""
        place = self._place(positions(coarse, self.config.voxel_size, self._half))
        stack: FusionStack = self.keep_trans[1]  # type: ignore[assignment]
        return Begun(coarse.replace(stack.begin(coarse.feats, place, coarse.lengths)), place)

    def boxes(
        self, x: SparseTensor, backbone: Tensor | None, said: Tensor, query: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A box for each voxel.

        Args:
            x: N level-0 voxels; ``backbone`` (N, C) what the backbone alone knows of them, read where the head matches.
            said: (Q, 2C) sentence tokens after the attention stacks, then before; ``query`` (N,) that of each voxel.

        Returns:
            positions (N, 3) and boxes (N, 6) in metres, score logits (N,), and the fused features (N, C) behind both.
        """
        sentence = said[:, : x.feats.shape[1]]
        fused = self.fuse(x.replace(torch.cat([x.feats, sentence[query]], 1)))
        if self.match is not None:
            assert backbone is not None
            fused = fused.replace(self.match(torch.cat([x.feats, backbone], 1), said, query, residual=fused.feats))
        x = fused
        at = positions(x, self.config.voxel_size, self._half)
        raw = self.bbox_conv(x).feats
        boxes = torch.cat([at + raw[:, :3], raw[:, 3:].clamp(*LOG_SIZE_RANGE).exp()], 1)
        return at, boxes, self.cls_conv(x).feats[:, 0], x.feats

    def _place(self, at: Tensor) -> Place:
        return Place(at, self.pos_embed(at))

    def _attend(
        self, stack: nn.Module, x: SparseTensor, at: Tensor, text: Tensor, text_lengths: list[int], limit: int,
        begun: bool = False, place: Place | None = None,
    ) -> tuple[SparseTensor, Tensor]:  # fmt: skip
        """Runs an attention stack over voxels at (N, 3) metres (``place``, where it is known); in training on a random
        ``limit`` of each sentence's voxels, the rest pass by."""
        if not self._exceeds(x, limit):
            voxels, text = stack(x.feats, place or self._place(at), x.lengths, text, text_lengths, begun)
            return x.replace(voxels), text
        mask = top_mask(torch.rand(len(at), device=at.device), x.offsets, limit)
        rows = mask.nonzero().squeeze(1)
        lengths = [min(length, limit) for length in x.lengths]
        voxels, text = stack(x.feats[rows], self._place(at[rows]), lengths, text, text_lengths)
        return x.replace(x.feats.index_copy(0, rows, voxels)), text

    def _exceeds(self, x: SparseTensor, limit: int) -> bool:
        """Whether a training step has to leave voxels out of the attention stack."""
        return self.training and limit > 0 and max(x.lengths) > limit

    def _forced(
        self, level: int, x: SparseTensor, scores: Tensor, focus: Focus | None, forced: Tensor | None
    ) -> Tensor:
        """Scores with the true region of the forced sentences raised above all others."""
        if focus is None or forced is None:
            return scores
        side = self.config.pruning.cube_sides[max(level, 1) - 1]
        query = x.coords[:, 0].long()
        at = positions(x, self.config.voxel_size, self._half)
        inside = inside_cubes(at, query, focus.region_centers, focus.region_query, side)
        return scores + (inside & forced[query]).to(scores.dtype)

    def _kept(self, level: int, probability: SparseTensor, focus: Focus | None, forced: Tensor | None) -> Tensor | None:
        """(N,) bool: the voxels that stay; None where all do."""
        pruning, x, scores, i = self.config.pruning, probability, probability.feats[:, 0], level - 1
        if not pruning.enabled:
            return None
        if self.training:
            if not pruning.train_keep[i]:
                return None
            return top_mask(self._forced(level, x, scores, focus, forced), x.offsets, pruning.train_keep[i])
        if pruning.thresholds[i] <= 0 and not pruning.keep_max[i]:  # every probability is above
            return None
        return inference_mask(scores, x.offsets, pruning.thresholds[i], pruning.keep_min[i], pruning.keep_max[i])

    def _upsample(
        self, level: int, x: SparseTensor, kept: Tensor | None, probability: SparseTensor, finer: SparseTensor,
        scene: Tensor, focus: Focus | None, forced: Tensor | None,
    ) -> tuple[SparseTensor, SparseTensor]:  # fmt: skip
        """To the finer level, plus the backbone's features (pruning-aware addition) -> (all, those that enter).

        x: the voxels with a ``probability`` of which those ``kept`` are left; None for all."""
        pruning = self.config.pruning
        block = getattr(self, f"up_block_{level}")
        occupied = pruning.upsample[level - 1] == "occupied"
        up = sparse.replicate(finer, scene) if occupied else block(x)
        if occupied and pruning.enabled and not (level == 2 and kept is None):  # all of level 2 has all parents
            left = x.replace(probability.feats if kept is None else probability.feats[kept])
            up = up.prune(scores_at(left, up, self._half) > 0)
        mask, limit = None, self._enter_limit(level)
        if limit and max(up.lengths) > limit:
            scores = self._forced(level - 1, up, scores_at(probability, up, self._half), focus, forced)
            mask = top_mask(scores, up.offsets, limit)
        if not occupied:
            entering = up if mask is None else up.prune(mask)
            return up, entering.replace(entering.feats + features_at(finer, entering, scene))
        if mask is not None and level == 2 and not self.training:  # of level 1 nobody reads what does not enter
            up, mask = up.prune(mask), None
        found = up.feats
        up = block(x, up)
        entering = up.replace(up.feats + found)
        return up, entering if mask is None else entering.prune(mask)

    def _enter_limit(self, level: int) -> int:
        """How many voxels of a sentence may enter the level below ``level``; 0 for all."""
        pruning = self.config.pruning
        if not pruning.enabled:
            return 0
        if not self.training:
            return pruning.enter_max[level - 1]
        low, high = pruning.train_enter[level - 1]
        return int(torch.randint(low, high + 1, ()))

    def _complete(
        self, x: SparseTensor, upsampled: SparseTensor, probability: SparseTensor, level0: SparseTensor, scene: Tensor,
        text: Tensor, text_lengths: list[int],
    ) -> tuple[SparseTensor, Tensor, VoxelLogits]:  # fmt: skip
        """Completion-based addition (TSP3D, section 3.3): brings back voxels of the scan that pruning lost."""
        config = self.config.completion
        candidates = sparse.replicate(level0, scene)
        if max(candidates.lengths) > config.candidates:
            if config.select == "random":
                scores = torch.rand(len(candidates.feats), device=candidates.feats.device)
            elif config.select == "scattered":
                scores = scattered_scores(candidates)
            else:
                scores = scores_at(probability, candidates, self._half)
            candidates = candidates.prune(top_mask(scores, candidates.offsets, config.candidates))
        at = positions(candidates, self.config.voxel_size, self._half)
        candidates, text = self._attend(self.com_trans, candidates, at, text, text_lengths, 0)
        weight, bias = self.com_cls.weight, self.com_cls.bias
        assert bias is not None
        layers = layers_of(self.com_cls, candidates.feats, [weight, bias], lambda: [(weight.squeeze(2), bias)])
        logits = linear(candidates.feats, layers[0])[:, 0]
        add = (logits.detach().sigmoid() > config.threshold) & sparse.difference_mask(candidates, x)
        found = VoxelLogits(at, candidates.batch, logits)
        added = candidates.prune(add)
        if self.refine is not None:
            again = candidates.replace(linear(candidates.feats, self.refine))
            x = x.replace(x.feats + sparse.align_features(again, x.coords))
        if self.training or len(added):  # a step of training needs gradients of nothing, too
            added = added.replace(added.feats + sparse.align_features(upsampled, added.coords))
            x = sparse.union(x, added)
        return x, text, found


def _block(dim: int) -> ConvNorm:
    return ConvNorm(snn.Conv3d(dim, dim, 3), snn.BatchNorm(dim))
