"""The mean of the weights of several trainings, of which one began with the weights of another.

python tools/average_weights.py runs/first/export runs/second/export --out weights/mean
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from tsp3d.pretrained import find_weights
from tsp3d.training.soup import mean_of


@dataclass
class Args:
    """Average weights; calibrate the result anew (tools/calibrate.py, tools/calibrate_int8.py)."""

    models: tyro.conf.Positional[tuple[str, ...]]
    """Weights folders, or names of bundled weights. One that is named twice counts twice."""
    out: Path
    """Folder for the mean."""
    half: bool = True
    """Store matrices in float16, for half the size."""


def main(args: Args) -> None:
    """Read, average, write."""
    try:
        mean_of([find_weights(model) for model in args.models]).save_pretrained(args.out, half=args.half)
    except (OSError, ValueError, KeyboardInterrupt) as error:
        raise SystemExit(f"average_weights: {str(error) or 'interrupted'}") from error
    print(f"weights: {args.out}")


if __name__ == "__main__":
    main(tyro.cli(Args))
