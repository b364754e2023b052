"""Processor time in float32, bfloat16 and int8, of layers and of the bundled model: python benchmarks/precision.py

One thread, in alternation, medians in milliseconds; processor time holds on a busy machine, too. TSP3D_CPU_ISA=avx2 or
baseline shows other processors' ways. bfloat16 is left out where the processor does not multiply it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from statistics import median

import torch

from tsp3d.benchmark import model
from tsp3d.pretrained import load_network
from tsp3d.sparse import SparseTensor, keep_freed_memory, nn, voxelize
from tsp3d.sparse.fused import ConvNorm, multiplies_bf16, reduce_precision
from tsp3d.sparse.int8 import use_int8, watch_ranges

POINTS, VOXEL_M = 50_000, 0.02
LAYERS = ((1, 16, 16), (2, 32, 32), (3, 64, 64), (4, 96, 96), (5, 128, 128))
"""How often the voxels are halved before, channels in and out."""
PRECISIONS = ("float32", "bfloat16", "int8")


def race(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median processor time (ms) of each, one after the other in every round; one round more warms up."""
    spent: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            start = time.process_time()
            run()
            if number:
                spent[name].append((time.process_time() - start) * 1000)
    return {name: median(times) for name, times in spent.items()}


def show(what: str, found: dict[str, float]) -> None:
    """A line of the table, with what each gains over float32."""
    parts = [f"{name} {ms:8.2f} ({found['float32'] / ms:.2f})" for name, ms in found.items()]
    print(f"{what:32s}", "  ".join(parts), flush=True)


def layer(x: SparseTensor, cin: int, cout: int, precision: str) -> Callable[[], object]:
    """A 3^3 convolution with its norm and ReLU on the voxels of ``x``."""
    block = ConvNorm(nn.Conv3d(cin, cout), nn.BatchNorm(cout)).eval()
    given = x.replace(torch.randn(len(x), cin).relu())
    if precision == "bfloat16":
        reduce_precision(block)
    if precision == "int8":
        with watch_ranges(block) as ranges:
            block(given)
        use_int8(block, ranges)
    return lambda: block(given)


@torch.no_grad()
def main(rounds: int) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    keep_freed_memory()
    precisions = [name for name in PRECISIONS if name != "bfloat16" or multiplies_bf16()]
    xyz, rgb = model.scan(0, POINTS)
    levels = [voxelize(xyz, rgb, VOXEL_M)[0]]
    while len(levels) <= max(halved for halved, _, _ in LAYERS):
        levels.append(nn.MaxPool3d(2, 2)(levels[-1]))
    for halved, cin, cout in LAYERS:
        x = levels[halved]
        runs = {name: layer(x, cin, cout, name) for name in precisions}
        show(f"3^3, {cin} to {cout}, {len(x):,} voxels", race(runs, 5 * rounds))
    nets = {name: load_network("tsp3d-tiny", torch.device("cpu"), name) for name in precisions}
    scenes = {name: net.encode(xyz, rgb) for name, net in nets.items()}
    show("a scan", race({name: lambda net=net: net.encode(xyz, rgb) for name, net in nets.items()}, rounds))
    runs = {name: lambda net=net, name=name: net.ground(scenes[name], ["the red chair"]) for name, net in nets.items()}
    show("a sentence", race(runs, rounds))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
