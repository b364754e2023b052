"""Evaluate weights: python tools/evaluate.py --data data/synth --split val --model tsp3d-tiny --out out/evaluation"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import Progress

from tsp3d.data import PreparedScenes
from tsp3d.evaluation import evaluate_grounding, measure_speed, write_report
from tsp3d.evaluation.protocols import spread
from tsp3d.evaluation.report import groups_table


@dataclass
class Args:
    """Evaluate grounding on prepared scenes; writes report.md, report.json and queries.jsonl."""

    data: Path
    """Dataset folder, as tools/make_synth.py writes."""
    out: Path
    """Folder for the report."""
    model: str = "tsp3d-tiny"
    """Name of bundled weights, or a weights folder."""
    dataset: Literal["synth"] = "synth"
    """Kind of dataset."""
    split: str = "val"
    limit: int = 0
    """At most this many scenes, at even distances; 0 for all."""
    queries: int = 0
    """At most this many sentences of each scene; 0 for all."""
    points: int = 0
    """Random points kept of each scene; 0 keeps all."""
    batch: int = 16
    """Sentences grounded together."""
    top_k: int = 5
    """Boxes asked for each sentence: accuracy looks at the first, recall at all."""
    no_color: bool = False
    """Evaluate the scans without their colour."""
    timing: int = 8
    """Scenes that speed is measured on; 0 for no timing."""
    device: str = "auto"
    """auto, cpu or cuda."""


def main(args: Args) -> None:
    """Evaluate, report, print the table."""
    device = ("cuda" if torch.cuda.is_available() else "cpu") if args.device == "auto" else args.device
    try:
        net = load_net(args.model).to(device).eval()
        scenes = PreparedScenes(args.data, args.split)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"evaluate: {error}") from error
    chosen = spread(len(scenes), args.limit)
    with Progress(transient=True) as bar:
        task = bar.add_task("scenes", total=len(chosen))
        result = evaluate_grounding(
            net,
            scenes,
            scenes=chosen,
            queries_per_scene=args.queries,
            batch=args.batch, top_k=args.top_k, points=args.points, color=not args.no_color, device=device,
            progress=lambda _: bar.advance(task),
        )  # fmt: skip
    if args.timing:
        result.timings = measure_speed(net, scenes, scenes=args.timing, points=args.points, device=device)
    result.info = {
        "model": args.model,
        "dataset": f"{args.dataset} {args.data} {args.split}, {len(chosen)} of {len(scenes)} scenes",
        "color": not args.no_color,
        "machine": f"{platform.machine()}, {device}, torch {torch.__version__}, {torch.get_num_threads()} threads",
    }
    paths = write_report(result, args.out)
    Console().print(Markdown(groups_table(result.groups)))
    print(f"report: {paths['report.md']}")


def load_net(name: str):
    """The network of a weights folder, or of a name among the package's weights."""
    import tsp3d
    from tsp3d.models.net import GroundingNet

    bundled = Path(tsp3d.__file__).parent / "weights"
    folder = Path(name) if Path(name).is_dir() else bundled / name
    if not folder.is_dir():
        names = sorted(path.parent.name for path in bundled.glob("*/model.safetensors"))
        raise FileNotFoundError(f"no weights folder {name!r}, and the bundled weights are {names}")
    return GroundingNet.from_pretrained(folder)


if __name__ == "__main__":
    main(tyro.cli(Args))
