"""Reports of an evaluation: Markdown to read, JSON to compare, JSON lines to look into single queries."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from tsp3d.evaluation.metrics import THRESHOLDS
from tsp3d.evaluation.protocols import Evaluation
from tsp3d.evaluation.published import paper_table
from tsp3d.io.write import check_places, write_text

COLUMNS = ("queries", "acc@0.25", "acc@0.5", "recall@0.25", "recall@0.5", "mean_iou", "f1@0.25", "f1@0.5")

SINGLE = (
    "A query is right at t if the IoU of its best-scored box with the target is greater than t. *Recall* counts "
    "any of the boxes asked for. *Unique*: no other object of the target's class is in the scene "
    "(all objects count).\n"
)
MULTIPLE = (
    "F1 of a query: 2 TP / (predicted + true), boxes matched to targets so that the sum of their IoU is greatest, a "
    "match being right if its IoU is greater than t; the mean over queries is given.\n"
)


FILES = ("report.md", "report.json", "queries.jsonl")


def check_report(folder: str | Path) -> None:
    """Make ``folder`` and try the places of a report's files before the work that is for them. Raises UserError."""
    check_places([Path(folder) / name for name in FILES])


def write_report(result: Evaluation, folder: str | Path) -> dict[str, Path]:
    """Write ``report.md``, ``report.json`` and ``queries.jsonl`` into ``folder``; returns their paths."""
    paths = {name: Path(folder) / name for name in FILES}
    write_text(paths["queries.jsonl"], "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in result.rows))
    write_text(paths["report.json"], json.dumps(result.summary(), indent=1, ensure_ascii=False) + "\n")
    write_text(paths["report.md"], markdown(result))
    return paths


def markdown(result: Evaluation) -> str:
    """The report as Markdown: what was evaluated, accuracy by group, errors, timings."""
    parts = ["# Evaluation\n"]
    parts.append("".join(f"- {key}: {value}\n" for key, value in result.info.items()))
    several = any("f1" in row for row in result.rows)
    parts.append(MULTIPLE if several else SINGLE)
    parts.append(tables(result))
    parts.append(f"Expected calibration error of the score (IoU > 0.25): {result.calibration_error:.3f}\n")
    parts.append("" if several else _errors(result.rows))
    if result.timings:
        parts.append("## Speed\n\nMedians, one sentence at a time, loading and warm-up left out.\n")
        names = {
            "cold": "new scene, new sentence",
            "encode": "of it, encoding the scene",
            "warm": "new sentence, known scene",
        }
        lines = [f"| {label} | {result.timings[key]:.1f} ms |" for key, label in names.items() if key in result.timings]
        parts.append("| | |\n|---|---|\n" + "\n".join(lines) + "\n")
        parts.append(
            f"{result.timings.get('scenes', 0):.0f} scenes, {result.timings.get('points', 0):,.0f} points each.\n"
        )
    return "\n".join(part for part in parts if part)


def tables(result: Evaluation) -> str:
    """The paper's table, groups and masks as Markdown."""
    paper = paper_table(result.dataset, result.groups, result.timings)
    return "\n".join(part for part in (paper, groups_table(result.groups), masks_table(result.masks)) if part)


def groups_table(groups: dict[str, dict[str, float]]) -> str:
    """Markdown table of the groups of queries, one a row."""
    columns = [key for key in COLUMNS if any(key in row for row in groups.values())]
    lines = ["| group | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(_number(row, key) for key in columns) + " |" for name, row in groups.items()]
    return "\n".join(lines) + "\n"


def masks_table(masks: dict[str, dict[str, float]]) -> str:
    """Markdown of the masks' measures; "" without masks."""
    if not masks:
        return ""
    lines = ["## Masks\n", "Of the best box of each query, over the scan's points (%).\n"]
    lines += ["| | mIoU | " + " | ".join(f"acc@{t:g}" for t in THRESHOLDS) + " |", "|---" * 4 + "|"]
    lines += [f"| {name} | " + " | ".join(f"{v:.2f}" for v in row.values()) + " |" for name, row in masks.items()]
    return "\n".join(lines) + "\n"


def _number(row: dict[str, float], key: str) -> str:
    if key not in row:
        return ""
    return f"{row[key]:.0f}" if key == "queries" else f"{row[key]:.3f}" if key == "mean_iou" else f"{row[key]:.2f}"


def _errors(rows: list[dict[str, Any]]) -> str:
    """Where the wrong boxes (IoU ≤ 0.25) are, and the classes that fail most often."""
    if not rows:
        return ""
    kinds: Counter[str] = Counter()
    by_class: dict[str, list[int]] = {}
    for row in rows:
        right = row["iou"] > 0.25
        by_class.setdefault(row["target_class"], []).append(right)
        if right:
            continue
        if row["hit"] == row["target"]:
            kinds["on the target, badly fitted"] += 1
        elif row["hit"] < 0:
            kinds["on no object"] += 1
        elif row["hit"] in row["anchors"]:
            kinds["on an object that the sentence mentions"] += 1
        elif row["hit_class"] == row["target_class"]:
            kinds["on another object of the class"] += 1
        else:
            kinds["on an object of another class"] += 1
    lines = ["## Errors\n", "| box is | share of all queries |", "|---|---|"]
    lines += [f"| {kind} | {100 * count / len(rows):.2f} % |" for kind, count in kinds.most_common()]
    lines += ["", "| class of the target | queries | acc@0.25 |", "|---|---|---|"]
    ranked = sorted(by_class.items(), key=lambda item: (sum(item[1]) / len(item[1]), item[0]))
    lines += [f"| {name or '?'} | {len(values)} | {100 * sum(values) / len(values):.2f} |" for name, values in ranked]
    return "\n".join(lines) + "\n"
