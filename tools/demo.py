"""Ground three sentences in the bundled scan, print a table, and draw the answers.

make demo        (or: python tools/demo.py --model FOLDER --out FOLDER)
"""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as in tools/infer.py

import tsp3d
from tsp3d.grounder import ScanResult
from tsp3d.results import lengths, paired_iou, write_pictures

FOLDER = Path(tsp3d.__file__).parent / "demo"


@dataclass
class Options:
    """The demo: what `make demo` runs."""

    model: str = "tsp3d-tiny"
    """Name of a bundled model, or a folder."""
    device: str = "auto"
    """auto, cpu or cuda."""
    out: Path = Path("out/demo")
    """Folder for the pictures."""


def main(options: Options) -> int:
    """Run the demo; the exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    console = Console()
    try:
        asked = json.loads((FOLDER / "sentences.json").read_text(encoding="utf-8"))["sentences"]
        scan = tsp3d.load_scan(FOLDER / "room.npz", unit="mm")
        console.print(f"{len(scan):,} points of a generated room; model {options.model}", highlight=False)
        grounder = tsp3d.Grounder.from_pretrained(options.model, device=options.device)
        scene = grounder.encode(scan)
        results = grounder.ground(scene, [entry["text"] for entry in asked])
        table = Table()
        for name in ("sentence", "score", "centre (mm)", "size (mm)", "IoU with truth", "ms"):
            table.add_column(name, justify="left" if name == "sentence" else "right")
        for entry, result in zip(asked, results, strict=True):
            ms = f"{result.timings_ms['ground']:.0f}"
            if not result.found:
                table.add_row(result.text, f"{result.best_score:.2f}", "not found", "", "", ms)
                continue
            box = result.boxes[0]
            overlap = paired_iou(np.array([*box.center, *box.size]) / 1000, np.array(entry["box"]))
            verdict = f"{overlap:.2f} {'right' if overlap > 0.25 else 'wrong'}"
            centre, size = (lengths(values, "mm") for values in (box.center, box.size))
            table.add_row(result.text, f"{box.score:.2f}", centre, size, verdict, ms)
        console.print(table)
        console.print(f"The scan's features took {scene.encode_ms:.0f} ms, once for all sentences. Pictures:")
        for path in write_pictures(ScanResult(scan.source, scan, results), options.out):
            console.print(f"  {path}", highlight=False, soft_wrap=True)
    except tsp3d.UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, description=__doc__)))
