"""Train a grounding network: python tools/train.py --config configs/train/tiny.yaml [--resume] [key=value …]

With a teacher: --distill NAME (a YAML of configs/distill) [distill.key=value …]
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import torch
import tyro
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.logging import RichHandler

from tsp3d.data import PreparedScenes
from tsp3d.data.annotated import SceneSet
from tsp3d.data.datasets import open_dataset
from tsp3d.distill.methods import build_method, load_distill_config
from tsp3d.io.errors import one_line
from tsp3d.models.config import load_model_config, model_config
from tsp3d.models.net import GroundingNet
from tsp3d.sparse import keep_freed_memory
from tsp3d.synth.types import CLASSES, COLORS
from tsp3d.training import ProcessLost, TrainConfig, load_train_config, overrides_last, train


def main(
    overrides: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    /,
    *,
    config: Path,
    resume: bool = False,
    distill: str = "",
) -> None:
    """Train a grounding network on prepared scenes.

    Args:
        overrides: key=value changes of the configuration, e.g. optim.lr=1e-3 data.folder=data/synth.
        config: YAML file of configs/train.
        resume: continue the run of this name from its newest checkpoint.
        distill: name of a configuration of configs/distill, or the path of one.
    """
    terminal = [RichHandler(show_path=False)] if sys.stderr.isatty() else None  # rich would wrap lines in a file
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=terminal)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the loader's workers are forked
    keep_freed_memory()
    try:
        settings = load_train_config(config, [*overrides, *([f"distill={distill}"] if distill else [])])
        if settings.threads:
            torch.set_num_threads(settings.threads)
        torch.manual_seed(settings.seed)
        net = build_net(settings.model, settings.model_overrides)
        scenes = open_split(settings, settings.data.split, settings.data.annotations)
        val_scenes = None
        if settings.log.validate_every:
            val_scenes = open_split(settings, settings.data.val_split, settings.data.val_annotations)
        teaching = None
        if settings.distill:
            teaching = build_method(load_distill_config(settings.distill, settings.distill_overrides), net)
        result = train(settings, net, scenes, val_scenes, resume, teaching=teaching)
    except (ImportError, OSError, ValueError, FloatingPointError, ProcessLost, KeyboardInterrupt) as error:
        raise SystemExit(f"train: {str(error) or 'interrupted'}") from error
    if torch.distributed.is_initialized():  # its threads must not outlive the interpreter
        torch.distributed.destroy_process_group()
    print(f"{'finished' if result.finished else 'stopped'} at step {result.step}; weights in {result.export}")
    if not result.finished:
        raise SystemExit(143)  # as SIGTERM would have it: no script shall go on with half a training


def open_split(settings: TrainConfig, split: str, annotations: str) -> SceneSet:
    """The scenes of a split, with the sentences that the configuration names; objects alone need none."""
    data = settings.data
    if settings.stage == "detection":
        return PreparedScenes(data.folder, split, require_sentences=False)
    return open_dataset(data.dataset, data.folder, split, annotations, data.skip_missing, data.tokens)


def build_net(path: str, overrides: list[str]) -> GroundingNet:
    """A network with fresh weights from a model YAML (or the config.json of a weights folder) and key=value changes."""
    try:
        merged = OmegaConf.merge(load_model_config(path).to_dict(), OmegaConf.from_dotlist(overrides))
        config = model_config(OmegaConf.to_container(merged))  # type: ignore[arg-type]
    except OmegaConfBaseException as error:
        raise ValueError(f"model configuration {path} with {overrides}: {one_line(error)}") from error
    known, auxiliary = (list(CLASSES), list(COLORS)), config.auxiliary
    if auxiliary.enabled and (auxiliary.classes, auxiliary.colors) != known:
        raise ValueError(
            f"{path}: auxiliary.classes and auxiliary.colors must be those of tsp3d/synth/types.py in their order, by "
            "which objects are numbered; or set model.auxiliary.enabled=false"
        )
    return GroundingNet(config)


if __name__ == "__main__":
    tyro.cli(main, args=overrides_last(sys.argv[1:]))
