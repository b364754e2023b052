"""What a run tells while it runs: a log file, TensorBoard scalars, a progress bar."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from tsp3d.training.config import TrainConfig

log = logging.getLogger(__name__)


class Recorder:
    """Averages losses between log lines and writes them to ``train.log``, ``tensorboard/`` and the terminal.

    Args:
        active: False makes every method do nothing (all but the main process).
    """

    def __init__(self, config: TrainConfig, start: int, active: bool = True) -> None:
        self.config = config
        self.active = active
        self.sums: dict[str, Tensor] = {}
        self.count = 0
        self.waited = 0.0
        self.mark = self.step_end = time.monotonic()
        if not active:
            return
        folder = config.folder
        folder.mkdir(parents=True, exist_ok=True)
        self.file = open(folder / "train.log", "a", encoding="utf-8")  # noqa: SIM115 (closed in __exit__)
        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=start or None)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            transient=True,
        )
        self.task = self.bar.add_task(config.name, total=config.optim.steps, completed=start)

    def __enter__(self) -> Recorder:
        if self.active and self.bar.console.is_terminal:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.active:
            self.bar.stop()
            self.writer.close()
            self.file.close()

    def say(self, text: str) -> None:
        """One line to the log file and to the logger."""
        if self.active:
            print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}", file=self.file, flush=True)
            log.info("%s", text)

    def loaded(self) -> None:
        """The batch of the next step is here: what has passed since the last step was waiting."""
        self.waited += time.monotonic() - self.step_end

    def step(self, step: int, elapsed: float, losses: dict[str, Tensor], norm: float, lr: float) -> None:
        """A step is done; every ``log.every`` of them a line is written."""
        if not self.active:
            return
        for name, value in losses.items():
            value = value.detach().float()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.count += 1
        self.bar.update(self.task, completed=step)
        self.step_end = time.monotonic()
        if step % self.config.log.every:
            return
        passed = self.step_end - self.mark
        means = {name: float(value) / self.count for name, value in self.sums.items()}
        speed = self.count / max(passed, 1e-9)
        terms = " ".join(f"{name} {value:.4f}" for name, value in means.items())
        self.say(
            f"step {step}/{self.config.optim.steps} {terms} lr {lr:.2e} grad {norm:.2f} "
            f"{speed:.3f} steps/s waiting {100 * self.waited / max(passed, 1e-9):.0f}% {elapsed / 60:.1f} min"
        )
        for name, value in {
            **{f"loss/{k}": v for k, v in means.items()},
            "lr": lr,
            "grad": norm,
            "speed": speed,
        }.items():
            self.writer.add_scalar(name, value, step)
        self.sums, self.count, self.waited, self.mark = {}, 0, 0.0, self.step_end

    def validation(self, step: int, values: dict[str, float]) -> None:
        """Results of a quick validation: a log line, scalars and a line of ``validation.jsonl``."""
        if not self.active:
            return
        self.say(f"validation at step {step}: " + " ".join(f"{name} {value:.4g}" for name, value in values.items()))
        for name, value in values.items():
            self.writer.add_scalar(f"val/{name}", value, step)
        row: dict[str, Any] = {"step": step, **values}
        with open(self.config.folder / "validation.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.step_end = time.monotonic()
        self.mark += 0.0 if self.count else self.step_end - self.mark
