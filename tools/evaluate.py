"""Evaluate weights: python tools/evaluate.py --data data/synth --split val --model tsp3d-tiny --out out/evaluation

On ScanNet: --data data/scannet (tools/prepare_scannet.py) --dataset scanrefer --annotations ScanRefer_filtered_val.json
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import track

from tsp3d.data.datasets import Kind, open_dataset
from tsp3d.evaluation import evaluate_grounding, evaluate_multi, measure_speed, prediction_rule, write_report
from tsp3d.evaluation.protocols import spread
from tsp3d.evaluation.report import tables
from tsp3d.models.net import GroundingNet
from tsp3d.pretrained import find_weights, pick_device, set_precision


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
    """Whose sentences."""
    split: str = "val"
    annotations: Path | None = None
    """Annotation file of scanrefer, nr3d, sr3d or multi3drefer."""
    tokens: bool = False
    """scanrefer: sentences as their tokens joined by blanks, as the published weights read them."""
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
    """Boxes asked for each sentence (*multi*: at least 16): accuracy looks at the first, recall at all."""
    min_score: float | None = None
    """*multi*: boxes below are not predicted; unless given, by the model's calibration or else its own threshold."""
    no_color: bool = False
    """Evaluate the scans without their colour."""
    timing: int = 8
    """Scenes that speed is measured on; 0 for no timing."""
    device: str = "auto"
    """auto, cpu or cuda."""
    precision: str = "float32"  # float32, on a CPU also int8, or bfloat16 where it multiplies that


def main(args: Args) -> None:
    """Evaluate, report, print the table."""
    try:
        device = pick_device(args.device)
        net = GroundingNet.from_pretrained(folder := find_weights(args.model), device)
        set_precision(net, args.precision, device, folder)
        scenes = open_dataset(args.dataset, args.data, args.split, args.annotations, args.skip_missing, args.tokens)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"evaluate: {error}") from error
    chosen = spread(len(scenes), args.limit)
    common: dict[str, Any] = {
        "scenes": track(chosen, "scenes", transient=True), "queries_per_scene": args.queries, "batch": args.batch,
        "points": args.points, "color": not args.no_color, "device": device,
    }  # fmt: skip
    if args.dataset in ("multi3drefer", "synth-multi"):
        rule = prediction_rule(net.config, args.min_score)
        result = evaluate_multi(net, scenes, top_k=max(16, args.top_k), **rule, **common)
        result.info |= rule
    else:
        result = evaluate_grounding(net, scenes, top_k=args.top_k, **common)
    result.dataset = args.dataset
    if args.timing:
        result.timings = measure_speed(net, scenes, scenes=args.timing, points=args.points, device=device)
    result.info |= {
        "model": args.model, "color": not args.no_color, "precision": args.precision,
        "dataset": f"{args.dataset} {args.data} {args.split}, {len(chosen)} of {len(scenes)} scenes",
        "machine": f"{platform.machine()}, {device}, torch {torch.__version__}, {torch.get_num_threads()} threads",
    }  # fmt: skip
    Console().print(Markdown(tables(result)))
    print(f"report: {write_report(result, args.out)['report.md']}")


if __name__ == "__main__":
    main(tyro.cli(Args))
