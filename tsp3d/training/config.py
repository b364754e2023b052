"""Configuration of a training run: typed dataclasses, read from YAML with ``key=value`` overrides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from tsp3d.data.loader import DataConfig
from tsp3d.io.errors import one_line

LIMITS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(
        ("seed", "threads", "data.scenes_per_step", "data.bare_scenes", "data.sentences_per_scene",
         "data.unlabelled_sentences", "data.points_per_scene", "data.workers", "data.augment.cut_height",
         "optim.max_minutes", "optim.lr", "optim.warmup_steps", "optim.weight_decay", "log.validate_every"),
        (0, math.inf),
    ),
    **dict.fromkeys(("data.detection_names", "data.prefetch", "optim.steps", "log.every"), (1, math.inf)),
    **dict.fromkeys(
        ("data.sentence_share", "data.labelled_share", "data.mirror_probability", "data.detection_probability",
         "data.absent_probability", "data.augment.flip", "data.augment.color_drop",
         "data.augment.cut", "optim.ema"), (0, 1),
    ),
}  # fmt: skip
"""Least and greatest value of settings that would otherwise fail late, or do something else without a word."""


@dataclass
class OptimConfig:
    """AdamW and its schedule: linear warm-up, then a cosine down to ``final_lr``, or steps of a tenth."""

    steps: int = 20_000
    """Steps of the whole run."""
    max_minutes: float = 0.0
    """Wall-clock budget of the whole run, over all resumes; 0 for none. Progress is that of the budget or of the steps,
    whichever is further, so that the schedule ends with the time."""
    lr: float = 5e-4
    text_lr_scale: float = 1.0
    """Factor on the learning rate of the text encoder's parameters."""
    text_prefix: str = "text_encoder"
    """Parameters whose name begins with this belong to the text encoder."""
    final_lr: float = 0.01
    """Learning rate at the end, as a share of ``lr``."""
    decay_at: list[float] = field(default_factory=list)
    """Instead of the cosine: shares of the run, 0 to 1, at which the learning rate falls to a tenth."""
    warmup_steps: int = 500
    weight_decay: float = 5e-4
    betas: list[float] = field(default_factory=lambda: [0.9, 0.99])
    clip: float = 1.0
    """Greatest norm of the gradient; 0 for no clipping."""
    ema: float = 0.999
    """Decay of the averaged weights; 0 for none."""
    precision: str = "no"
    """On a GPU: "no", "bf16", "fp16" or "auto" (bf16 where the GPU has it, else fp16). The CPU computes in fp32."""


@dataclass
class LogConfig:
    """What a run tells, and when."""

    every: int = 50
    checkpoint_minutes: float = 5.0
    keep_checkpoints: int = 2
    validate_every: int = 1000
    """Steps between quick validations; 0 for none."""
    validate_scenes: int = 24
    validate_queries: int = 8
    """Sentences of each scene of the quick validation."""
    validate_points: int = 40_000


@dataclass
class TrainConfig:
    """A run. Its files go to ``out``/``name``."""

    name: str = "tiny"
    out: str = "runs"
    seed: int = 0
    model: str = "configs/model/tsp3d-tiny.yaml"
    model_overrides: list[str] = field(default_factory=list)
    """``key=value`` changes of the model's configuration, e.g. ``pruning.enabled=false``."""
    stage: str = "grounding"
    """"grounding" trains on sentences (``net.losses``), "detection" on objects alone (``net.detection_losses``),
    "answers" the mask and presence heads alone (``net.answer_losses``)."""
    distill: str = ""
    """A teacher's method: name of a YAML in ``configs/distill``, or its path; "" for none."""
    distill_overrides: list[str] = field(default_factory=list)
    """``key=value`` changes of that configuration, e.g. ``control=random``."""
    init_from: str = ""
    """Weights to start from: a run's folder (all of them), a folder of ``save_pretrained`` or a safetensors file."""
    strict: bool = True
    """False lets ``init_from`` lack weights, or have other shapes; what is not loaded is listed."""
    init_skip: list[str] = field(default_factory=list)
    """Prefixes of the names of weights that ``init_from`` leaves out, e.g. [head.] to train a head anew."""
    freeze: list[str] = field(default_factory=list)
    """Prefixes of the names of parameters that stay as they are; the statistics of batch norm still follow the data."""
    threads: int = 0
    """Threads of PyTorch's CPU operators; 0 leaves its choice."""
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    log: LogConfig = field(default_factory=LogConfig)

    @property
    def folder(self) -> Path:
        """Folder of the run's files."""
        return Path(self.out) / self.name


def load_train_config(path: str | Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a YAML of ``configs/train``. ``base: other.yaml`` in it (relative to it) is read first.

    Args:
        overrides: ``key=value`` with dotted keys, e.g. ``optim.lr=1e-3``; ``model.key=value`` changes the model's
            configuration (it is added to ``model_overrides``), ``distill.key=value`` the distillation's.

    Raises:
        FileNotFoundError: no such file.
        ValueError: unknown key, a value of the wrong type or out of its range, named.
    """
    merged = OmegaConf.structured(TrainConfig)
    try:
        for layer in _layers(Path(path)):
            merged = OmegaConf.merge(merged, layer)
        for item in overrides:
            if "=" not in item:
                raise ValueError(f"override {item!r} has no '='; write key=value, e.g. optim.lr=1e-3")
        # Nothing behind the = is meant as an empty text, and would be read as null.
        overrides = [f"{item}''" if item.endswith("=") else item for item in overrides]
        own = [item for item in overrides if not item.startswith(("model.", "distill."))]
        config = OmegaConf.to_object(OmegaConf.merge(merged, OmegaConf.from_dotlist(own)))
    except (OmegaConfBaseException, YAMLError) as error:
        raise ValueError(f"training configuration {path} with {list(overrides)}: {one_line(error)}") from error
    assert isinstance(config, TrainConfig)
    config.model_overrides += [item.removeprefix("model.") for item in overrides if item.startswith("model.")]
    config.distill_overrides += [item.removeprefix("distill.") for item in overrides if item.startswith("distill.")]
    if config.stage not in ("grounding", "detection", "answers"):
        raise ValueError(f"stage is {config.stage!r}; it must be 'grounding', 'detection' or 'answers'")
    if config.distill and config.stage != "grounding":
        raise ValueError(f"distill={config.distill} needs stage=grounding: the methods teach what sentences mean")
    if config.distill_overrides and not config.distill:
        raise ValueError(f"distill.{config.distill_overrides[0]}: which method? pass --distill NAME")
    if config.optim.precision not in ("auto", "no", "bf16", "fp16"):
        raise ValueError(f"optim.precision is {config.optim.precision!r}; it must be auto, no, bf16 or fp16")
    _check_ranges(config)
    return config


def overrides_last(arguments: Sequence[str]) -> list[str]:
    """A command line of ``tools/train.py`` with its ``key=value`` overrides behind its options: they may stand
    anywhere, but a parser takes what has no dashes in one piece."""

    def is_override(pair: tuple[str, str]) -> bool:
        item, before = pair
        return "=" in item and not item.startswith("-") and before not in ("--config", "--distill")

    return [item for item, _ in sorted(zip(arguments, ["", *arguments], strict=False), key=is_override)]


def _check_ranges(config: TrainConfig) -> None:
    data, optim = config.data, config.optim
    for name, (least, greatest) in LIMITS.items():
        value = reduce(getattr, name.split("."), config)
        if not least <= value <= greatest:  # type: ignore[operator]
            wanted = f"at least {least}" if greatest == math.inf else f"from {least} to {greatest}"
            raise ValueError(f"{name} is {value}; it must be {wanted}")
    if not all(0 <= share <= 1 for share in optim.decay_at):
        raise ValueError(f"optim.decay_at is {optim.decay_at}; give shares of the run from 0 to 1, not epochs or steps")
    if len(optim.betas) != 2:
        raise ValueError(f"optim.betas is {optim.betas}; give two numbers")
    spoken = data.sentences_per_scene or data.unlabelled_sentences or data.detection_probability == 1
    if config.stage != "detection" and not (data.scenes_per_step and spoken):
        raise ValueError(
            f"stage={config.stage} needs sentences in each step: set data.scenes_per_step and "
            "data.sentences_per_scene to 1 or more"
        )


def _layers(path: Path, depth: int = 0):
    if not path.is_file():
        raise FileNotFoundError(f"no training configuration at {path}; see configs/train")
    if depth > 8:
        raise ValueError(f"{path}: 'base' goes round in a circle")
    values = OmegaConf.load(path)
    if not isinstance(values, DictConfig):
        raise ValueError(f"{path}: expected key: value lines, found {type(OmegaConf.to_container(values)).__name__}")
    base = values.pop("base", None)
    if base is not None and not isinstance(base, str):
        raise ValueError(f"{path}: base is {base!r}; give the name of another YAML")
    layers = _layers(path.parent / base, depth + 1) if base else []
    return [*layers, values]
