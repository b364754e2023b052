"""The tables of benchmarks/distillation.sh: python benchmarks/distillation_table.py OUT [METHOD]

Writes OUT/distillation.md; with METHOD, then also what this method is ahead of the others by.
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from itertools import chain
from pathlib import Path
from statistics import mean, stdev

import numpy as np

from tsp3d.files import write_text
from tsp3d.synth.types import COLORS

NAME = re.compile(r"(?P<method>.+)\.(?P<control>\w+)\.seed(?P<seed>\d+)\.share(?P<share>[\d.]+)")
CONTROLS = ("none", "random", "shuffled")
TEACHERS = {"none": "as it is", "random": "random weights", "shuffled": "shuffled across scenes"}
COLOR = re.compile(rf"\b({'|'.join(COLORS)})\b")


Row = tuple[float, str, str]
"""Minus the share of sentences, method and control: rows of the tables, which sort by it."""
Runs = dict[Row, dict[str, list[dict]]]
"""What each seed of a row gave for each sentence."""


def read_runs(out: Path) -> Runs:
    """The finished runs of a study, in the order of the tables.

    Raises:
        FileNotFoundError: no run is finished.
    """
    found: Runs = defaultdict(dict)
    for file in sorted(out.glob("*/report/queries.jsonl")):
        if name := NAME.fullmatch(file.parents[1].name):
            rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
            found[-float(name["share"]), name["method"], name["control"]][name["seed"]] = rows
    if not found:
        raise FileNotFoundError(
            f"{out} has no finished run (NAME/report/queries.jsonl): run benchmarks/distillation.sh"
        )
    order = sorted(found, key=lambda row: (row[0], row[1] != "student", row[1], CONTROLS.index(row[2])))
    return {row: found[row] for row in order}


def share_and_teacher(row: Row) -> tuple[str, str]:
    share, method, control = row
    return f"{-100 * share:.0f} %", "none" if method == "student" else TEACHERS[control]


def by_color(query: dict) -> bool:
    """Whether a sentence tells its target by the colour alone."""
    return query.get("relation") == "attribute" and COLOR.search(query["text"].lower()) is not None


def accuracies(rows: list[dict]) -> list[float]:
    """Acc@0.25 and Acc@0.5 in percent of all sentences, then of those that tell the target by its colour alone."""
    told = [row for row in rows if by_color(row)]
    return [
        100 * sum(row["iou"] > threshold for row in part) / len(part) if part else float("nan")
        for part in (rows, told)
        for threshold in (0.25, 0.5)
    ]


def table(runs: Runs) -> str:
    """Markdown: mean and sample standard deviation over the seeds, for each method, control and share of sentences."""
    lines = [
        "| sentences | method | teacher | seeds | Acc@0.25 | Acc@0.5 | by colour, Acc@0.25 | by colour, Acc@0.5 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row, seeds in runs.items():
        share, teacher = share_and_teacher(row)
        cells = [share, "student alone" if row[1] == "student" else row[1], teacher, str(len(seeds))]
        for values in zip(*map(accuracies, seeds.values()), strict=True):
            cells.append(f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else ""))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def paired(runs: Runs, method: str) -> str:
    """Markdown: what ``method`` is ahead of each other row by, in points over the same sentences.

    A cell is the mean over the seeds that both have, its standard error (sentences of a room are taken together), and
    the difference in each seed.

    Raises:
        FileNotFoundError: no run of the method is finished.
        ValueError: runs were evaluated on other sentences.
    """
    lines = [
        "| sentences | ahead of | teacher | Acc@0.25 | Acc@0.5 | by colour, Acc@0.25 | by colour, Acc@0.5 |",
        "|---|---|---|---|---|---|---|",
    ]
    for row, theirs in runs.items():
        ours = runs.get((row[0], method, "none"), {})
        seeds = sorted(ours.keys() & theirs.keys())
        if not seeds or theirs is ours:
            continue
        pairs = [(ours[seed], theirs[seed]) for seed in seeds]
        first = pairs[0][0]
        if any([sentence(query) for query in run] != [sentence(query) for query in first] for run in chain(*pairs)):
            raise ValueError(f"{method} and {row[1]} were evaluated on other sentences")
        everything, colored = np.full(len(first), True), np.array([by_color(query) for query in first])
        _, rooms = np.unique([query["scene_id"] for query in first], return_inverse=True)
        share, teacher = share_and_teacher(row)
        cells = [share, row[1], teacher]
        ious = np.array([[[query["iou"] for query in run] for run in pair] for pair in pairs])  # (seeds, 2, sentences)
        for kept in (everything, colored):
            for threshold in (0.25, 0.5):
                hits = 100.0 * (ious > threshold)
                cells.append(ahead((hits[:, 0] - hits[:, 1])[:, kept], rooms[kept]))
        lines.append(f"| {' | '.join(cells)} |")
    if len(lines) == 2:
        raise FileNotFoundError(f"no finished run of {method} beside one of another method")
    return "\n".join(lines) + "\n"


def sentence(query: dict) -> tuple:
    return query["scene_id"], query["text"]


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
        found = read_runs(folder)
        text = table(found)
        if len(sys.argv) > 2:
            text += "\n" + paired(found, sys.argv[2])
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"distillation_table: {error}") from error
    write_text(folder / "distillation.md", text)
    print(text)
