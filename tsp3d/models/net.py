"""The grounding network: points and sentences in, scored boxes out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from tsp3d import sparse
from tsp3d.files import save_tensors, write_text
from tsp3d.sparse import SparseTensor
from tsp3d.sparse import nn as snn

from .answers import answer_losses
from .auxiliary import AuxiliaryHeads
from .backbone import Backbone, InputSkip
from .config import ModelConfig, load_model_config
from .decode import best_boxes, logit_of, several_boxes
from .head import Begun, GroundingHead
from .mask import MaskHead, MaskScene
from .presence import PresenceHead
from .supervision import TrainingOutputs, assign, completion_loss, head_losses, pruning_losses, targets_of
from .text import TextFeatures, build_text_encoder, load_text_encoder

if TYPE_CHECKING:
    from tsp3d.data.collate import GroundingBatch

RGB_MEAN = (109.8 / 256, 97.2 / 256, 83.8 / 256)
SENTENCES_AT_ONCE = 32  # at inference, to bound memory
SEVERAL_CANDIDATES = 64  # boxes that those of several objects are chosen from, …
SEVERAL_LOOSE_IOU = 0.5  # …which may overlap so much


@dataclass
class EncodedScene:
    """A scene's voxel features of levels 0, 1, 2, ready for any number of sentences."""

    levels: list[SparseTensor]
    points: int
    voxels: int
    begun: Begun
    """What the head begins with."""
    mask: MaskScene | None = None
    """What a mask head needs beside."""


class Trace(Mapping[str, Tensor]):
    """Voxels (n, 3) in metres (centres) that each stage kept of a sentence, worked out when they are asked for."""

    def __init__(self, coords: dict[str, Tensor], strides: dict[str, int], sentence: int, voxel_size: float) -> None:
        """``coords``: by stage the base voxels (N, 4) of all sentences; ``strides``: of each stage."""
        self._coords, self._strides, self._sentence, self._size = coords, strides, sentence, voxel_size

    def __getitem__(self, stage: str) -> Tensor:
        coords = self._coords[stage]
        mine = coords[coords[:, 0] == self._sentence, 1:]
        return (mine.float() + self._strides[stage] / 2) * self._size

    def __iter__(self) -> Iterator[str]:
        return iter(self._coords)

    def __len__(self) -> int:
        return len(self._coords)


@dataclass
class Candidates:
    """Voxels of the head that a sentence's boxes are chosen from."""

    logits: Tensor
    """(N,)"""
    boxes: Tensor
    """(N, 6) centre and full size in metres."""
    features: Tensor
    """(N, C) fused."""
    presence: float | None
    """Logit that anything fits, where the network has a head for it."""
    trace: Mapping[str, Tensor]


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
    trace: Mapping[str, Tensor] = field(default_factory=dict)
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
            size, rows = self.config.voxel_size, [voxels.coordinate_set.rows_in(x.coordinate_set) for x in levels]
            levels = [skip(x, voxels, r, size) for skip, x, r in zip(self.input_skips, levels, rows, strict=True)]
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
        # A look at every number only where the sum of all leaves it open.
        if not bool(xyz.sum().isfinite()) and not bool(torch.isfinite(xyz).all()):
            raise ValueError("encode: xyz has NaN or infinite values; drop those points first (load_scan does)")
        if rgb is not None and rgb.shape != xyz.shape:
            raise ValueError(f"encode: rgb must be (N, 3) like xyz; got {tuple(rgb.shape)} for {tuple(xyz.shape)}")
        device = self.device
        voxels, row = self._voxelize(xyz.to(device, torch.float32), None if rgb is None else rgb.to(device), None, 1)
        levels = self._levels(voxels)
        mask = self.mask.prepare(voxels, row, levels) if self.mask is not None else None
        return EncodedScene(levels, len(xyz), len(voxels.feats), self.head.begin(levels[2]), mask)

    @torch.inference_mode()
    def ground(
        self, scene: EncodedScene, texts: list[str], top_k: int = 1, nms_iou: float = 0.25, several: bool = False
    ) -> list[RawGrounding]:
        """The best boxes for each sentence: :meth:`choose` of its :meth:`candidates`."""
        return [self.choose(found, top_k, nms_iou, several)[0] for found in self.candidates(scene, texts)]

    @torch.inference_mode()
    def candidates(self, scene: EncodedScene, texts: list[str]) -> Iterator[Candidates]:
        """What the head finds for each sentence, in their order."""
        self._check_eval("ground")
        finest = 4 * self.vision_backbone.stride
        for start in range(0, len(texts), SENTENCES_AT_ONCE):
            chunk = texts[start : start + SENTENCES_AT_ONCE]
            text = self._text(chunk)
            index = torch.zeros(len(chunk), dtype=torch.long, device=text.tokens.device)
            out = self.head(scene.levels, text.tokens, text.lengths, index, begun=scene.begun)
            presence = None
            if self.presence is not None:
                presence = self.presence(out.fused, out.logits, out.query, out.said).tolist()
            strides = {stage: finest * {"level1": 2, "level2": 4}.get(stage, 1) for stage in out.trace}
            borders = torch.searchsorted(out.query, torch.arange(len(chunk) + 1, device=out.query.device)).tolist()
            for q in range(len(chunk)):
                own = slice(*borders[q : q + 2])
                trace = Trace(out.trace, strides, q, self.config.voxel_size)
                logit = None if presence is None else presence[q]
                yield Candidates(out.logits[own], out.boxes[own], out.fused[own], logit, trace)

    @torch.inference_mode()
    def choose(
        self, found: Candidates, top_k: int = 1, nms_iou: float = 0.25, several: bool = False
    ) -> tuple[RawGrounding, Tensor]:
        """The best boxes among a sentence's candidates, and the row (k,) int64 of the candidate behind each.

        ``top_k`` > 1 suppresses boxes that overlap a better one by ``nms_iou``. ``several``: all that the sentence
        means, at most ``top_k``: as many as ``config.calibration`` says. Whether its presence is enough is the
        caller's to judge.
        """
        vote, calibration = self.config.head.vote_iou, self.config.calibration
        count, overlap = (SEVERAL_CANDIDATES, SEVERAL_LOOSE_IOU) if several else (top_k, nms_iou)
        boxes, scores, rows = best_boxes(found.logits, found.boxes, count, overlap, vote)
        best = float(scores.max()) if len(scores) else 0.0
        presence = self._present(logit_of(best) if found.presence is None else found.presence)
        if several:
            meant = several_boxes(boxes, scores, calibration.several_share, calibration.several_iou)[:top_k]
            boxes, scores, rows = boxes[meant], scores[meant], rows[meant]
        return RawGrounding(boxes, scores, found.features[rows], presence, found.trace), rows

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

    def detections(self, batch: GroundingBatch) -> tuple[list[SparseTensor], Tensor, Tensor, Tensor]:
        """What the auxiliary heads see in scenes, without a sentence.

        Returns:
            Voxel features of levels 0, 1, 2, and of the N voxels of level 0 what :meth:`AuxiliaryHeads.detect` gives.
        """
        assert self.auxiliary is not None
        levels = self._levels(self._voxelize(batch.xyz, batch.rgb, batch.batch, len(batch.boxes))[0])
        return levels, *self.auxiliary.detect(levels[0], self._prompts()[0], self.config.voxel_size)

    def _prompts(self) -> tuple[Tensor, Tensor]:
        config = self.config.auxiliary
        sentence = self._text(config.classes + config.colors).sentence
        return sentence[: len(config.classes)], sentence[len(config.classes) :]

    def _auxiliary_losses(
        self, batch: GroundingBatch, levels: list[SparseTensor], sentence: Tensor | None = None
    ) -> dict[str, Tensor]:
        if self.auxiliary is None:
            raise ValueError("this model has no auxiliary heads: set model.auxiliary.enabled=true in training")
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

    def forward_training(self, batch: GroundingBatch, supervised: bool = True) -> TrainingOutputs:
        """Runs a batch of scenes with their sentences, and keeps what losses are made of.

        Args:
            supervised: False keeps the sentences' boxes out of it: pruning goes by score alone and nothing is assigned,
                which is how a teacher runs, and a student that is told no boxes.
        """
        voxels, row = self._voxelize(batch.xyz, batch.rgb, batch.batch, len(batch.boxes))
        levels = self._levels(voxels)
        text = self._text(batch.texts)
        targets = targets_of(batch) if supervised else None
        focus = targets.focus if targets else None
        out = self.head(levels, text.tokens, text.lengths, batch.text_scene, focus)
        assigned = assign(self.config.head, out, targets) if targets else None
        return TrainingOutputs(voxels, row, levels, text, out, targets, assigned)

    def losses_of(self, outputs: TrainingOutputs, batch: GroundingBatch) -> dict[str, Tensor]:
        """The losses of a batch that :meth:`forward_training` ran with its boxes; "total" is their weighted sum."""
        targets, assigned, out = outputs.targets, outputs.assigned, outputs.head
        if targets is None or assigned is None:
            raise ValueError("losses_of needs outputs of forward_training(batch, supervised=True)")
        losses = head_losses(self.config, out, assigned, targets.boxes, len(batch.texts))
        losses |= pruning_losses(self.config, out, targets.focus, len(batch.texts))
        if out.completion is not None:
            losses["completion"] = completion_loss(self.config, out.completion, targets)
        losses |= answer_losses(self, batch, outputs)
        if self.auxiliary is not None:
            losses |= self._auxiliary_losses(batch, outputs.levels, outputs.text.sentence)
        losses["total"] = torch.stack(list(losses.values())).sum()
        return losses

    def losses(self, batch: GroundingBatch) -> dict[str, Tensor]:
        """All training losses of a batch of scenes with their sentences; "total" is their weighted sum."""
        return self.losses_of(self.forward_training(batch), batch)

    def answer_losses(self, batch: GroundingBatch) -> dict[str, Tensor]:
        """The losses of the mask and presence heads alone: the rest runs as at inference, and learns nothing."""
        if self.mask is None and self.presence is None:
            raise ValueError("this model has no mask or presence head: set model.mask.enabled=true in training")
        training = self.training
        self.eval()  # the boxes, and the features behind them, are those that the heads will meet
        with torch.no_grad():
            outputs = self.forward_training(batch, supervised=False)
        self.train(training)
        losses = answer_losses(self, batch, outputs)
        losses["total"] = torch.stack(list(losses.values())).sum()
        return losses

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
                state[name] = value.half() if half and value.ndim >= 2 else value
        save_tensors(folder / "model.safetensors", state)
        write_text(folder / "config.json", json.dumps(self.config.to_dict(), indent=2))

    @classmethod
    @torch.inference_mode(False)  # what is made in it neither learns nor counts its changes, and is not packed once
    def from_pretrained(cls, folder: str | Path, device: str | torch.device = "cpu") -> GroundingNet:
        """Reads what :meth:`save_pretrained` wrote, as float32 and in evaluation mode."""
        folder = Path(folder)
        config = load_model_config(folder / "config.json")
        config.auxiliary.enabled = False
        weights = folder / "model.safetensors"
        if not weights.is_file():
            raise FileNotFoundError(
                f"{folder} has a config.json but no model.safetensors: the model folder is incomplete"
            )
        with torch.random.fork_rng(devices=[]):  # the first weights are random, and the caller's numbers are his own
            net = cls(config, text_folder=folder / "text")
        try:
            state = load_file(weights)
        except SafetensorError as error:
            raise ValueError(f"{weights} is no whole safetensors file ({error}); fetch or save it again") from error
        missing, unexpected = net.load_state_dict(state, strict=False)
        missing = [name for name in missing if not name.startswith("text_encoder.")]
        if missing or unexpected:
            raise ValueError(
                f"{weights} does not fit {folder / 'config.json'}: missing {missing[:5]}, unexpected {unexpected[:5]}"
            )
        return net.to(device, torch.float32).eval()
