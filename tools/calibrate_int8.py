"""Find the ranges of features that --precision int8 needs, and write them beside the weights.

python tools/calibrate_int8.py --data data/synth --model runs/tiny/export
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.progress import track

from tsp3d.data.datasets import Kind, open_dataset
from tsp3d.evaluation.protocols import ground_scenes, spread
from tsp3d.models.net import GroundingNet
from tsp3d.pretrained import find_weights, pick_device, write_ranges
from tsp3d.sparse.int8 import watch_ranges


@dataclass
class Args:
    """Run some scans in float32 and write int8.json into the weights' folder."""

    data: Path
    """Dataset folder, as tools/make_synth.py or tools/prepare_scannet.py writes."""
    model: str
    """Weights folder, or name of bundled weights, whose int8.json is replaced."""
    dataset: Kind = "synth"
    """Dataset that the sentences come from."""
    split: str = "train"  # Split of the dataset.
    annotations: Path | None = None
    """Annotation file of scanrefer, nr3d, sr3d or multi3drefer."""
    skip_missing: bool = False
    """Leave out sentences whose scene or object was not prepared."""
    limit: int = 40
    """At most this many scenes, at even distances; 0 for all."""
    queries: int = 4
    """At most this many sentences of each scene."""
    device: str = "auto"
    """auto, cpu or cuda."""


def main(args: Args) -> None:
    """Run, watch, write."""
    try:
        device, folder = pick_device(args.device), find_weights(args.model)
        net = GroundingNet.from_pretrained(folder, device)
        scenes = open_dataset(args.dataset, args.data, args.split, args.annotations, args.skip_missing)
        chosen, sentences = spread(len(scenes), args.limit), 0
        with watch_ranges(net) as ranges:
            for group in ground_scenes(
                net, scenes, lambda _: True, scenes=track(chosen, "scenes", transient=True), batch=16, points=0,
                queries_per_scene=args.queries, top_k=1, color=True, device=device, progress=None,
            ):  # fmt: skip
                sentences += len(group)
        found_on = f"{args.dataset} {args.data} {args.split}, {len(chosen)} scenes, {sentences} sentences"
        print(f"{len(ranges)} convolutions: {write_ranges(folder, ranges, found_on)}")
    except (OSError, ValueError, KeyboardInterrupt) as error:
        raise SystemExit(f"calibrate_int8: {str(error) or 'interrupted'}") from error


if __name__ == "__main__":
    main(tyro.cli(Args))
