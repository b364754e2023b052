"""Look at a scan in the browser, type what to find, and see its box while you type; or write that as a file.

python tools/view.py room.ply

python tools/view.py room.ply --text "the brown chair next to the desk" --html room.html
"""

from __future__ import annotations

import logging
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as in tools/infer.py: the browser is at work, too

import tsp3d
from tsp3d.io.write import check_places
from tsp3d.viz.rrd import write_rrd
from tsp3d.viz.viewer import Viewer, write_html


@dataclass
class Options:
    scan: tyro.conf.Positional[Path]
    """A scan file of any format that tools/infer.py reads."""
    text: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """What to find, for --html and --rrd; may be given several times. The page opens with the first one."""
    html: Path | None = None
    """Write the scan and the boxes to this file, which any browser shows, instead of opening a page."""
    rrd: Path | None = None
    """Write the scan and the boxes as a recording for the Rerun viewer."""
    model: str = "tsp3d-tiny"
    """Name of a bundled model, a folder with config.json and model.safetensors, or a hub id."""
    device: str = "auto"
    """auto, cpu or cuda."""
    precision: Literal["float32", "bfloat16", "int8"] = "float32"
    """float32; on a CPU also int8, or bfloat16 where the CPU has AVX-512 BF16."""
    up: Literal["x", "y", "z", "-x", "-y", "-z"] | None = None
    """The scan's upward axis; z unless given (GLB: y, as that format says)."""
    unit: Literal["m", "cm", "mm"] = "m"
    """The scan's unit."""
    align: bool = True
    """First turn tilted scans level and their walls along the axes; boxes come back as the scan lies."""
    several: bool = False
    """Give all objects that a sentence means."""
    host: str = "127.0.0.1"
    """Address of the page; 0.0.0.0 opens it to other machines. There is no password."""
    port: int = 8080
    """Port of the page, or the next one that is free."""


def main(options: Options) -> int:
    """Run, and return the exit code: 0, or 1 if it could not be done (said in one line on standard error)."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    files = [(path, write) for path, write in ((options.html, write_html), (options.rrd, write_rrd)) if path]
    try:
        if files and not options.text:
            raise tsp3d.UserError("say what to find, e.g. --text 'the brown chair next to the desk'")
        check_places([options.html, options.rrd])
        scan = tsp3d.load_scan(options.scan, options.up, options.unit, align=options.align)
        grounder = tsp3d.Grounder.from_pretrained(options.model, options.device, options.precision)
        if files:
            answers = grounder.ground(grounder.encode(scan), list(options.text), several=options.several)
            for path, write in files:
                write(path, scan, answers)
                print(path)
            return 0
        viewer = Viewer(grounder, scan, options.host, options.port)
        viewer.several.value = options.several
        viewer.text.value = options.text[0] if options.text else ""
        print(f"{viewer.url} (Ctrl-C ends it)", flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            viewer.close()
    except tsp3d.UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, description=__doc__)))
