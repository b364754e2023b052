"""Evaluate weights: python tools/evaluate.py --data data/synth --split val --model tsp3d-tiny --out out/evaluation

On ScanNet: --data data/scannet (tools/prepare_scannet.py) --dataset scanrefer --annotations ScanRefer_filtered_val.json
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import track

from tsp3d.data.datasets import Kind, open_dataset
from tsp3d.distill.two_streams import load_model
from tsp3d.evaluation import CutScenes, check_report, evaluate_dataset, measure_speed, spread, tables, write_report
from tsp3d.pretrained import pick_device


@dataclass
class Args:
    """Evaluate grounding on prepared scenes; writes report.md, report.json and queries.jsonl."""

    data: Path
    """Dataset folder, as tools/make_synth.py or tools/prepare_scannet.py writes."""
    out: Path
    """Folder for the report."""
    model: str = "tsp3d-tiny"
    """Name of bundled weights, or a weights folder."""
    dataset: Kind = "synth"
    """Dataset that the sentences come from."""
    split: str = "val"  # Split of the dataset.
    annotations: Path | None = None
    """Annotation file of scanrefer, nr3d, sr3d or multi3drefer."""
    tokens: bool = False
    """scanrefer, nr3d, sr3d: sentences as the published weights read them (tools/README.md)."""
    skip_missing: bool = False
    """Leave out sentences whose scene or object was not prepared."""
    limit: int = 0
    """At most this many scenes, at even distances; 0 for all."""
    queries: int = 0
    """At most this many sentences of each scene; 0 for all."""
    points: int = 0
    """Random points kept of each scene; 0 keeps all."""
    batch: int = 16
    """Sentences grounded together."""
    top_k: int = 5
    """Boxes for each sentence (*multi*: at least 16): accuracy looks at the first, recall at all."""
    min_score: float | None = None
    """*multi*: leave out boxes below; by the model's calibration, or else its own threshold, unless given."""
    cut: float = 0.0  # Leave out what lies below so many metres, and the sentences that this makes doubtful.
    no_color: bool = False
    """Evaluate the scans without their colour."""
    timing: int = 8
    """Scenes that speed is measured on; 0 for no timing."""
    two_streams: float = 0.0
    """Weight of the 2D stream that training left in the model's folder (distill.keep=true); 0 leaves it out."""
    device: str = "auto"  # auto, cpu or cuda.
    precision: str = "float32"
    """float32; on a CPU also int8, or bfloat16 where the CPU has AVX-512 BF16."""
    turns: int = 1
    """1, or look at 2 or 4 turned copies of every scan."""


def main(args: Args) -> None:
    """Evaluate, report, print the table."""
    try:
        device = pick_device(args.device)
        model = load_model(args.model, device, args.precision, args.two_streams, args.turns)
        scenes = open_dataset(args.dataset, args.data, args.split, args.annotations, args.skip_missing, args.tokens)
        scenes = CutScenes(scenes, args.cut) if args.cut else scenes
        chosen, _ = (spread(len(scenes), count) for count in (args.limit, args.timing))  # a wrong one is said now
        check_report(args.out)  # before an hour's work, not after
        result = evaluate_dataset(
            model, scenes, args.dataset, top_k=args.top_k, min_score=args.min_score, points=args.points, device=device,
            scenes=track(chosen, "scenes", transient=True), queries_per_scene=args.queries, batch=args.batch,
            color=not args.no_color,
        )  # fmt: skip
        if args.timing:
            result.timings = measure_speed(model, scenes, scenes=args.timing, points=args.points, device=device)
        result.info |= {
            "model": args.model, "color": not args.no_color, "precision": args.precision, "turns": args.turns,
            "two_streams": args.two_streams, **({"annotations": str(args.annotations)} if args.annotations else {}),
            "dataset": f"{args.dataset} {args.data} {args.split}, {len(chosen)} of {len(scenes)} scenes",
            "options": f"--queries {args.queries} --points {args.points} --top-k {args.top_k}"
            + f" --cut {args.cut}" * bool(args.cut) + " --tokens" * args.tokens + " --skip-missing" * args.skip_missing,
            "machine": f"{platform.machine()}, {device}, torch {torch.__version__}, {torch.get_num_threads()} threads",
        }  # fmt: skip
        Console().print(Markdown(tables(result)))
        print(f"report: {write_report(result, args.out)['report.md']}")
    except (OSError, ValueError, KeyboardInterrupt) as error:
        raise SystemExit(f"evaluate: {str(error) or 'interrupted'}") from error


if __name__ == "__main__":
    main(tyro.cli(Args))
