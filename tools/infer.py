"""Find what sentences mean in scans: boxes, in the frame and unit of each scan, as a table, as JSON, and drawn.

python tools/infer.py room.ply --text "the brown chair next to the desk" --out out/
"""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is loaded: benchmarks/README.md, "other work"

import tsp3d
from tsp3d.io.write import check_places
from tsp3d.results import document, print_table, try_pictures, unique_prefixes, write_json


@dataclass
class Options:
    scans: tyro.conf.Positional[tuple[str, ...]]
    """PLY, PCD, XYZ/TXT/CSV, NPY/NPZ, OBJ/GLB/STL/OFF, LAS/LAZ or E57 files, folders of them or quoted globs."""
    text: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """What to find, in English; may be given several times."""
    model: str = "tsp3d-tiny"
    """Name of a bundled model, a folder with config.json and model.safetensors, or a hub id."""
    device: str = "auto"  # auto, cpu or cuda.
    precision: Literal["float32", "bfloat16", "int8"] = "float32"
    """Of the convolutions, on a CPU: int8 is fastest, bfloat16 needs AVX-512 BF16; both are slightly less exact."""
    turns: Literal[1, 2, 4] = 1
    """Look at so many turned copies of a scan: a little more often right, and slower."""
    up: Literal["x", "y", "z", "-x", "-y", "-z"] | None = None
    """The scans' upward axis; z unless given (GLB: y, as that format says)."""
    unit: Literal["m", "cm", "mm"] = "m"  # The scans' unit.
    align: bool = True
    """First turn tilted scans level and their walls along the axes; boxes come back as the scan lies."""
    top_k: int | None = None
    """At most this many boxes for each sentence: the best and alternatives to it; one unless given."""
    several: bool = False
    """Give all objects that a sentence means ("the two lamps"), at most 16 unless --top-k says otherwise."""
    min_score: float | None = None
    """Leave out boxes below this score (0 to 1); the model's own threshold unless given."""
    min_presence: float | None = None
    """Find nothing where the probability that anything fits is below (0 to 1); the model's own unless given."""
    two_streams: float = 0.0
    """Weight of the 2D stream that training left in the model's folder (distill.keep=true); 0 leaves it out."""
    json: str | None = None
    """Write the results to this file, or to standard output for "-"."""
    out: Path | None = None
    """Write a picture (PNG) and an annotated PLY for each sentence to this folder."""


def main(options: Options) -> int:
    """Run, and return the exit code: 0, or 1 if anything could not be done (said in one line on standard error)."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    failed, entries, console = 0, [], Console(stderr=options.json == "-", soft_wrap=True)
    try:
        if not options.text:
            raise tsp3d.UserError("say what to find, e.g. --text 'the brown chair next to the desk'")
        paths = tsp3d.find_scans(*options.scans)
        check_places([options.json], options.out)
        grounder = tsp3d.Grounder.from_pretrained(options.model, options.device, options.precision, options.turns)
        if options.two_streams:
            from tsp3d.distill.two_streams import TwoStreams  # which takes a third of a second

            both = TwoStreams.from_pretrained(grounder.network, options.model, options.two_streams)  # type: ignore[arg-type]
            name = f"{options.model}, 2D stream {options.two_streams:g}"
            grounder = tsp3d.Grounder(both, name, grounder.device, turns=options.turns)
        wanted = ("top_k", "min_score", "up", "unit", "min_presence", "several", "align")
        results = grounder.ground_many(paths, options.text, **{name: getattr(options, name) for name in wanted})
        try:
            for prefix, result in zip(unique_prefixes(paths), results, strict=True):
                entries.append(grounder.to_json(result))
                files, problem = try_pictures(result, options.out, prefix)
                if problem:
                    failed += 1
                    print(f"error: {problem}", file=sys.stderr)
                if not result.error:
                    print_table(result, console, files)
        finally:  # whatever stops the rest, what was found is kept
            if options.json and entries:
                write_json(options.json, document(entries, [Path(scan).is_file() for scan in options.scans] == [True]))
    except tsp3d.UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, description=__doc__)))
