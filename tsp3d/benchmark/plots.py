"""The plots of the benchmarks, as matplotlib figures."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from tsp3d.benchmark.model import ModelTimes
from tsp3d.benchmark.peers import Ours
from tsp3d.benchmark.race import Case
from tsp3d.benchmark.scale import Size, exponents

COLORS = {"tsp3d": "#e8112d", "reference": "#64748b", "spconv": "#2563eb", "minkowski": "#16a34a"}
OTHER = "#a16207"


def engine_figure(cases: Sequence[Case]) -> Figure:
    """How many times slower than ours every correct peer is, one group of bars a case."""
    names = [n for n in dict.fromkeys(n for c in cases for n in c.peers) if any(c.peers[n].timing for c in cases)]
    figure = Figure(figsize=(9, 1.2 + 0.19 * len(cases) * (len(names) + 1)), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    height = 0.8 / max(len(names), 1)
    for i, name in enumerate(names):
        rows = [(k, case.slower(name)) for k, case in enumerate(cases)]
        rows = [(k, slower) for k, slower in rows if slower is not None]
        places = [k + (i - (len(names) - 1) / 2) * height for k, _ in rows]
        bars = axes.barh(places, [s for _, s in rows], height * 0.92, color=COLORS.get(name, OTHER), label=name)
        for bar, (k, slower) in zip(bars, rows):
            timing = cases[k].peers[name].timing
            assert timing is not None
            place = (slower, bar.get_y() + bar.get_height() / 2)
            axes.annotate(f" {timing.median:,.3g} ms", place, va="center", fontsize=6)
    axes.set_yticks(range(len(cases)), [f"{c.title}\n{c.voxels:,} voxels" for c in cases], fontsize=7)
    axes.invert_yaxis()
    axes.axvline(1, color=COLORS[Ours.name], lw=0.8)
    axes.set_xlabel("time over that of tsp3d (right of the line: slower)")
    axes.margins(x=0.12)
    if names:
        axes.legend(fontsize=7)
    return figure


def model_figure(name: str, times: ModelTimes) -> Figure:
    """Where the time from points and a sentence to a box goes."""
    figure = Figure(figsize=(8, 3.6), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    labels, values = list(times.stages), [timing.median for timing in times.stages.values()]
    bars = axes.barh(labels, values, color=COLORS[Ours.name])
    axes.bar_label(bars, fmt="{:.1f} ms", padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlabel("ms")
    axes.set_title(
        f"{name}, {times.points:,} points: {times.cold.median:.0f} ms to a box, "
        f"{times.warm.median:.0f} ms for another sentence", fontsize=10,
    )  # fmt: skip
    return figure


def scale_figure(sizes: Sequence[Size]) -> Figure:
    """Time and peak memory over the number of voxels, both logarithmic, with the fitted exponents."""
    figure = Figure(figsize=(9, 4), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    fitted = exponents(sizes) if len(sizes) > 1 else {}
    counts = [size.voxels for size in sizes]

    def label(text: str, name: str) -> str:
        return f"{text}, exponent {fitted[name]:.2f}" if name in fitted else text

    for name, text in (("map_ms", "3^3 map"), ("conv_ms", "3^3 convolution"), ("backbone_ms", "backbone, with maps")):
        left.loglog(counts, [getattr(size, name) for size in sizes], "o-", label=label(text, name))
    memory = [max(size.peak_bytes, 1) / 1e6 for size in sizes]
    right.loglog(counts, memory, "o-", label=label("backbone", "peak_bytes"))
    for axes, unit in ((left, "ms"), (right, "peak memory, MB")):
        axes.set_xlabel("voxels")
        axes.set_ylabel(unit)
        axes.grid(True, which="major", alpha=0.3)
        axes.legend(fontsize=8)
    return figure
