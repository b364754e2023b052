"""Tables laid out like those of the papers, with published rows beside our own.

Figures as the papers print them; a cell without a figure was not at hand. Frames per second are those that the authors
of TSP3D (CVPR 2025, table 1) measured on an RTX 3090: they compare with one another, not with another machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

Groups = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Table:
    """A published comparison."""

    title: str
    columns: dict[str, tuple[str, str]]
    """Heading to (group, measure) of :class:`~tsp3d.evaluation.protocols.Evaluation`."""
    rows: dict[str, dict[str, float]]
    """Method to its figures by heading."""
    notes: tuple[str, ...] = field(default=())


def _pair(heading: str, group: str) -> dict[str, tuple[str, str]]:
    return {f"{heading} @0.25": (group, "acc@0.25"), f"{heading} @0.5": (group, "acc@0.5")}


def _scanrefer(quarter: float, half: float, fps: float, **more: float) -> dict[str, float]:
    return {"Overall @0.25": quarter, "Overall @0.5": half, "FPS": fps, **more}


_SCANREFER = Table(
    "ScanRefer, validation: accuracy (%)",
    {
        **_pair("Unique", "unique"), **_pair("Multiple", "multiple"), **_pair("Overall", "overall"),
        **_pair("Unique (official)", "unique (official)"), **_pair("Multiple (official)", "multiple (official)"),
        "FPS": ("", "fps"),
    },
    {
        "ScanRefer": _scanrefer(41.19, 27.40, 6.72),
        "TGNN": _scanrefer(37.37, 29.70, 3.19),
        "InstanceRefer": _scanrefer(40.23, 30.15, 2.33),
        "3D-SPS": _scanrefer(47.65, 36.43, 5.38),
        "BUTD-DETR": _scanrefer(49.76, 37.05, 5.91),
        "EDA": _scanrefer(53.83, 41.70, 5.98),
        "MCLN": _scanrefer(54.30, 42.64, 5.45),
        "TSP3D": _scanrefer(
            56.45, 46.71, 12.43,
            **{"Unique @0.25": 87.3, "Unique @0.5": 71.4, "Multiple @0.25": 51.0, "Multiple @0.5": 42.4},
        ),
    },
    (
        "*Unique* (TSP3D, BUTD-DETR): no other object of the scene is of the target's class among 18. *Unique "
        "(official)* (ScanRefer): no other object that the annotations describe is. *Multiple* is the rest of each.",
        "FPS: published ones on an RTX 3090; ours is cold (new scene, new sentence) on this report's machine.",
    ),
)  # fmt: skip


def _referit(name: str, published: dict[str, float]) -> Table:
    columns = {
        "Overall": ("overall", "acc@0.25"), "Easy": ("easy", "acc@0.25"), "Hard": ("hard", "acc@0.25"),
        "View-dep.": ("view-dependent", "acc@0.25"), "View-indep.": ("view-independent", "acc@0.25"),
        "Overall @0.5": ("overall", "acc@0.5"),
    }  # fmt: skip
    notes = (
        "Boxes are predicted, none are given. *Easy*: one other object of the target's class, *hard*: more. "
        "*View-dep.*: the sentence has a word such as left, behind or facing.",
    )
    rows = {method: {"Overall": value} for method, value in published.items()}
    return Table(f"{name}, test split: accuracy at IoU 0.25 (%)", columns, rows, notes)


_MULTI = Table(
    "Multi3DRefer, validation: F1 (%)",
    {
        "ZT w/o D": ("zt_wo_d", "f1@0.25"), "ZT w/ D": ("zt_w_d", "f1@0.25"),
        "ST w/o D @0.25": ("st_wo_d", "f1@0.25"), "ST w/o D @0.5": ("st_wo_d", "f1@0.5"),
        "ST w/ D @0.25": ("st_w_d", "f1@0.25"), "ST w/ D @0.5": ("st_w_d", "f1@0.5"),
        "MT @0.25": ("mt", "f1@0.25"), "MT @0.5": ("mt", "f1@0.5"),
        "All @0.25": ("overall", "f1@0.25"), "All @0.5": ("overall", "f1@0.5"),
    },
    {"M3DRef-CLIP": {"ZT w/o D": 81.8, "ZT w/ D": 39.4, "All @0.25": 42.8, "All @0.5": 38.4}},
    (
        "ZT, ST, MT: zero, single, multiple targets; D: distractors, other objects of the class named. A sentence "
        "without target scores 100 if nothing is predicted and 0 otherwise.",
    ),
)  # fmt: skip

TABLES: dict[str, Table] = {
    "scanrefer": _SCANREFER,
    "nr3d": _referit("Nr3D", {"3D-SPS": 39.2, "BUTD-DETR": 38.7, "EDA": 40.0, "MCLN": 45.7, "TSP3D": 48.7}),
    "sr3d": _referit("Sr3D", {"3D-SPS": 47.1, "BUTD-DETR": 50.1, "EDA": 49.7, "MCLN": 53.4, "TSP3D": 57.1}),
    "multi3drefer": _MULTI,
    "synth-multi": replace(_MULTI, title="Generated rooms: F1 (%)", rows={}),
}


def paper_table(dataset: str, groups: Groups, timings: dict[str, float] | None = None, name: str = "ours") -> str:
    """Markdown: the dataset's table with a row ``name`` of our own; "" for a dataset that no paper reports.

    Args:
        groups: of an evaluation. timings: its milliseconds; ``cold`` gives our frames per second.
    """
    table = TABLES.get(dataset)
    if table is None:
        return ""
    ours = {}
    for heading, (group, measure) in table.columns.items():
        if measure == "fps" and timings and timings.get("cold"):
            ours[heading] = 1000 / timings["cold"]
        elif measure in groups.get(group, {}):
            ours[heading] = groups[group][measure]
    lines = [f"## {table.title}\n", "| method | " + " | ".join(table.columns) + " |"]
    lines.append("|---" * (len(table.columns) + 1) + "|")
    for method, figures in {**table.rows, f"**{name}**": ours}.items():
        cells = [f"{figures[heading]:.2f}" if heading in figures else "" for heading in table.columns]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *table.notes]) + "\n"
