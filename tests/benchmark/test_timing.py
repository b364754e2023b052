"""Medians, spread, alternation and fits: arithmetic only, no clock."""

from __future__ import annotations

import pytest
import torch

from tsp3d.benchmark.timing import Timing, alternate, exponent, gflops, sgemm


def test_median_and_spread():
    timing = Timing((4.0, 1.0, 2.0, 3.0, 100.0))
    assert timing.median == 3.0
    assert timing.spread == pytest.approx((4 - 2) / 2 / 3)
    assert timing.to_json() == {"ms": 3.0, "best_ms": 1.0, "spread": timing.spread, "runs_ms": [4, 1, 2, 3, 100]}
    assert Timing((5.0,)).spread == 0


def test_runs_alternate_and_the_first_round_does_not_count():
    order, seconds = [], iter(range(1000))
    work = {name: (lambda name=name: order.append(name)) for name in "abc"}
    times = alternate(work, 3, torch.device("cpu"), now=lambda device: float(next(seconds)))
    assert "".join(order) == "abcbcacababc"
    assert all(timing.runs == (1000.0,) * 3 for timing in times.values())
    order.clear()
    alternate(work, 1, torch.device("cpu"), untimed=1)
    assert "".join(order) == "aabbccbbccaa"
    with pytest.raises(ValueError, match="rounds must be at least 1, got 0"):
        alternate(work, 0, torch.device("cpu"))


def test_rates_and_exponents():
    assert gflops(2e9, 1000.0) == pytest.approx(2.0)
    call, flop = sgemm(torch.device("cpu"), 8)
    assert call().shape == (8, 8) and flop == 2 * 8**3
    assert exponent([10, 100, 1000], [3.0, 3.0 * 10**1.5, 3.0 * 10**3]) == pytest.approx(1.5)
    with pytest.raises(ValueError, match="two different sizes"):
        exponent([10, 10], [1, 2])
