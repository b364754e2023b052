"""The grounding network: points and sentences in, scored boxes out."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from tsp3d import losses as L
from tsp3d import sparse
from tsp3d.files import replacing, write_text
from tsp3d.sparse import SparseTensor
from tsp3d.sparse import nn as snn

from .auxiliary import AuxiliaryHeads
from .backbone import Backbone, InputSkip
from .config import ModelConfig, load_model_config
from .decode import best_boxes, several_boxes
from .head import Focus, GroundingHead, HeadOutput, VoxelLogits
from .mask import MaskHead, MaskScene, mask_loss
from .presence import PresenceHead
from .text import TextFeatures, build_text_encoder, load_text_encoder

if TYPE_CHECKING:
    from tsp3d.data.collate import GroundingBatch

RGB_MEAN = (109.8 / 256, 97.2 / 256, 83.8 / 256)
MIN_INSIDE = 8  # a sentence without a target must not outweigh those that have one
SENTENCES_AT_ONCE = 32  # at inference, to bound memory
SEVERAL_CANDIDATES = 64  # boxes that those of several objects are chosen from, …
SEVERAL_LOOSE_IOU = 0.5  # …which may overlap so much
MASKS_OF_A_SENTENCE = 3  # boxes of a sentence whose masks a training step looks at
MASK_IOU = 0.25  # a box that overlaps no object by more has no mask to learn


@dataclass
class EncodedScene:
    """A scene's voxel features of levels 0, 1, 2, ready for any number of sentences."""

    levels: list[SparseTensor]
    points: int
    voxels: int
    mask: MaskScene | None = None
    """What a mask head needs beside."""


@dataclass
class RawGrounding:
    """Boxes of one sentence, best first."""

    boxes: Tensor
    """(k, 6) centre and full size in metres."""
    scores: Tensor
    """(k,) in 0..1."""
    features: Tensor
    """(k, C) fused features of the voxels that the boxes are from."""
    presence: float
    """Calibrated probability that anything fits the sentence."""
    trace: dict[str, Tensor] = field(default_factory=dict)
    """Voxels (N, 3) in metres (centres) that each stage kept."""


class GroundingNet(nn.Module):
    def __init__(self, config: ModelConfig, text_folder: str | Path | None = None) -> None:
        """Builds the network with new weights; ``text_folder`` holds a saved text encoder to load instead."""
        super().__init__()
        self.config = config
        dim = config.fusion.dim
        self.vision_backbone = Backbone(config.backbone)
        self.projections = nn.ModuleList(
            nn.Identity() if c == dim else snn.Sequential(snn.Linear(c, dim), snn.BatchNorm(dim), snn.ReLU())
            for c in config.backbone.channels[1:]
        )
        self.input_skips = nn.ModuleList(
            InputSkip(dim, points=level < config.backbone.point_levels)
            for level in range(3 if config.backbone.input_skip else 0)
        )
        self.text_encoder = load_text_encoder(text_folder) if text_folder else build_text_encoder(config.text)
        self.text_projector = nn.Sequential(nn.Linear(self.text_encoder.dim, dim), nn.LayerNorm(dim, eps=1e-12))
        self.text_dropout = nn.Dropout(config.fusion.dropout)
        self.head = GroundingHead(config)
        self.mask = MaskHead(config.mask, dim, config.voxel_size) if config.mask.enabled else None
        self.presence = PresenceHead(dim, config.presence.hidden) if config.presence.enabled else None
        self.auxiliary = AuxiliaryHeads(config.auxiliary, dim) if config.auxiliary.enabled else None

    # ---- inputs

    def _voxelize(
        self, xyz: Tensor, rgb: Tensor | None, batch: Tensor | None, scenes: int
    ) -> tuple[SparseTensor, Tensor]:
        """-> voxels of xyz and colour, and the voxel (P,) of each point."""
        mean = xyz.new_tensor(RGB_MEAN) if self.config.compat.rgb_mean else xyz.new_full((3,), 0.5)
        scale = 255 / 256 if self.config.compat.rgb_256 else 1.0
        color = torch.zeros_like(xyz) if rgb is None else rgb.to(xyz.dtype) * scale - mean
        feats = torch.cat([xyz, color], 1)  # (P, 6)
        size, reduce = self.config.voxel_size, self.config.voxel_reduce
        return sparse.voxelize(xyz, feats, size, batch=batch, batch_size=scenes, reduce=reduce)

    def _levels(self, voxels: SparseTensor) -> list[SparseTensor]:
        levels = self.vision_backbone(voxels)
        levels = [project(x) for project, x in zip(self.projections, levels, strict=True)]
        if self.config.backbone.input_skip:
            size = self.config.voxel_size
            levels = [skip(x, voxels, size) for skip, x in zip(self.input_skips, levels, strict=True)]
        return levels

    def _text(self, texts: list[str]) -> TextFeatures:
        features = self.text_encoder(texts)
        return TextFeatures(self.text_dropout(self.text_projector(features.tokens)), features.lengths)

    # ---- inference

    @torch.inference_mode()
    def encode(self, xyz: Tensor, rgb: Tensor | None = None) -> EncodedScene:
        """Runs the backbone on one scene.

        Args:
            xyz: (N, 3) float metres, z up, the floor near z = 0.
            rgb: (N, 3) float 0..1, or None for a scan without colour.
        """
        self._check_eval("encode")
        if xyz.ndim != 2 or xyz.shape[1] != 3 or len(xyz) == 0:
            raise ValueError(f"encode: xyz must be (N, 3) with at least one point; got {tuple(xyz.shape)}")
        if not bool(torch.isfinite(xyz).all()):
            raise ValueError("encode: xyz has NaN or infinite values; drop those points first (load_scan does)")
        if rgb is not None and rgb.shape != xyz.shape:
            raise ValueError(f"encode: rgb must be (N, 3) like xyz; got {tuple(rgb.shape)} for {tuple(xyz.shape)}")
        device = self.device
        voxels, row = self._voxelize(xyz.to(device, torch.float32), None if rgb is None else rgb.to(device), None, 1)
        levels = self._levels(voxels)
        mask = self.mask.prepare(voxels, row, levels) if self.mask is not None else None
        return EncodedScene(levels, len(xyz), len(voxels.feats), mask)

    @torch.inference_mode()
    def ground(
        self, scene: EncodedScene, texts: list[str], top_k: int = 1, nms_iou: float = 0.25, several: bool = False
    ) -> list[RawGrounding]:
        """The best boxes for each sentence; ``top_k`` > 1 suppresses boxes that overlap a better one by ``nms_iou``.

        ``several``: all that the sentence means, at most ``top_k``: as many as ``config.calibration`` says. Whether its
        presence is enough is the caller's to judge.
        """
        self._check_eval("ground")
        results: list[RawGrounding] = []
        for start in range(0, len(texts), SENTENCES_AT_ONCE):
            chunk = texts[start : start + SENTENCES_AT_ONCE]
            text = self._text(chunk)
            index = torch.zeros(len(chunk), dtype=torch.long, device=self.device)
            out = self.head(scene.levels, text.tokens, text.lengths, index)
            if several:
                loose = self._decode(out, len(chunk), SEVERAL_CANDIDATES, SEVERAL_LOOSE_IOU)
                results += [self._meant(raw, top_k) for raw in loose]
            else:
                results += self._decode(out, len(chunk), top_k, nms_iou)
        return results

    def _meant(self, raw: RawGrounding, top_k: int) -> RawGrounding:
        calibration = self.config.calibration
        rows = several_boxes(raw.boxes, raw.scores, calibration.several_share, calibration.several_iou)[:top_k]
        return replace(raw, boxes=raw.boxes[rows], scores=raw.scores[rows], features=raw.features[rows])

    def _decode(self, out: HeadOutput, sentences: int, top_k: int, nms_iou: float) -> list[RawGrounding]:
        results, presence = [], None
        if self.presence is not None:
            presence = self.presence(out.fused, out.logits, out.query, out.said).tolist()
        for q in range(sentences):
            rows = (out.query == q).nonzero().squeeze(1)
            vote = self.config.head.vote_iou
            boxes, scores, kept = best_boxes(out.logits[rows], out.boxes[rows], top_k, nms_iou, vote)
            best = float(scores.max()) if len(scores) else 0.0
            logit = presence[q] if presence is not None else _logit(best)
            trace = {k: self._meters(c[c[:, 0] == q, 1:], k) for k, c in out.trace.items()}
            results.append(RawGrounding(boxes, scores, out.fused[rows[kept]], self._present(logit), trace))
        return results

    def _present(self, logit: float) -> float:
        calibration = self.config.calibration
        return 1 / (1 + math.exp(-min(max(calibration.scale * logit + calibration.bias, -60.0), 60.0)))

    @torch.inference_mode()
    def masks(self, scene: EncodedScene, raw: RawGrounding, which: Sequence[int] | None = None) -> list[Tensor] | None:
        """For each box of an answer, or for those at ``which``, the points of its object: indices (int64, ascending)
        into what :meth:`encode` got. None where the weights have no mask head."""
        self._check_eval("masks")
        if self.mask is None or scene.mask is None:
            return None
        chosen = range(len(raw.boxes)) if which is None else which
        wanted = torch.tensor(list(chosen), dtype=torch.long, device=self.device)
        boxes, where = raw.boxes[wanted], torch.zeros_like(wanted)
        region = self.mask.region(scene.mask, boxes, where.tolist())
        inside = self.mask(scene.mask, region, boxes, where, raw.features[wanted]) > 0
        result = []
        for k in range(len(boxes)):
            on = torch.zeros(scene.voxels, dtype=torch.bool, device=self.device)
            on[region.rows[inside & (region.query == k)]] = True
            result.append(on[scene.mask.row].nonzero().squeeze(1))
        return result

    def _meters(self, coords: Tensor, stage: str) -> Tensor:
        """Voxel centres of a stage's coordinates (N, 3)."""
        stride = 4 * self.vision_backbone.stride * {"level1": 2, "level2": 4}.get(stage, 1)
        return (coords.float() + stride / 2) * self.config.voxel_size

    @property
    def device(self) -> torch.device:
        return next(self.text_projector.parameters()).device

    def _check_eval(self, what: str) -> None:
        if self.training:
            raise RuntimeError(f"{what}() needs the network in evaluation mode: call net.eval() first")

    # ---- training

    def detection_losses(self, batch: GroundingBatch) -> dict[str, Tensor]:
        """Losses of the backbone alone, on every object of the scenes; "total" is their weighted sum."""
        voxels, _ = self._voxelize(batch.xyz, batch.rgb, batch.batch, len(batch.boxes))
        losses = self._auxiliary_losses(batch, self._levels(voxels))
        losses["total"] = torch.stack(list(losses.values())).sum()
        return losses

    def _prompts(self) -> tuple[Tensor, Tensor]:
        config = self.config.auxiliary
        sentence = self._text(config.classes + config.colors).sentence
        return sentence[: len(config.classes)], sentence[len(config.classes) :]

    def _auxiliary_losses(
        self, batch: GroundingBatch, levels: list[SparseTensor], sentence: Tensor | None = None
    ) -> dict[str, Tensor]:
        if self.auxiliary is None:
            raise RuntimeError("this model has no auxiliary heads: set auxiliary.enabled in its configuration")
        classes, colors = self._prompts()
        coords = torch.cat([batch.batch[:, None], torch.floor(batch.xyz / self.config.voxel_size).long()], 1).int()
        losses = self.auxiliary(
            levels,
            coords,
            batch.instance,
            batch.boxes,
            batch.classes,
            batch.colors,
            classes,
            colors,
            self.config.voxel_size,
        )
        weight = self.config.loss.auxiliary
        losses = {name: weight * value for name, value in losses.items()}
        if sentence is not None:
            scenes = zip(batch.text_scene.tolist(), batch.targets, strict=True)
            meant = [int(batch.classes[s][t[0]]) if len(t) == 1 else -1 for s, t in scenes]
            target = torch.tensor(meant, device=sentence.device)
            logits = self.auxiliary.text_logits(sentence, classes)
            if bool((target >= 0).any()):
                losses["text"] = self.config.loss.text * F.cross_entropy(logits, target, ignore_index=-1)
        return losses

    def losses(self, batch: GroundingBatch) -> dict[str, Tensor]:
        """All training losses of a batch of scenes with their sentences; "total" is their weighted sum."""
        voxels, row = self._voxelize(batch.xyz, batch.rgb, batch.batch, len(batch.boxes))
        levels = self._levels(voxels)
        text = self._text(batch.texts)
        focus, boxes, box_query = self._focus(batch)
        out = self.head(levels, text.tokens, text.lengths, batch.text_scene, focus)
        losses = self._head_losses(out, boxes, box_query, len(batch.texts))
        losses |= self._pruning_losses(out, focus, len(batch.texts))
        if out.completion is not None:
            losses["completion"] = self.config.loss.completion * self._completion_loss(out.completion, boxes, box_query)
        losses |= self._answer_losses(batch, voxels, row, levels, out)
        if self.auxiliary is not None:
            losses |= self._auxiliary_losses(batch, levels, text.sentence)
        losses["total"] = torch.stack(list(losses.values())).sum()
        return losses

    def answer_losses(self, batch: GroundingBatch) -> dict[str, Tensor]:
        """The losses of the mask and presence heads alone: the rest runs as at inference, and learns nothing."""
        if self.mask is None and self.presence is None:
            raise RuntimeError("this model has no mask or presence head: set mask.enabled in its configuration")
        training = self.training
        self.eval()  # the boxes, and the features behind them, are those that the head will meet
        with torch.no_grad():
            voxels, row = self._voxelize(batch.xyz, batch.rgb, batch.batch, len(batch.boxes))
            levels, text = self._levels(voxels), self._text(batch.texts)
            out = self.head(levels, text.tokens, text.lengths, batch.text_scene)
        self.train(training)
        losses = self._answer_losses(batch, voxels, row, levels, out)
        losses["total"] = torch.stack(list(losses.values())).sum()
        return losses

    def _answer_losses(
        self, batch: GroundingBatch, voxels: SparseTensor, row: Tensor, levels: list[SparseTensor], out: HeadOutput
    ) -> dict[str, Tensor]:
        losses = {}
        if self.mask is not None:
            losses["mask"] = self._mask_loss(batch, self.mask.prepare(voxels, row, levels), out)
        if self.presence is not None:
            present = torch.tensor([float(len(t) > 0) for t in batch.targets], device=out.logits.device)
            logit = self.presence(out.fused, out.logits, out.query, out.said)
            losses["presence"] = self.config.loss.presence * F.binary_cross_entropy_with_logits(logit, present)
        return losses

    def _mask_loss(self, batch: GroundingBatch, scene: MaskScene, out: HeadOutput) -> Tensor:
        """Of the best boxes of each sentence, right or wrong: a mask is that of the object which its box is on."""
        assert self.mask is not None
        boxes, features, scenes, objects = [], [], [], []
        for q, b in enumerate(batch.text_scene.tolist()):
            rows = (out.query == q).nonzero().squeeze(1)
            logits, predicted = out.logits[rows].detach(), out.boxes[rows].detach()
            best, _, kept = best_boxes(logits, predicted, MASKS_OF_A_SENTENCE, 0.25, self.config.head.vote_iou)
            iou, hit = sparse.box_iou_3d(best, batch.boxes[b]).max(1)
            good = iou > MASK_IOU
            boxes.append(best[good])
            features.append(out.fused[rows[kept[good]]])
            objects.append(hit[good])
            scenes += [b] * int(good.sum())
        if not scenes:
            return out.fused.sum() * 0.0
        box, where = torch.cat(boxes), torch.tensor(scenes, dtype=torch.long, device=batch.xyz.device)
        region = self.mask.region(scene, box, scenes, self.config.mask.train_voxels)
        logits = self.mask(scene, region, box, where, torch.cat(features))
        instance = torch.full_like(scene.color[:, 0], -1, dtype=torch.long)
        instance = instance.scatter_reduce(0, scene.row, batch.instance, "amax")
        target = (instance[region.rows] == torch.cat(objects)[region.query]).to(logits.dtype)
        return self.config.loss.mask * mask_loss(logits, target, region.query, len(box))

    def _focus(self, batch: GroundingBatch) -> tuple[Focus, Tensor, Tensor]:
        """-> the regions to keep, and the target boxes (M, 6) with the sentence (M,) of each."""
        device = batch.xyz.device
        scenes = batch.text_scene.tolist()

        def gather(chosen: list[Tensor]) -> tuple[Tensor, Tensor]:
            rows = [batch.boxes[s][c.to(batch.boxes[s].device)] for s, c in zip(scenes, chosen, strict=True)]
            query = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor([len(r) for r in rows]))
            return torch.cat(rows).to(device), query.to(device)

        boxes, box_query = gather(batch.targets)
        region, region_query = gather([torch.cat([t, a]) for t, a in zip(batch.targets, batch.anchors, strict=True)])
        everything, scene_query = gather([torch.arange(len(batch.boxes[s])) for s in scenes])
        focus = Focus(boxes[:, :3], box_query, region[:, :3], region_query, everything[:, :3], scene_query)
        return focus, boxes, box_query

    def _head_losses(self, out: HeadOutput, boxes: Tensor, box_query: Tensor, sentences: int) -> dict[str, Tensor]:
        config = self.config.head
        assigned = L.nearest_assignment(
            out.positions, out.query, boxes, box_query, config.positives, config.positive_margin
        )
        positive = (assigned >= 0).nonzero().squeeze(1)
        count = max(len(positive), 1)
        target = torch.zeros_like(out.logits)
        if len(positive):
            predicted, true = out.boxes[positive], boxes[assigned[positive]]
            box = L.diou_loss(predicted, true).mean()
            quality = (1 + L.paired_iou(predicted.detach(), true)) / 2 if config.quality else 1.0
            target[positive] = quality
        else:
            box = out.boxes.sum() * 0.0
        per_voxel = L.quality_focal_loss(out.logits, target) if config.quality else L.focal_loss(out.logits, target)
        weight = self.config.loss
        losses = {"box": weight.box * box, "score": weight.score * per_voxel.sum() / count}
        if weight.rank > 0:
            losses["rank"] = weight.rank * L.rank_loss(out.logits, out.query, assigned >= 0, sentences)
        return losses

    def _pruning_losses(self, out: HeadOutput, focus: Focus, sentences: int) -> dict[str, Tensor]:
        pruning = self.config.pruning
        losses = {}
        for level, kept in out.keep.items():
            centers, query = (focus.region_centers, focus.region_query)
            if level == 2 and pruning.scene_level:
                centers, query = focus.scene_centers, focus.scene_query
            inside = L.inside_cubes(kept.positions, kept.query, centers, query, pruning.cube_sides[level - 1]).float()
            # Focal over the number of voxels inside, per sentence, a third per level, mean over sentences.
            per_voxel = L.focal_loss(kept.logits, inside)
            total = per_voxel.new_zeros(sentences).index_add(0, kept.query, per_voxel)
            number = per_voxel.new_zeros(sentences).index_add(0, kept.query, inside)
            number = number.clamp(min=MIN_INSIDE)
            losses[f"keep{level}"] = self.config.loss.keep * (total / number).mean() / 3
        return losses

    def _completion_loss(self, found: VoxelLogits, boxes: Tensor, box_query: Tensor) -> Tensor:
        assigned = L.nearest_assignment(
            found.positions, found.query, boxes, box_query, self.config.completion.positives
        )
        target = (assigned >= 0).to(found.logits.dtype)
        return L.focal_loss(found.logits, target).sum() / target.sum().clamp(min=1)

    # ---- files

    def save_pretrained(self, folder: str | Path, half: bool = False) -> None:
        """Writes ``config.json``, ``model.safetensors`` (without the training-only heads) and ``text/``.

        ``half`` stores matrices and kernels as float16, for half the size; they are float32 again when loaded.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.text_encoder.save(folder / "text", half=half)
        state = {}
        for name, value in self.state_dict().items():
            if not name.startswith(("auxiliary.", "text_encoder.")):
                value = value.detach().cpu().contiguous()
                state[name] = value.half() if half and value.ndim >= 2 else value
        with replacing(folder / "model.safetensors") as path:
            save_file(state, path)
            path.chmod(0o644)  # safetensors makes files that only their owner reads
        write_text(folder / "config.json", json.dumps(self.config.to_dict(), indent=2))

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: str | torch.device = "cpu") -> GroundingNet:
        """Reads what :meth:`save_pretrained` wrote, in evaluation mode."""
        folder = Path(folder)
        config = load_model_config(folder / "config.json")
        config.auxiliary.enabled = False
        weights = folder / "model.safetensors"
        if not weights.is_file():
            raise FileNotFoundError(
                f"{folder} has a config.json but no model.safetensors: the model folder is incomplete"
            )
        net = cls(config, text_folder=folder / "text")
        missing, unexpected = net.load_state_dict(load_file(weights), strict=False)
        missing = [name for name in missing if not name.startswith("text_encoder.")]
        if missing or unexpected:
            raise ValueError(
                f"{weights} does not fit {folder / 'config.json'}: missing {missing[:5]}, unexpected {unexpected[:5]}"
            )
        return net.to(device).eval()


def _logit(p: float) -> float:
    p = min(max(p, 1e-6), 1 - 1e-6)
    return math.log(p / (1 - p))
