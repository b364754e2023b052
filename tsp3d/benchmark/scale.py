"""The measurements of ``tools/benchmark.py scale``: time and peak memory of the backbone by the number of voxels.

Each size runs in a process of its own (``python -m tsp3d.benchmark.scale``), so that none inherits another's memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from tsp3d.benchmark.peers import Ours
from tsp3d.benchmark.race import run_once
from tsp3d.benchmark.rooms import voxels
from tsp3d.benchmark.timing import Timing, alternate, exponent
from tsp3d.benchmark.workloads import CHANNELS, BackboneWork, LayerWork

SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)


@dataclass
class Size:
    """Medians in milliseconds, and bytes above what the input and the weights take."""

    voxels: int
    map_ms: float
    """3^3 map."""
    conv_ms: float
    """3^3 convolution, 32 to 32, on a ready map."""
    backbone_ms: float
    """Forward, maps included."""
    peak_bytes: int
    """Of the backbone."""


def _status(field: str) -> int:
    """A memory figure of this process, in bytes."""
    line = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith(field))
    return int(line.split()[1]) * 1024


def peak_bytes(call: Callable[[], Any], device: torch.device) -> int:
    """How far memory rises during a call: allocated tensors on CUDA, resident memory on the CPU (Linux)."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again
    before = _status("VmRSS")
    call()
    return max(_status("VmHWM") - before, 0)


@torch.inference_mode()
def measure(count: int, rounds: int, device: torch.device, channels: Sequence[int] = CHANNELS) -> Size:
    """One size, in this process."""
    ours, coords = Ours(), voxels(count).to(device)
    work, layer = BackboneWork(coords, tuple(channels)), LayerWork(coords, "map3", channels[0], channels[0])
    own, own_layer = work.layers(ours), layer.layers(ours)

    def times_of_parts() -> dict[str, Timing]:
        ready = ours.tensor(coords, layer.feats)  # gone, with its map, before memory is measured
        calls: dict[str, Callable[[], Any]] = {
            "map": lambda: ours.build_map(ours.tensor(coords, layer.feats), "map3"),
            "conv": lambda: run_once(own_layer, layer, ready, False),
        }
        return alternate(calls, rounds, device)

    times = times_of_parts()

    def backbone() -> None:
        run_once(own, work, ours.tensor(coords, work.feats), False)

    peak = peak_bytes(backbone, device)
    whole = alternate({"backbone": backbone}, rounds, device)["backbone"]
    return Size(count, times["map"].median, times["conv"].median, whole.median, peak)


def measure_apart(count: int, rounds: int, device: torch.device, channels: Sequence[int] = CHANNELS) -> Size:
    """One size, in a new process. Raises RuntimeError, with its last line of error, where that fails."""
    arguments = json.dumps([count, rounds, str(device), list(channels), torch.get_num_threads()])
    command = [sys.executable, "-m", "tsp3d.benchmark.scale", arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}: out of memory?"])[-1]
        raise RuntimeError(f"{count:,} voxels: {last}")
    return Size(**json.loads(done.stdout.splitlines()[-1]))


def exponents(sizes: Sequence[Size]) -> dict[str, float]:
    """The exponent of each measure over the number of voxels: 1 is linear."""
    counts = [size.voxels for size in sizes]
    return {
        name: exponent(counts, [max(getattr(size, name), 1e-9) for size in sizes])
        for name in ("map_ms", "conv_ms", "backbone_ms", "peak_bytes")
    }


if __name__ == "__main__":
    _count, _rounds, _device, _channels, _threads = json.loads(sys.argv[1])
    torch.set_num_threads(_threads)
    print(json.dumps(asdict(measure(_count, _rounds, torch.device(_device), _channels))))
