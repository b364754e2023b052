"""Contact sheets of what 2D teachers get: views of a scan from within, and of a prepared scene's objects from around.

python tools/render_views.py room.ply --out out/views

python tools/render_views.py data/synth/val/synth-val-0-00000 --out out/views
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro

from tsp3d.benchmark.report import header
from tsp3d.benchmark.views import time_views
from tsp3d.data.scenes import prepared_scene
from tsp3d.io import load_scan
from tsp3d.io.errors import UserError
from tsp3d.io.write import check_writable, write_text
from tsp3d.views.cameras import ObjectViews, scene_cameras
from tsp3d.views.objects import object_views
from tsp3d.views.render import render
from tsp3d.views.sheets import write_sheet
from tsp3d.viz.png import height_colours


@dataclass
class Options:
    """Render views of a scan, or of a prepared scene and each of its objects."""

    source: tyro.conf.Positional[Path | None] = None
    """A scan file, or FOLDER/SPLIT/SCENE of a prepared dataset; FOLDER/SPLIT takes its first scene."""
    out: Path = Path("out/views")
    """Folder for the PNGs."""
    views: int = 8
    """Views of the whole scan."""
    fit: bool = False
    """Objects fill the image, instead of LAR's fixed distance."""
    seed: int | None = None
    """Vary the objects' cameras at random, as LAR's augmentation does, from this seed."""
    up: Literal["x", "y", "z", "-x", "-y", "-z"] | None = None
    """The scan's upward axis; z unless given (GLB: y, as that format says)."""
    unit: Literal["m", "cm", "mm"] = "m"
    """The scan's unit."""
    timing: Path | None = None
    """Time the objects' views of a generated room instead, and write the figures to this JSON."""


def main(options: Options) -> int:
    """Render and write; the exit code."""
    try:
        if options.timing:
            check_writable(options.timing)
            body = {**header("views", torch.device("cpu")), **time_views()}
            write_text(options.timing, json.dumps(body, indent=1) + "\n")
            print({name: f"{timing['ms']:.0f} ms" for name, timing in body["times"].items()})
            return 0
        if options.source is None:
            raise UserError("name a scan file, or FOLDER/SPLIT/SCENE of a prepared dataset")
        written = []
        if sample := prepared_scene(options.source):
            name, xyz, rgb = sample.scene_id, torch.from_numpy(sample.xyz), torch.from_numpy(sample.rgb)
            views = ObjectViews(fit=options.fit)
            generator = None if options.seed is None else torch.Generator().manual_seed(options.seed)
            images = object_views(xyz, rgb, torch.from_numpy(sample.boxes), views, generator=generator)
            if len(images):
                written.append(options.out / f"{name}.objects.png")
                labels = [f"{number} {label}" for number, label in enumerate(sample.names())]
                write_sheet(written[-1], list(zip(labels, images)), (144, 144), columns=2)
        else:
            scan = load_scan(options.source, up=options.up, unit=options.unit)
            colours = height_colours(scan.xyz) if scan.rgb is None else scan.rgb
            name, xyz, rgb = options.source.stem, torch.from_numpy(scan.xyz), torch.from_numpy(colours)
        images = render(xyz, rgb, scene_cameras(xyz, options.views)).images
        written.append(options.out / f"{name}.scene.png")
        write_sheet(written[-1], [(f"view {i}", image[None]) for i, image in enumerate(images)], (480, 360), columns=2)
        print(*(f"wrote {path}" for path in written), sep="\n")
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, description=__doc__)))
