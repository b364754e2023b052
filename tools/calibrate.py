"""Fit when a model says "nothing fits", and how many boxes it gives for several objects.

python tools/calibrate.py --data data/synth --split val --model runs/tiny/export --out weights/calibrated
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import tyro
from rich.console import Console
from rich.markdown import Markdown

from tsp3d.data.datasets import Kind, open_dataset
from tsp3d.evaluation.calibrate import answers, describe, fit, measures
from tsp3d.evaluation.protocols import spread
from tsp3d.io.write import check_places, replacing, write_text
from tsp3d.models.config import CalibrationConfig
from tsp3d.models.net import GroundingNet
from tsp3d.pretrained import find_weights, pick_device
from tsp3d.request import check_share


@dataclass
class Args:
    """Fit on every other scene of a split, report on the rest; writes the weights with the calibration."""

    data: Path
    """Dataset folder; generated rooms need tools/make_synth.py --sets."""
    out: Path
    """Folder for the calibrated weights and calibration.md."""
    model: str = "tsp3d-tiny"
    """Name of bundled weights, or a weights folder."""
    dataset: Kind = "synth-multi"
    """Dataset that the sentences come from: synth-multi or multi3drefer."""
    split: str = "val"  # Split of the dataset.
    annotations: Path | None = None
    """Annotation file of multi3drefer."""
    skip_missing: bool = False
    """Leave out sentences whose scene or object was not prepared."""
    limit: int = 0
    """At most this many scenes, at even distances; 0 for all."""
    queries: int = 0
    """At most this many sentences of each scene; 0 for all."""
    min_presence: float | None = None
    """Use this threshold of presence (0 to 1) instead of the one with the best F1."""
    device: str = "auto"
    """auto, cpu or cuda."""


def main(args: Args) -> None:
    """Calibrate, or say why not."""
    try:
        calibrate(args)
    except (OSError, ValueError, KeyboardInterrupt) as error:
        raise SystemExit(f"calibrate: {str(error) or 'interrupted'}") from error


def calibrate(args: Args) -> None:
    """Fit, report, write."""
    folder = find_weights(args.model)
    net = GroundingNet.from_pretrained(folder, pick_device(args.device))
    scenes = open_dataset(args.dataset, args.data, args.split, args.annotations, args.skip_missing)
    chosen = spread(len(scenes), args.limit)
    if folder.resolve() in args.out.resolve().parents:
        raise ValueError(f"{args.out} lies in {folder}, which is copied there; choose another folder")
    check_places([args.out / name for name in ("config.json", "calibration.md", "calibration.json")])
    halves = [answers(net, scenes, chosen[start::2], args.queries) for start in (0, 1)]
    best = calibration = fit(halves[0])
    if not halves[1]:
        raise ValueError(f"{args.data} leaves no sentence to report on: it takes two scenes or more")
    if args.min_presence is not None:
        check_share("min_presence", args.min_presence)
        calibration = replace(best, min_presence=args.min_presence)
    calibration.fitted_on = f"{args.dataset} {args.data} {args.split}, {len(halves[0])} sentences"
    kinds = {
        "before": CalibrationConfig(),
        "always": replace(best, min_presence=0.0),
        "best": best,
        "after": calibration,
    }
    reports = {name: measures(halves[1], kind) for name, kind in kinds.items()}
    text = describe(args.model, kinds, reports, len(halves[1]))
    net.config.calibration = calibration
    for path in folder.rglob("*") if args.out.resolve() != folder.resolve() else ():
        if path.is_file() and path != folder / "config.json":
            with replacing(args.out / path.relative_to(folder)) as temporary:
                shutil.copyfile(path, temporary)
    write_text(args.out / "calibration.md", text)
    write_text(args.out / "calibration.json", json.dumps({"calibration": asdict(calibration), **reports}, indent=1))
    write_text(args.out / "config.json", json.dumps(net.config.to_dict(), indent=2))  # makes it a model
    Console().print(Markdown(text))
    print(f"calibrated weights: {args.out}")


if __name__ == "__main__":
    main(tyro.cli(Args))
