"""The training loop: one network, one dataset, resumable to the step."""

from __future__ import annotations

import logging
import math
import random
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed.nn  # see _accelerator
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, broadcast
from omegaconf import OmegaConf
from torch import Tensor, nn

from tsp3d.data.annotated import SceneSet
from tsp3d.data.collate import GroundingBatch
from tsp3d.data.loader import TrainingSamples, training_loader
from tsp3d.files import write_text
from tsp3d.io.errors import one_line
from tsp3d.training.checkpoint import load_checkpoint, load_weights, save_checkpoint, save_weights
from tsp3d.training.config import TrainConfig
from tsp3d.training.optim import AveragedWeights, build_optimizer, freeze, progress, rate
from tsp3d.training.record import Recorder
from tsp3d.training.validate import validate

if TYPE_CHECKING:
    from tsp3d.distill.base import Method

log = logging.getLogger(__name__)

LOST = re.compile(r"gloo|NCCL|[Cc]onnection (reset|closed|refused)")
"""In the messages of torch's backends when the other side of a connection is gone."""

MAX_BAD_STEPS = 20
"""Steps in a row with a gradient that is not finite before the run gives up."""


class ProcessLost(RuntimeError):
    """Another process of the run has ended without notice."""


class StageLosses(nn.Module):
    """A network as a module whose forward pass gives the losses of a stage, which is what accelerate wraps.

    Args:
        teaching: a distillation method, which then gives the losses.
    """

    def __init__(self, net: nn.Module, stage: str, teaching: Method | None = None) -> None:
        super().__init__()
        self.net = net
        self.teaching = teaching
        name = {"grounding": "losses", "detection": "detection_losses", "answers": "answer_losses"}[stage]
        self.method: Callable[[GroundingBatch], dict[str, Tensor]] = getattr(net, name)

    def forward(self, batch: GroundingBatch) -> dict[str, Tensor]:
        """Losses by name, "total" among them."""
        return self.method(batch) if self.teaching is None else self.teaching(self.net, batch)


@dataclass(frozen=True)
class TrainResult:
    """How a call of :func:`train` ended."""

    step: int
    """Steps done, over all calls."""
    finished: bool
    """False where a signal ended it early: the state is saved and the run can be resumed."""
    export: Path
    """Folder of the averaged weights, as ``save_pretrained`` writes."""


def train(
    config: TrainConfig,
    net: nn.Module,
    scenes: SceneSet,
    val_scenes: SceneSet | None = None,
    resume: bool = False,
    on_step: Callable[[int], None] | None = None,
    teaching: Method | None = None,
) -> TrainResult:
    """Train ``net`` in place and export its averaged weights to ``<out>/<name>/export``.

    Args:
        net: has ``losses(batch)`` (or ``detection_losses``), ``encode``, ``ground`` and ``save_pretrained``.
        scenes, val_scenes: training data, and data for quick validation (None: no validation).
        resume: continue from the newest checkpoint of ``<out>/<name>``, if there is one.
        on_step: called after each step with the number of steps done.
        teaching: a distillation method for ``net``, trained beside it; its ``export`` says what of it is kept.

    Raises:
        FileExistsError: the run has checkpoints and ``resume`` is False.
        ValueError: sentences without labels, and no method that labels them, or checkpoints of another stage.
        FloatingPointError: the gradient was not finite many times in a row.
        ProcessLost: another process of the run was killed or failed.
    """
    folder = config.folder
    checkpoints = folder / "checkpoints"
    if not resume and any(checkpoints.glob("step-*.pt")):
        raise FileExistsError(f"{checkpoints} has checkpoints: pass --resume to continue the run, or another name=…")
    if config.data.unlabelled_sentences and (teaching is None or not teaching.unlabelled):
        raise ValueError("data.unlabelled_sentences needs a method that labels them: --distill pseudo-labels")
    accelerator = _accelerator(config)
    needed = ("step", "elapsed", "scenes", "net", "optimizer", "averaged", "scaler", "config")
    state = load_checkpoint(checkpoints, needed) if resume else None
    if state is not None and (before := OmegaConf.create(state["config"])["stage"]) != config.stage:
        raise ValueError(
            f"{checkpoints} are of stage={before}, and this is stage={config.stage}: give it another name=…, and "
            f"init_from={folder} to begin with its weights"
        )
    if config.init_from and state is None:
        for note in load_weights(net, config.init_from, config.strict, config.init_skip):
            log.info("init_from: %s", note)
    freeze(net, config.freeze)
    net.to(accelerator.device)
    if teaching is not None:
        teaching.to(accelerator.device)
        teaching.prepare(net, scenes)  # type: ignore[arg-type]
    optimizer = build_optimizer(net, config.optim, teaching)
    model, optimizer = accelerator.prepare(StageLosses(net, config.stage, teaching), optimizer)
    averaged = AveragedWeights(net, config.optim.ema) if config.optim.ema > 0 else None

    step, elapsed_before = 0, 0.0
    if state is not None:
        step, elapsed_before = int(state["step"]), float(state["elapsed"])
        _restore(state, net, teaching, optimizer, averaged, accelerator)
        if state["scenes"] != len(scenes):
            log.warning("%d scenes now, %d before: the order of the scenes changes", len(scenes), state["scenes"])
    samples = TrainingSamples(scenes, config.data, config.seed, sentences=config.stage != "detection")
    rank, world = accelerator.process_index, accelerator.num_processes
    loader = training_loader(samples, step, config.optim.steps, rank, world)

    recorder = Recorder(config, step, active=accelerator.is_main_process)
    recorder.say(
        f"{len(scenes)} scenes, {sum(p.numel() for p in net.parameters() if p.requires_grad):,} trained parameters, "
        f"{accelerator.device}, precision {accelerator.mixed_precision}, from step {step}"
    )
    if accelerator.is_main_process:
        write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.structured(config)))

    begin = last_save = time.monotonic()
    bad_steps = 0
    saved_step = step
    model.train()
    with _signals() as caught, recorder, _peers(accelerator, checkpoints):

        def save() -> None:
            if accelerator.is_main_process:
                elapsed = elapsed_before + time.monotonic() - begin
                state = _state(step, elapsed, net, teaching, optimizer, averaged, accelerator, len(scenes), config)
                save_checkpoint(checkpoints, step, state, config.log.keep_checkpoints)

        for batch in loader:
            elapsed, stop = _agree(accelerator, elapsed_before + time.monotonic() - begin, bool(caught))
            if stop or progress(config.optim, step, elapsed) >= 1:
                break
            recorder.loaded()
            seed_step(config.seed, step, rank)
            factor = rate(config.optim, step, elapsed)
            statistics = [value.clone() for value in _float_buffers(model)]
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * factor
            losses = model(batch.to(accelerator.device))
            accelerator.backward(losses["total"])
            norm = _clip(accelerator, net, teaching, config.optim.clip)
            finite = math.isfinite(norm)
            if finite or accelerator.scaler is not None:  # which leaves a bad step out itself, and lowers its scale
                optimizer.step()
            if finite:
                bad_steps = 0
                if averaged is not None:
                    averaged.update(net)
                if teaching is not None:
                    teaching.after_step(net)  # type: ignore[arg-type]
            else:
                for value, kept in zip(_float_buffers(model), statistics, strict=True):
                    value.copy_(kept)  # batch norm has seen the bad batch
                bad_steps += 1
                log.warning("step %d: gradient norm is %s; the step is left out", step, norm)
                if bad_steps >= MAX_BAD_STEPS:
                    raise FloatingPointError(f"{bad_steps} steps in a row without a finite gradient: lower optim.lr")
            optimizer.zero_grad(set_to_none=True)
            step += 1
            recorder.step(step, elapsed, losses, norm, config.optim.lr * factor)
            if on_step:
                on_step(step)
            if config.log.validate_every and step % config.log.validate_every == 0 and accelerator.is_main_process:
                _export(net, averaged, folder, teaching)
                _validate(config, net, averaged, val_scenes, recorder, step)
            if time.monotonic() - last_save > 60 * config.log.checkpoint_minutes:
                save()
                last_save, saved_step = time.monotonic(), step
        elapsed, stop = _agree(accelerator, elapsed_before + time.monotonic() - begin, bool(caught))
        finished = progress(config.optim, step, elapsed) >= 1
        if saved_step != step or finished:
            save()
        if accelerator.is_main_process:
            _export(net, averaged, folder, teaching)
            if finished and config.log.validate_every and step % config.log.validate_every:
                _validate(config, net, averaged, val_scenes, recorder, step)
        recorder.say(
            f"{'finished' if finished else 'stopped; --resume continues'} at step {step}, {elapsed / 60:.1f} min"
        )
    accelerator.wait_for_everyone()
    return TrainResult(step, finished, folder / "export")


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Seed every random generator for one step, so that a step's randomness does not depend on what ran before it."""
    value = int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0])
    torch.manual_seed(value)
    np.random.seed(value)
    random.seed(value)


def _accelerator(config: TrainConfig) -> Accelerator:
    # The process group begins here. torch.distributed.nn, which DistributedDataParallel imports, would keep it for good
    # (in defaults of its functions) had it not been imported before; the group's threads would outlive
    # destroy_process_group then, and now and again abort the process at its exit.
    precision = config.optim.precision
    if not torch.cuda.is_available():
        precision = "no"
    elif precision == "auto":
        precision = "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    kwargs = DistributedDataParallelKwargs(find_unused_parameters=True)  # a batch may leave a branch without a voxel
    return Accelerator(mixed_precision=precision, kwargs_handlers=[kwargs])


def _agree(accelerator: Accelerator, elapsed: float, stop: bool) -> tuple[float, bool]:
    """The main process's clock, and whether any process was told to stop: all must leave the loop at the same step."""
    if accelerator.num_processes == 1:
        return elapsed, stop
    clock = broadcast(torch.tensor([elapsed], dtype=torch.float64, device=accelerator.device))
    stops = accelerator.gather(torch.tensor([int(stop)], device=accelerator.device))
    return float(clock[0]), bool(stops.any())  # type: ignore[index, union-attr]


def _clip(accelerator: Accelerator, net: nn.Module, teaching: Method | None, limit: float) -> float:
    """Clips the network's gradient and a method's own each by itself, so that a method's modules do not shorten the
    network's steps; returns the norm of both."""
    limit = limit if limit > 0 else math.inf
    norm = accelerator.clip_grad_norm_(net.parameters(), limit)
    norm = float(norm) if norm is not None else 0.0
    own = [] if teaching is None else [p for p in teaching.parameters() if p.grad is not None]
    return math.hypot(norm, float(nn.utils.clip_grad_norm_(own, limit))) if own else norm


def _float_buffers(module: nn.Module) -> list[Tensor]:
    return [value for value in module.buffers() if value.is_floating_point()]


def _validate(
    config: TrainConfig,
    net: nn.Module,
    averaged: AveragedWeights | None,
    scenes: SceneSet | None,
    recorder: Recorder,
    step: int,
) -> None:
    if scenes is None:
        return
    with _averaged(net, averaged):
        recorder.validation(step, validate(config, net, scenes))


def _export(net: nn.Module, averaged: AveragedWeights | None, run: Path, teaching: Method | None) -> None:
    """Write the averaged weights: ``export`` for use, ``averaged.safetensors`` (training-only parts too) to train on.

    ``export`` is written beside its place first, so that a reader finds the old weights or the new ones.
    """
    folder, partial, old = run / "export", run / "export.partial", run / "export.old"
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    with _averaged(net, averaged):
        net.save_pretrained(partial)  # type: ignore[operator]
        save_weights(run / "averaged.safetensors", net)
    if teaching is not None:
        teaching.export(partial)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _averaged(net: nn.Module, averaged: AveragedWeights | None) -> Iterator[None]:
    """The network with its averaged weights, in evaluation mode."""
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        if averaged is None:
            yield
        else:
            with averaged.applied(net):
                yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _state(
    step: int,
    elapsed: float,
    net: nn.Module,
    teaching: Method | None,
    optimizer: Any,
    averaged: AveragedWeights | None,
    accelerator: Accelerator,
    scenes: int,
    config: TrainConfig,
) -> dict[str, Any]:
    return {
        "step": step,
        "elapsed": elapsed,
        "scenes": scenes,
        "net": net.state_dict(),
        "teaching": teaching.state_dict() if teaching is not None else None,
        "optimizer": optimizer.optimizer.state_dict(),
        "averaged": averaged.state_dict() if averaged is not None else None,
        "scaler": accelerator.scaler.state_dict() if accelerator.scaler is not None else None,
        "config": OmegaConf.to_yaml(OmegaConf.structured(config)),
    }


def _restore(
    state: dict[str, Any],
    net: nn.Module,
    teaching: Method | None,
    optimizer: Any,
    averaged: AveragedWeights | None,
    accelerator: Accelerator,
) -> None:
    try:
        net.load_state_dict(state["net"])
        taught = state.get("teaching")
        if (taught is None) != (teaching is None):
            raise ValueError(f"it was trained {'without' if taught is None else 'with'} a distillation method")
        if teaching is not None and taught is not None:
            teaching.load_state_dict(taught)
        wanted = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
        optimizer.optimizer.load_state_dict(state["optimizer"])
        for group, settings in zip(optimizer.param_groups, wanted, strict=True):
            group.update(settings)  # rates and decays are those asked for now
        if averaged is not None:
            averaged.load_state_dict(state["averaged"] or AveragedWeights(net, averaged.decay).state_dict())
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"the checkpoint does not fit this network or optimiser ({one_line(error)}); resume with the configuration "
            "that the run began with (config.yaml in its folder), or start another run with init_from"
        ) from error
    if accelerator.scaler is not None and state["scaler"] is not None:
        accelerator.scaler.load_state_dict(state["scaler"])


@contextmanager
def _peers(accelerator: Accelerator, checkpoints: Path) -> Iterator[None]:
    """Says in plain words what a broken connection to another process means."""
    try:
        yield
    except RuntimeError as error:
        if accelerator.num_processes == 1 or not LOST.search(str(error)):
            raise
        message = (
            "another process of this run has ended (out of memory, killed, or by an error of its own further up); "
            f"start again with --resume to go on from the newest checkpoint in {checkpoints}"
        )
        log.error(message)  # now: whoever started the processes may end this one before it gets to say more
        raise ProcessLost(message) from error


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT instead of dying of them; a second one acts as it would have."""
    caught: list[int] = []
    previous: dict[int, Any] = {}

    def note(number: int, _: Any) -> None:
        caught.append(number)
        signal.signal(number, previous[number])

    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            previous[number] = signal.signal(number, note)
    except ValueError:  # not in the main thread: signals are not ours
        pass
    try:
        yield caught
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
