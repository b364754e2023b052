"""A race: every peer is checked against a float64 oracle, and those that are right are timed in alternation."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tsp3d.benchmark.peers import KERNELS, Ours, Peer, Reference
from tsp3d.benchmark.precision import TOLERANCE
from tsp3d.benchmark.timing import Timing, alternate, gflops, sgemm
from tsp3d.benchmark.workloads import Layers, LayerWork, Work
from tsp3d.sparse import reference

CHECKS = 2
"""Two threads that race do not meet every time."""


@dataclass
class Entry:
    """What one peer did in one case."""

    status: str
    """"ok"; "wrong": checked and not timed; "failed": it raised; "missing": not installed."""
    version: str = ""
    note: str = ""
    error: float | None = None
    """Largest error, as a share of the largest value."""
    timing: Timing | None = None


@dataclass
class Case:
    """One workload with all its peers."""

    work: str
    voxels: int
    backward: bool
    flop: float
    """Useful operations, 0 for maps."""
    sgemm: float
    """GFLOP/s of a large matrix product of the same precision, timed in the same rounds."""
    peers: dict[str, Entry] = field(default_factory=dict)
    precision: str = "float32"

    @property
    def title(self) -> str:
        precision = "" if self.precision == "float32" else f", {self.precision}"
        return self.work + (", forward and backward" if self.backward else "") + precision

    @property
    def fastest_peer(self) -> str | None:
        """The fastest correct peer other than ours."""
        times = {name: e.timing.median for name, e in self.peers.items() if e.timing and name != Ours.name}
        return min(times, key=lambda name: times[name]) if times else None

    def slower(self, name: str) -> float | None:
        """A peer's time over ours: above 1 we are faster."""
        theirs, ours = (self.peers[n].timing if n in self.peers else None for n in (name, Ours.name))
        return theirs.median / ours.median if theirs and ours else None

    @property
    def ratio(self) -> float | None:
        """The fastest correct peer's time over ours."""
        return self.slower(self.fastest_peer) if self.fastest_peer else None

    def rate(self, name: str) -> float | None:
        """GFLOP/s of a peer."""
        timing = self.peers[name].timing
        return gflops(self.flop, timing.median) if timing and self.flop else None

    def __str__(self) -> str:
        """A line: each peer's median in milliseconds, or why it has none."""
        found = {name: f"{e.timing.median:.4g} ms" if e.timing else e.status for name, e in self.peers.items()}
        return f"{self.title}, {self.voxels} voxels: " + ", ".join(f"{name} {text}" for name, text in found.items())

    def to_json(self) -> dict[str, Any]:
        peers = {}
        for name, e in self.peers.items():
            peers[name] = {"status": e.status, "version": e.version, "note": e.note, "error": e.error}
            if e.timing:
                rate = self.rate(name)
                share = None if rate is None else rate / self.sgemm
                peers[name] |= {**e.timing.to_json(), "gflops": rate, "share_of_sgemm": share}
        return {
            "work": self.work, "voxels": self.voxels, "backward": self.backward, "precision": self.precision,
            "gflop": self.flop / 1e9,
            "sgemm_gflops": self.sgemm, "fastest_peer": self.fastest_peer, "ratio": self.ratio, "peers": peers,
        }  # fmt: skip


def run_once(own: Layers, work: Work, x: Any, backward: bool) -> Any:
    """Forward, and backward of half the sum of squares, which does not depend on the order of rows."""
    out = work.forward(own, x)
    if backward:
        own.zero_grad()
        values = own.peer.feats(out)
        values.backward(values.detach())
    return out


def results(own: Layers, work: Work, feats: Tensor, backward: bool) -> list[Tensor]:
    """Output in lexicographic order of its rows, and with ``backward`` the gradients in our layout; float64."""
    feats = feats.clone().requires_grad_(backward)
    with torch.set_grad_enabled(backward), own.peer.limits():
        out = run_once(own, work, own.peer.tensor(work.coords, feats), backward)
    coords = own.peer.coords(out, work.levels)
    order = reference.unique_coords(coords, 1)[2]
    found = [coords[order], own.peer.feats(out).detach()[order]]
    if backward:
        assert feats.grad is not None
        found += [feats.grad, *(layer.gradient() for layer in own.layers.values())]
    return [values.double() for values in found]


def oracle(work: Work, backward: bool) -> list[Tensor]:
    """What is right: the plain-PyTorch reference in float64."""
    return results(work.layers(Reference(), torch.float64), work, work.feats.double(), backward)


def worst_error(found: list[Tensor], truth: list[Tensor]) -> float:
    """Largest error of any result, as a share of that result's largest value; infinite where shapes differ."""
    worst = 0.0
    for got, want in zip(found, truth, strict=True):
        if got.shape != want.shape or not bool(torch.isfinite(got).all()):
            return float("inf")
        if want.numel():
            worst = max(worst, float((got - want).abs().max() / want.abs().max().clamp(min=1e-30)))
    return worst


def check(peer: Peer, work: Work, truth: list[Tensor], backward: bool) -> tuple[Entry, Layers | None]:
    """How a peer does, and its layers if it is right."""
    # Rounding switches ReLUs, so that gradients of 29 layers are off by 3 % of the largest in float32 and by a third in
    # float16, for the plain reference as for us. Those of single layers are compared.
    parts = slice(2) if work.deep else slice(None)
    entry = Entry("ok", peer.version(), peer.note if work.coords.device.type == "cpu" else "")
    try:
        own = work.layers(peer)
        found = (results(own, work, work.feats, backward) for _ in range(CHECKS))
        entry.error = max(worst_error(one[parts], truth[parts]) for one in found)
    except Exception as error:  # whatever a peer dies of, the others go on
        entry.status, entry.note = "failed", f"{type(error).__name__}: {error}".splitlines()[0][:200]
        return entry, None
    if entry.error > TOLERANCE[work.precision]:
        entry.status = "wrong"
        return entry, None
    return entry, own


def race(
    work: Work, peers: list[Peer], rounds: int, backward: bool = False, maps: bool = True,
    missing: dict[str, str] | None = None,
) -> Case:  # fmt: skip
    """Check the peers on a workload and time those that are right; without ``maps`` on maps that are there already."""

    def call(own: Layers) -> Callable[[], Any]:
        feats = work.feats.clone().requires_grad_(backward)
        ready = None if maps else own.peer.tensor(work.coords, feats)

        def run() -> None:
            feats.grad = None
            run_once(own, work, own.peer.tensor(work.coords, feats) if maps else ready, backward)

        return run

    flop = work.flop * (3 if backward else 1)  # the gradients of input and weight cost as much as the output each
    return _race(work.name, work, peers, rounds, backward, flop, call, missing)


def race_map(work: LayerWork, peers: list[Peer], rounds: int, missing: dict[str, str] | None = None) -> Case:
    """Time the building of a layer's kernel map, from coordinates, by the peers that are right in the layer."""
    size, stride = KERNELS[work.kind]

    def call(own: Layers) -> Callable[[], Any]:
        peer = own.peer
        return lambda: peer.build_map(peer.tensor(work.coords, work.feats), work.kind)

    name = f"{size[0]}^3 map" + (f", stride {stride}" if stride > 1 else "")
    return _race(name, work, peers, rounds, False, 0.0, call, missing)


def _race(
    name: str, work: Work, peers: list[Peer], rounds: int, backward: bool, flop: float,
    call: Callable[[Layers], Callable[[], Any]], missing: dict[str, str] | None,
) -> Case:  # fmt: skip
    entries, calls = {}, {}
    truth = oracle(work, backward)
    for peer in peers:
        entries[peer.name], own = check(peer, work, truth, backward)
        if own is not None:
            calls[peer.name] = _under_limits(own.peer, call(own), backward)
    entries |= {other: Entry("missing", note=why) for other, why in (missing or {}).items()}
    del truth
    product, product_flop = sgemm(work.coords.device, dtype=work.feats.dtype)
    times = alternate({**calls, "sgemm": product}, rounds, work.coords.device, untimed=1)
    for peer_name in calls:
        entries[peer_name].timing = times[peer_name]
    rate = gflops(product_flop, times["sgemm"].median)
    return Case(name, len(work.coords), backward, flop, rate, entries, work.precision)


def _under_limits(peer: Peer, call: Callable[[], Any], backward: bool) -> Callable[[], Any]:
    def run() -> None:
        mode: AbstractContextManager[Any] = nullcontext() if backward else torch.no_grad()
        with mode, peer.limits():
            call()

    return run
