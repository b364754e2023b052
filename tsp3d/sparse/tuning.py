"""Which way of doing the work is fastest on this GPU: measured once per kind of work, and kept on disk.

Nothing here knows of convolutions: a :class:`Choice` is a method with its numbers, and what runs it is given.
``TSP3D_TUNE=0`` turns measuring off, and every choice is then a fixed one (``tsp3d/sparse/planned.py``).
"""

from __future__ import annotations

import json
import math
import os
import re
import statistics
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tsp3d.files import write_text

FORMAT = 1
ROUNDS = 5
"""Timings of each candidate, of which the median counts."""
GAIN = 0.97
"""The share of the first candidate's time that another has to stay below to win."""

Run = Callable[["Choice"], Tensor]
Timer = Callable[[Callable[[], Any]], float]


@dataclass(frozen=True)
class Choice:
    """A way of doing the work; what the numbers mean is up to the method."""

    method: str
    tile: int = 0
    shares: int = 0


def cache_folder() -> Path:
    """``TSP3D_CACHE``, or the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "tsp3d"
    return Path(os.environ.get("TSP3D_CACHE") or default).expanduser()


def cache_file(gpu: str, library: str) -> Path:
    """Where the choices for a GPU and a version of the kernels are kept."""
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{gpu}-{library}").strip("-")
    return cache_folder() / "tuning" / f"{name}.json"


def enabled() -> bool:
    """Whether measuring was not turned off by ``TSP3D_TUNE=0``."""
    return os.environ.get("TSP3D_TUNE", "1") != "0"


def event_timer(work: Callable[[], Any], repeats: int = 3) -> float:
    """Milliseconds of one run on the current CUDA stream."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(repeats):
        work()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / repeats


def agrees(found: Tensor, expected: Tensor, precision: float) -> bool:
    """Whether no number is off by more than ``precision`` of the largest expected one."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    wide = torch.float64 if expected.dtype == torch.float64 else torch.float32
    off = (found.to(wide) - expected.to(wide)).abs().amax()
    return bool(off <= precision * expected.to(wide).abs().amax())  # False for NaN


class Tuner:
    """Choices by key, read from a file when first asked for, and written back when one is added.

    path: the file, or None to keep them in memory. timer: milliseconds of a call.
    """

    def __init__(self, path: Path | None, timer: Timer = event_timer):
        self.path, self.timer = path, timer
        self._known: dict[str, Choice] | None = None

    def known(self, key: str, candidates: Sequence[Choice]) -> Choice | None:
        """The choice made for a key, if it is still a candidate."""
        if self._known is None:
            self._known = self._read()
        found = self._known.get(key)
        return found if found in candidates else None

    def choose(self, key: str, candidates: Sequence[Choice], run: Run, precision: float) -> Choice:
        """The fastest candidate whose result agrees with that of the first, measured where it is not known.

        The first is the plain way: what it raises is raised here, and it stays where no other is clearly faster. Others
        that raise, are off by more than ``precision`` of the largest value, or whose time is no time, are left out.
        """
        found = self.known(key, candidates)
        if found is None:
            found = self._measure(candidates, run, precision)
            assert self._known is not None
            self._known[key] = found
            self._write()
        return found

    def _measure(self, candidates: Sequence[Choice], run: Run, precision: float) -> Choice:
        plain, *others = candidates
        expected = run(plain)  # checked results are warm-up runs too
        times: dict[Choice, list[float]] = {plain: []}
        for choice in others:
            try:
                if agrees(run(choice), expected, precision):
                    times[choice] = []
            except RuntimeError:  # out of memory, or nothing that this GPU can do
                continue
        del expected
        for _ in range(ROUNDS):  # in alternation: what else the GPU does meets all of them
            for choice in list(times):
                try:
                    times[choice].append(self.timer(lambda choice=choice: run(choice)))
                except RuntimeError:
                    if choice == plain:
                        raise
                    del times[choice]
        medians = {choice: statistics.median(values) for choice, values in times.items()}
        sound = {choice: ms for choice, ms in medians.items() if math.isfinite(ms) and ms > 0}
        if plain not in sound:
            return plain
        best = min(sound, key=lambda choice: sound[choice])
        return best if sound[best] < GAIN * sound[plain] else plain

    def _read(self) -> dict[str, Choice]:
        if self.path is None or not self.path.exists():
            return {}
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                return {}
            return {str(key): _choice(entry) for key, entry in content["choices"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            warnings.warn(
                f"tsp3d: {self.path} does not hold choices of kernels ({type(error).__name__}: {error}); it is made "
                "anew, delete it if this comes back",
                RuntimeWarning,
                stacklevel=2,
            )
            return {}

    def _write(self) -> None:
        if self.path is None or self._known is None:
            return
        # Another process may have added some meanwhile.
        self._known = {**self._read(), **self._known}
        choices = {key: [c.method, c.tile, c.shares] for key, c in sorted(self._known.items())}
        try:
            write_text(self.path, json.dumps({"format": FORMAT, "choices": choices}, indent=1) + "\n")
        except OSError as error:
            warnings.warn(
                f"tsp3d: choices of kernels cannot be kept in {self.path} ({error}); TSP3D_CACHE names another folder, "
                "TSP3D_TUNE=0 does without",
                RuntimeWarning,
                stacklevel=2,
            )
            self.path = None


def _choice(entry: Any) -> Choice:
    """ValueError where an entry of the file is none."""
    method, tile, shares = entry
    if not (isinstance(method, str) and type(tile) is int and type(shares) is int):
        raise ValueError(f"{entry} is no choice")
    return Choice(method, tile, shares)
