"""Configuration of the grounding network: typed dataclasses, read from YAML or JSON with omegaconf."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from .text import TextConfig


@dataclass
class BackboneConfig:
    """Sparse residual backbone (spec: ResNet-34 of basic blocks, tensor strides 8, 16, 32, 64)."""

    in_channels: int = 6
    stem_channels: int = 64
    stem_pool: bool = True
    """Max-pool of kernel 2, stride 2 after the stem; without it every stage is at half the stride."""
    channels: list[int] = field(default_factory=lambda: [64, 128, 128, 128])
    blocks: list[int] = field(default_factory=lambda: [3, 4, 6, 3])
    input_skip: bool = False
    """Adds to each level what its voxels hold on average: colour, height and where in the voxel the points lie."""
    point_levels: int = 0
    """Levels, from the finest, that also get a pooled point feature of their voxels' content."""


@dataclass
class FusionConfig:
    """The text-voxel attention stacks."""

    dim: int = 128
    heads: int = 8
    layers: int = 2
    feedforward: int = 128
    dropout: float = 0.1
    spatial: bool = False
    """Attention among voxels sees their offsets, and returns where it looked (see :mod:`tsp3d.models.spatial`)."""
    gate: int = 0
    """Width of a product between a voxel and what it read in the sentence, beside the sum; 0 for none."""


@dataclass
class PruningConfig:
    """Text-guided pruning. Lists hold (level 1 = entering level 0, level 2 = entering level 1)."""

    enabled: bool = True
    layers: list[int] = field(default_factory=lambda: [0, 0])
    """Layers of the attention stacks before pruning; 0 for ``fusion.layers``."""
    thresholds: list[float] = field(default_factory=lambda: [0.3, 0.7])
    keep_min: list[int] = field(default_factory=lambda: [32, 32])
    """At inference the K most probable voxels always stay, so that a result exists even if every voxel falls below."""
    keep_max: list[int] = field(default_factory=lambda: [0, 0])
    """At inference at most the K most probable voxels stay; 0 for no limit."""
    stack_max: list[int] = field(default_factory=lambda: [3200, 320])
    """In training at most this many voxels of a sentence enter the attention stack."""
    train_keep: list[int] = field(default_factory=lambda: [0, 0])
    """In training the K best voxels are up-sampled; 0 up-samples all (the release)."""
    train_enter: list[list[int]] = field(default_factory=lambda: [[1200, 3999], [4000, 4000]])
    """In training K ~ U[low, high] voxels stay after up-sampling, by interpolated keep score."""
    enter_max: list[int] = field(default_factory=lambda: [0, 0])
    """At inference at most this many voxels stay after up-sampling, by interpolated keep score; 0 for no limit."""
    upsample: list[str] = field(default_factory=lambda: ["generative", "generative"])
    """"generative" makes every child of the kernel; "occupied" only those that the scan has voxels at."""
    teacher_forcing: float = 0.0
    """Share of training sentences whose true region is never pruned."""
    cube_sides: list[float] = field(default_factory=lambda: [1.04, 2.08])
    """Side (m) of the cubes around box centres that are the keep targets."""
    scene_level: bool = True
    """Level 2 keeps the surroundings of every object of the scene, not only of target and anchors."""


@dataclass
class CompletionConfig:
    """Completion-based addition at level 0."""

    enabled: bool = True
    layers: int = 0
    """Layers of the attention stack; 0 for ``fusion.layers``."""
    candidates: int = 2400
    select: str = "score"
    """"score": the candidates with the highest interpolated keep probability; "random": the release (quirk);
    "scattered": as evenly as at random, but the same in every run."""
    threshold: float = 0.15
    positives: int = 32
    refine: bool = False
    """Adds what the completion's attention found at its candidates to the voxels that were there already."""


@dataclass
class HeadConfig:
    positives: int = 32
    positive_margin: float = 0.0
    """A box's positives lie in it or at most so far (m) outside, the nearest four excepted; 0 for no such limit."""
    match: int = 0
    """Products between voxel and sentence that enter the score and the box, each of 8 channels; 0 for none."""
    vote_iou: float = 0.0
    """At inference boxes that overlap by more than this vote together and are averaged; 0 for none."""
    prior: float = 0.01
    quality: bool = False
    """Score targets are (1 + IoU of the predicted box) / 2 instead of 1, so that the better box ranks first."""
    min_score: float = 0.3
    """Below this score a result says "not found"."""


@dataclass
class MaskConfig:
    """Logits of the points in a predicted box: does each belong to the object?"""

    enabled: bool = False
    hidden: int = 32
    enlarge: float = 0.1
    """A box is looked at with so much of its size more on each side…"""
    margin: float = 0.05
    """…and so many metres."""
    train_voxels: int = 2048
    """In training at most this many voxels of a box, drawn at random; 0 for all."""


@dataclass
class PresenceConfig:
    """A logit of the sentence: does anything in the scene fit it?"""

    enabled: bool = False
    hidden: int = 64


@dataclass
class CalibrationConfig:
    """What tools/calibrate.py fits on validation rooms. The defaults reject nothing."""

    scale: float = 1.0
    """Presence is sigmoid(scale * logit + bias), Platt's scaling; without a presence head the logit is that of the best
    box's score."""
    bias: float = 0.0
    min_presence: float = 0.0
    """Below this presence the answer is that nothing fits."""
    several_share: float = 0.5
    """Of several objects, boxes that score at least this share of the best are taken."""
    several_iou: float = 0.25
    """…and that overlap no better one by more."""
    fitted_on: str = ""
    """The data; empty where nothing was fitted."""


@dataclass
class AuxiliaryConfig:
    """Training-only losses on the backbone: class by alignment with the text encoder, and boxes, for every object."""

    enabled: bool = False
    classes: list[str] = field(default_factory=list)
    colors: list[str] = field(default_factory=list)
    dim: int = 64


@dataclass
class LossWeights:
    box: float = 1.0
    score: float = 1.0
    rank: float = 0.0
    """Softmax over a sentence's voxels: the share that its positives have."""
    keep: float = 1.0
    completion: float = 1.0
    mask: float = 1.0
    presence: float = 0.5
    auxiliary: float = 1.0
    text: float = 0.5


@dataclass
class CompatConfig:
    """Quirks of the TSP3D release, for published weights. All off by default (spec/tsp3d-model.md)."""

    prune_sign: bool = False
    """The keep convolution predicts *prune*: keep probability = 1 - sigmoid(logit)."""
    no_half_voxel: bool = False
    """Box centres are offsets from the voxel's minimum corner instead of its centre."""
    rgb_mean: bool = True
    """Colours enter as (rgb - (109.8, 97.2, 83.8) / 256); otherwise rgb - 0.5."""
    rgb_256: bool = False
    """Bytes of colour are divided by 256 instead of 255."""


@dataclass
class ModelConfig:
    name: str = "tsp3d-base"
    voxel_size: float = 0.01
    voxel_reduce: str = "first"
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    text: TextConfig = field(default_factory=TextConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    pruning: PruningConfig = field(default_factory=PruningConfig)
    completion: CompletionConfig = field(default_factory=CompletionConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    mask: MaskConfig = field(default_factory=MaskConfig)
    presence: PresenceConfig = field(default_factory=PresenceConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    auxiliary: AuxiliaryConfig = field(default_factory=AuxiliaryConfig)
    loss: LossWeights = field(default_factory=LossWeights)
    compat: CompatConfig = field(default_factory=CompatConfig)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def hash(self) -> str:
        """First 12 hex digits of the SHA-256 of the configuration's sorted JSON."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:12]


def model_config(values: dict[str, Any]) -> ModelConfig:
    """A :class:`ModelConfig` from nested values over the defaults; an unknown or ill-typed key raises with its name."""
    merged = OmegaConf.merge(OmegaConf.structured(ModelConfig), OmegaConf.create(values))
    config = OmegaConf.to_object(merged)
    assert isinstance(config, ModelConfig)
    return config


def load_model_config(path: str | Path) -> ModelConfig:
    """Reads a model YAML (``configs/model/*.yaml``) or a ``config.json`` written by ``save_pretrained``."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no model configuration at {path}; give a YAML of configs/model or a config.json")
    values = OmegaConf.to_container(OmegaConf.load(path))
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a mapping of fields, found {type(values).__name__}")
    return model_config({str(k): v for k, v in values.items()})
