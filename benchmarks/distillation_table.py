"""The table of benchmarks/distillation.sh: python benchmarks/distillation_table.py OUT (writes OUT/distillation.md)."""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev

from tsp3d.files import write_text
from tsp3d.synth.types import COLORS

NAME = re.compile(r"(?P<method>.+)\.(?P<control>\w+)\.seed(?P<seed>\d+)\.share(?P<share>[\d.]+)")
CONTROLS = ("none", "random", "shuffled")


def accuracies(queries: Path) -> list[float]:
    """Acc@0.25 and Acc@0.5 in percent of all sentences, then of those that tell the target by its colour alone."""
    rows = [json.loads(line) for line in queries.read_text(encoding="utf-8").splitlines()]
    colors = re.compile(rf"\b({'|'.join(COLORS)})\b")
    told = [row for row in rows if row.get("relation") == "attribute" and colors.search(row["text"].lower())]
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
    kinds = {"none": "as it is", "random": "random weights", "shuffled": "shuffled across scenes"}
    for share, method, control in sorted(
        found, key=lambda key: (key[0], key[1] != "student", key[1], CONTROLS.index(key[2]))
    ):
        runs = found[share, method, control]
        teacher = "none" if method == "student" else kinds[control]
        cells = [f"{-100 * share:.0f} %", "student alone" if method == "student" else method, teacher, str(len(runs))]
        for values in zip(*runs, strict=True):
            cells.append(f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else ""))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    try:
        text = table(folder)
    except FileNotFoundError as error:
        raise SystemExit(f"distillation_table: {error}") from error
    write_text(folder / "distillation.md", text)
    print(text)
