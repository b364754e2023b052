"""The tables of benchmarks/distillation.sh: python benchmarks/distillation_table.py OUT [METHOD]

Writes OUT/distillation.md; with METHOD, then also what this method is ahead of the others by.
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev

import numpy as np

from tsp3d.files import write_text
from tsp3d.synth.types import COLORS

NAME = re.compile(r"(?P<method>.+)\.(?P<control>\w+)\.seed(?P<seed>\d+)\.share(?P<share>[\d.]+)")
CONTROLS = ("none", "random", "shuffled")
TEACHERS = {"none": "as it is", "random": "random weights", "shuffled": "shuffled across scenes"}
COLOR = re.compile(rf"\b({'|'.join(COLORS)})\b")


def read(queries: Path) -> list[dict]:
    return [json.loads(line) for line in queries.read_text(encoding="utf-8").splitlines()]


def by_color(row: dict) -> bool:
    """Whether a sentence tells its target by the colour alone."""
    return row.get("relation") == "attribute" and COLOR.search(row["text"].lower()) is not None


def accuracies(queries: Path) -> list[float]:
    """Acc@0.25 and Acc@0.5 in percent of all sentences, then of those that tell the target by its colour alone."""
    rows = read(queries)
    told = [row for row in rows if by_color(row)]
    return [
        100 * sum(row["iou"] > threshold for row in part) / len(part) if part else float("nan")
        for part in (rows, told)
        for threshold in (0.25, 0.5)
    ]


def table(out: Path) -> str:
    """Markdown: mean and sample standard deviation over the seeds, for each method, control and share of sentences.

    Raises:
        FileNotFoundError: no run is finished.
    """
    found: dict[tuple[float, str, str], list[list[float]]] = defaultdict(list)
    for file in sorted(out.glob("*/report/queries.jsonl")):
        name = NAME.fullmatch(file.parents[1].name)
        if name:
            found[-float(name["share"]), name["method"], name["control"]].append(accuracies(file))
    if not found:
        raise FileNotFoundError(
            f"{out} has no finished run (NAME/report/queries.jsonl): run benchmarks/distillation.sh"
        )
    lines = [
        "| sentences | method | teacher | seeds | Acc@0.25 | Acc@0.5 | by colour, Acc@0.25 | by colour, Acc@0.5 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for share, method, control in sorted(
        found, key=lambda key: (key[0], key[1] != "student", key[1], CONTROLS.index(key[2]))
    ):
        runs = found[share, method, control]
        teacher = "none" if method == "student" else TEACHERS[control]
        cells = [f"{-100 * share:.0f} %", "student alone" if method == "student" else method, teacher, str(len(runs))]
        for values in zip(*runs, strict=True):
            cells.append(f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else ""))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def paired(out: Path, method: str) -> str:
    """Markdown: what ``method`` is ahead of each other row by, in points over the same sentences.

    A cell is the mean over the seeds that both have, its standard error (sentences of a room are taken together), and
    the difference in each seed.

    Raises:
        FileNotFoundError: no run of the method is finished.
        ValueError: runs were evaluated on other sentences.
    """
    runs: dict[tuple[str, str, str], dict[str, list[dict]]] = defaultdict(dict)
    for file in sorted(out.glob("*/report/queries.jsonl")):
        if name := NAME.fullmatch(file.parents[1].name):
            runs[name["share"], name["method"], name["control"]][name["seed"]] = read(file)
    lines = []
    for (share, other, control), theirs in runs.items():
        ours = runs.get((share, method, "none"), {})
        seeds = sorted(ours.keys() & theirs.keys())
        if not seeds or theirs is ours:
            continue
        pairs = [(ours[seed], theirs[seed]) for seed in seeds]
        rows = pairs[0][0]
        if any([sentence(row) for row in run] != [sentence(row) for row in rows] for pair in pairs for run in pair):
            raise ValueError(f"{out}: {method} and {other} were evaluated on other sentences")
        everything, colored = np.full(len(rows), True), np.array([by_color(row) for row in rows])
        _, rooms = np.unique([row["scene_id"] for row in rows], return_inverse=True)
        cells = [f"{100 * float(share):.0f} %", other, "none" if other == "student" else TEACHERS[control]]
        for kept in (everything, colored):
            for threshold in (0.25, 0.5):
                hits = np.array([[[row["iou"] > threshold for row in run] for run in pair] for pair in pairs], float)
                cells.append(ahead(100 * (hits[:, 0] - hits[:, 1])[:, kept], rooms[kept]))
        lines.append(f"| {' | '.join(cells)} |\n")
    if not lines:
        raise FileNotFoundError(f"{out} has no finished run of {method} beside one of another method")
    head = "| sentences | ahead of | teacher | Acc@0.25 | Acc@0.5 | by colour, Acc@0.25 | by colour, Acc@0.5 |\n"
    return head + "|---|---|---|---|---|---|---|\n" + "".join(lines)


def sentence(row: dict) -> tuple:
    return row["scene_id"], row["text"]


def ahead(gain: np.ndarray, rooms: np.ndarray) -> str:
    """Mean, standard error and the mean of each seed, of gains (seeds, sentences) in rooms (sentences,) int."""
    if not gain.size:
        return "–"
    apart = np.bincount(rooms, gain.mean(0) - gain.mean())
    error = np.sqrt((apart**2).sum()) / len(rooms)
    return f"{gain.mean():+.1f} ± {error:.1f} ({', '.join(f'{value:.1f}' for value in gain.mean(1))})"


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    try:
        text = table(folder)
        if len(sys.argv) > 2:
            text += "\n" + paired(folder, sys.argv[2])
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"distillation_table: {error}") from error
    write_text(folder / "distillation.md", text)
    print(text)
