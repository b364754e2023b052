"""Timing that engines can be compared by: alternating runs, medians with their spread, and the machine's ceiling."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Timing:
    """Wall times of one thing, in milliseconds."""

    runs: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.runs)

    @property
    def spread(self) -> float:
        """Half the distance of the quartiles, as a share of the median; 0 for fewer than three runs."""
        if len(self.runs) < 3:
            return 0.0
        low, _, high = statistics.quantiles(self.runs, n=4, method="inclusive")
        return (high - low) / 2 / self.median

    def to_json(self) -> dict[str, Any]:
        return {"ms": self.median, "best_ms": min(self.runs), "spread": self.spread, "runs_ms": list(self.runs)}


def clock(device: torch.device) -> float:
    """Seconds, after all work on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def alternate(
    work: dict[str, Callable[[], Any]],
    rounds: int,
    device: torch.device,
    now: Callable[[torch.device], float] = clock,
    untimed: int = 0,
) -> dict[str, Timing]:
    """Time every function ``rounds`` times, one after the other in each round, so that whatever else the machine does
    meets all of them; each round begins with another one. One round more, the first, is not counted. ValueError without
    a round.

    Args:
        untimed: calls before each one that is timed, so that it finds in the caches what it left there itself.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    names, runs = list(work), {name: [] for name in work}
    for number in range(rounds + 1):
        first = number % max(len(names), 1)
        for name in names[first:] + names[:first]:
            for _ in range(untimed):
                work[name]()
            start = now(device)
            work[name]()
            elapsed = (now(device) - start) * 1000
            if number:
                runs[name].append(elapsed)
    return {name: Timing(tuple(values)) for name, values in runs.items()}


def sgemm(device: torch.device, size: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Callable[[], Any], float]:
    """A matrix product of ``size`` squared, and its floating-point operations; by default one that fills the device."""
    size = size or (8192 if device.type == "cuda" else 1536)
    a, b = torch.randn(2, size, size, device=device).to(dtype)
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out), 2.0 * size**3


def gflops(flop: float, ms: float) -> float:
    """GFLOP/s."""
    return flop / ms / 1e6


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """p of the least-squares fit ``value = c * size^p`` in logarithms. ValueError on fewer than two sizes."""
    if len(set(sizes)) < 2:
        raise ValueError("an exponent needs at least two different sizes")
    x, y = torch.tensor(sizes).double().log(), torch.tensor(values).double().log()
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / (x * x).sum())
