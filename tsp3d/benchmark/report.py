"""What a benchmark leaves behind: tables on the terminal, a JSON file, and a plot."""

from __future__ import annotations

import json
import math
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from tsp3d.benchmark import plots
from tsp3d.benchmark.model import ModelTimes
from tsp3d.benchmark.peers import Ours
from tsp3d.benchmark.race import Case, Entry
from tsp3d.benchmark.scale import Size, exponents
from tsp3d.info import cpu_features, cpu_name
from tsp3d.io.write import check_places as check_places
from tsp3d.io.write import replacing, write_text

SCHEMA = "tsp3d-benchmark 1"


def header(kind: str, device: torch.device, argv: Sequence[str] | None = None) -> dict[str, Any]:
    """What tells how figures came about: command, date, machine and versions."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    command = shlex.join(["python", *(sys.argv if argv is None else argv)])
    return {
        "schema": SCHEMA,
        "kind": kind,
        "command": command,
        "date": time.strftime("%Y-%m-%d"),
        "machine": {
            "cpu": cpu_name(), "cores": os.cpu_count(), "features": cpu_features(), "gpu": gpu,
            "threads": torch.get_num_threads(), "load": [round(v, 2) for v in os.getloadavg()],
        },
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    }  # fmt: skip


def progress(console: Console, status: Status) -> Callable[[Case], None]:
    """Tells of each case that is done: beside the spinner, or in a line of a log, which is what is left of a race that
    does not come to its end."""
    if console.is_terminal:
        return lambda case: status.update(f"measured {escape(case.title)}")
    return lambda case: print(case, file=sys.stderr, flush=True)


@dataclass
class Report:
    """One benchmark's result in its three forms."""

    tables: list[Table]
    body: dict[str, Any]
    figure: Figure
    notes: list[str] = field(default_factory=list)

    def print(self, console: Console) -> None:
        """The tables, and below them what has to be said."""
        console.print(*self.tables, sep="\n")
        for note in self.notes:
            console.print(escape(note))

    def write(self, head: dict[str, Any], json_path: Path | None, plot_path: Path | None) -> list[Path]:
        """Write the JSON and the plot (beside the JSON unless it has a place); each whole or not at all."""
        written = []
        if json_path:
            write_text(json_path, json.dumps({**head, **self.body}, indent=1, allow_nan=False) + "\n")
            written.append(json_path)
            plot_path = plot_path or json_path.with_suffix(".png")
        if plot_path:
            with replacing(plot_path) as temporary:
                FigureCanvasAgg(self.figure).print_png(str(temporary))
            written.append(plot_path)
        return written


def of_engine(cases: Sequence[Case]) -> Report:
    """The report of a race."""
    body = {"cases": [_finite(case.to_json()) for case in cases]}
    return Report([engine_table(cases)], body, plots.engine_figure(cases), engine_notes(cases))


def of_model(name: str, times: ModelTimes) -> Report:
    """The report of a model's timings."""
    return Report([model_table(name, times)], {"model": name, **times.to_json()}, plots.model_figure(name, times))


def of_scale(sizes: Sequence[Size], channels: Sequence[int]) -> Report:
    """The report of the measurements by size."""
    fitted = exponents(sizes) if len(sizes) > 1 else {}
    body = {"channels": list(channels), "sizes": [asdict(size) for size in sizes], "exponents": fitted}
    return Report([scale_table(sizes)], body, plots.scale_figure(sizes))


def _finite(value: Any) -> Any:
    """The same with None for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(case: Case, name: str) -> str:
    entry = case.peers.get(name, Entry("missing"))
    if entry.timing is None:
        return {"wrong": "[red]wrong[/]", "failed": "[red]failed[/]", "missing": "[dim]-[/]"}[entry.status]
    text = f"{entry.timing.median:,.4g} ±{entry.timing.spread:.0%}"
    return f"[bold]{text}[/]" if name in (Ours.name, case.fastest_peer) else text


def engine_table(cases: Sequence[Case]) -> Table:
    """One row a case, one column a peer."""
    names = list(dict.fromkeys(name for case in cases for name in case.peers))
    table = Table(title="Milliseconds: median ± half the distance of the quartiles")
    table.add_column("work")
    table.add_column("voxels", justify="right")
    for name in names:
        table.add_column(name, justify="right")
    for column in ("ratio to the fastest peer", "GFLOP/s", "of sgemm"):
        table.add_column(column, justify="right")
    for case in cases:
        rate = case.rate(Ours.name) if Ours.name in case.peers else None
        last = ["" if case.ratio is None else f"{case.ratio:.2f}"]
        last += ["", ""] if rate is None else [f"{rate:.1f}", f"{rate / case.sgemm:.0%}"]
        table.add_row(case.title, f"{case.voxels:,}", *(_cell(case, name) for name in names), *last)
    return table


def engine_notes(cases: Sequence[Case]) -> list[str]:
    """What has to be said of peers: what they lack, and where they are wrong."""
    notes: dict[str, None] = {}
    for case in cases:
        for name, entry in case.peers.items():
            if entry.status == "wrong":
                notes[f"{name} is wrong in {case.title}: error {entry.error:.2g} of the largest value; not timed"] = (
                    None
                )
            elif entry.note:
                notes[f"{name}: {entry.note}"] = None
    return list(notes)


def model_table(name: str, times: ModelTimes) -> Table:
    """Whole times, then the stages of a new scan."""
    table = Table("", "ms", "spread", "share", title=f"{name}, {times.points:,} points")
    for label, timing in (("new scan and sentence to a box", times.cold), ("another sentence", times.warm)):
        table.add_row(f"[bold]{label}[/]", f"{timing.median:.1f}", f"{timing.spread:.0%}", "")
    table.add_section()
    total = sum(timing.median for timing in times.stages.values()) or 1.0
    for label, timing in times.stages.items():
        table.add_row(label, f"{timing.median:.1f}", f"{timing.spread:.0%}", f"{timing.median / total:.0%}")
    return table


def scale_table(sizes: Sequence[Size]) -> Table:
    """One row a size, and the fitted exponents below."""
    table = Table("voxels", "3^3 map, ms", "convolution, ms", "backbone, ms", "peak memory, MB")
    for size in sizes:
        figures = (size.map_ms, size.conv_ms, size.backbone_ms, size.peak_bytes / 1e6)
        table.add_row(f"{size.voxels:,}", *(f"{figure:,.4g}" for figure in figures))
    if len(sizes) > 1:
        table.add_section()
        table.add_row("exponent", *(f"{power:.2f}" for power in exponents(sizes).values()))
    return table
