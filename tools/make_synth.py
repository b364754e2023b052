"""Generate a dataset of synthetic scanned rooms with referring sentences.

Example: python tools/make_synth.py --out data/synth --train 1200 --val 150 --workers 2 --assets /usr/share/sweethome3d
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tsp3d.synth.dataset import SynthConfig, rewrite_sentences, write_dataset, write_sets


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--out", type=Path, help="folder of the dataset; a run that was stopped goes on there")
    parser.add_argument("--train", type=int, default=1000, help="training rooms")
    parser.add_argument("--val", type=int, default=100, help="validation rooms")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same rooms")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes; the result is the same for any"
    )
    parser.add_argument(
        "--assets", help="folder with Sweet Home 3D .sh3f libraries (default: an installed one, if any)"
    )
    parser.add_argument("--parametric-only", action="store_true", help="use no furniture libraries")
    parser.add_argument("--cache", help="folder for prepared libraries (default: TSP3D_CACHE or ~/.cache/tsp3d)")
    parser.add_argument("--max-points", type=int, default=60000, help="points kept per room")
    parser.add_argument("--sentences", type=int, default=40, help="sentences per room")
    task.add_argument(
        "--sentences-only", type=Path, metavar="DIR", help="make the sentences of an existing dataset anew"
    )
    task.add_argument(
        "--sets",
        type=Path,
        metavar="DIR",
        help="add sentences that mean several objects or none to an existing dataset",
    )
    parser.add_argument("--sets-count", type=int, default=20, help="sentences that --sets adds to each room")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    args = parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if args.sentences_only is not None:
            print(rewrite_sentences(args.sentences_only, args.sentences, args.workers))
            return 0
        if args.sets is not None:
            print(write_sets(args.sets, args.sets_count, args.workers))
            return 0
        config = SynthConfig(
            args.train,
            args.val,
            args.seed,
            args.max_points,
            args.sentences,
            args.assets,
            args.parametric_only,
            args.cache,
        )
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns) as bar:
            bars = {split: bar.add_task(split, total=getattr(args, split)) for split in ("val", "train")}
            done = write_dataset(args.out, config, args.workers, lambda split, count: bar.advance(bars[split], count))
        print(f"{args.out}: {done['train']} training and {done['val']} validation rooms")
        return 0
    except (OSError, ValueError, KeyboardInterrupt) as error:
        print(f"make_synth: {str(error) or 'interrupted'}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
