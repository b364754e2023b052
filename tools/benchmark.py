"""Race the engine against its peers, and time the models: python tools/benchmark.py engine --json out/engine.json"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from tsp3d.benchmark import engine, libraries, model, report, scale
from tsp3d.pretrained import load_network, pick_device
from tsp3d.sparse import keep_freed_memory


@dataclass(kw_only=True)
class Common:
    json: Path | None = None
    """Write the result to this file, and its plot beside it."""
    plot: Path | None = None
    """Write the plot to this PNG."""
    device: str = "auto"
    """auto, cpu or cuda."""
    rounds: int = 7
    """Timed runs of each, in turns."""


@dataclass(kw_only=True)
class Engine(Common):
    """Maps, layers and the backbone against other sparse-convolution libraries, each checked before it is timed."""

    peers: str = ",".join(name for name in libraries.PEERS if name != "tsp3d")
    """Libraries that run beside tsp3d, with commas; those that are not installed are left out, with a note."""
    voxels: tuple[int, ...] = (200_000,)
    """Sizes of the generated room scans, at 2 cm."""
    channels: tuple[int, ...] = (16, 32, 64, 128, 256)
    """Widths of the single layers."""
    backbone: tuple[int, ...] = engine.CHANNELS  # Widths of the backbone's stages.
    blocks: tuple[int, ...] = ()
    """Residual blocks of each stage of the backbone; two unless given."""
    precision: str = "float32"
    """float32, tf32 (with TSP3D_TF32=1 in the environment), float16 or bfloat16."""
    backward: bool = False
    """Time forward and backward together, too."""


@dataclass(kw_only=True)
class Model(Common):
    """From raw points and a new sentence to a box, another sentence on the same scan, and where the time goes."""

    model: str = "tsp3d-tiny"
    """Name of a bundled model, a folder with config.json and model.safetensors, or a hub id."""
    points: int = 50_000  # Points of each scan.
    rooms: int = 4  # Generated rooms, scanned in turn.
    precision: str = "float32"  # On a CPU also int8, or bfloat16 (AVX-512 BF16).


@dataclass(kw_only=True)
class Scale(Common):
    """Time and peak memory of the backbone by the number of voxels, with the fitted exponents."""

    rounds: int = 3
    voxels: tuple[int, ...] = scale.SIZES  # Sizes of the generated room scans, at 2 cm.
    backbone: tuple[int, ...] = engine.CHANNELS  # Widths of the backbone's stages.


def main(options: Engine | Model | Scale) -> int:
    """Measure, print, write; the exit code."""
    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 160)  # a file has room for the table
    try:
        report.check_places([options.json, options.plot])
        device = pick_device(options.device)
        head = report.header(type(options).__name__.lower(), device)
        with console.status("measuring") as status:
            if isinstance(options, Engine):
                keep_freed_memory()  # as training does; for all peers
                peers, missing = libraries.make_peers(tuple(name for name in options.peers.split(",") if name))
                result = report.of_engine(engine.race_engine(
                    peers, options.voxels, options.channels, options.rounds, device, options.backward, options.backbone,
                    missing, report.progress(console, status), options.precision, options.blocks,
                ))  # fmt: skip
            elif isinstance(options, Model):
                net = load_network(options.model, device, options.precision)
                times = model.time_model(net, options.points, options.rooms, options.rounds)
                result = report.of_model(options.model, times)
            else:
                sizes = [scale.measure_apart(n, options.rounds, device, options.backbone) for n in options.voxels]
                result = report.of_scale(sizes, options.backbone)
        result.print(console)
        for path in result.write(head, options.json, options.plot):
            console.print(f"wrote {path}")
    except (ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Engine | Model | Scale, description=__doc__)))
