"""A scan and its answers as a Rerun recording, in the frame of the input. Needs rerun-sdk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from tsp3d.io import Scan, UserError
from tsp3d.io.write import replacing
from tsp3d.results import Grounding, slug
from tsp3d.viz.ply import BEST, OTHERS
from tsp3d.viz.png import height_colours


def write_rrd(path: str | os.PathLike[str], scan: Scan, groundings: Sequence[Grounding]) -> None:
    """Write a ``.rrd`` file for the Rerun viewer.

    Raises:
        UserError: rerun-sdk is not installed, or the place cannot be written to.
    """
    rerun = _rerun()
    with replacing(path) as temporary, rerun.RecordingStream("tsp3d") as recording:
        recording.save(str(temporary))
        log_scan(recording, scan)
        for number, grounding in enumerate(groundings, 1):
            log_grounding(recording, scan, grounding, f"answers/{number}-{slug(grounding.text)}")
        recording.flush()
        recording.disconnect()


def log_scan(recording: Any, scan: Scan, place: str = "scan") -> None:
    """Log a scan's points to a ``rerun.RecordingStream`` of your own, with the axis that is up."""
    rerun = _rerun()
    up = scan.input_frame.up
    name = f"RIGHT_HAND_{up[-1].upper()}_{'DOWN' if up.startswith('-') else 'UP'}"
    recording.log("/", getattr(rerun.ViewCoordinates, name), static=True)
    rgb = height_colours(scan.xyz) if scan.rgb is None else scan.rgb
    recording.log(place, rerun.Points3D(scan.input_frame.to_input(scan.xyz), colors=rgb))


def log_grounding(recording: Any, scan: Scan, grounding: Grounding, place: str = "answer") -> None:
    """Log an answer's boxes, named by the sentence and the score, and the points of their masks under them. An answer
    without a box clears the place."""
    rerun = _rerun()
    if not grounding.found:
        recording.log(place, rerun.Clear(recursive=True))
        return
    count = len(grounding.boxes)
    colors = [BEST, *([OTHERS] * (count - 1))]
    labels = [f"{grounding.text}: {box.score:.2f}" for box in grounding.boxes]
    centers, sizes = (np.array([getattr(box, part) for box in grounding.boxes]) for part in ("center", "size"))
    turn = Rotation.from_matrix(grounding.frame.box_rotation).as_quat()  # x, y, z, w
    boxes = {"centers": centers, "half_sizes": sizes / 2, "quaternions": [rerun.Quaternion(xyzw=turn)] * count}
    recording.log(place, rerun.Boxes3D(**boxes, colors=colors, labels=labels))
    for rank, mask in enumerate(grounding.masks):
        points = scan.input_frame.to_input(scan.xyz[mask])
        recording.log(f"{place}/points-{rank + 1}", rerun.Points3D(points, colors=colors[rank]))


def _rerun() -> Any:
    try:
        import rerun
    except ImportError as error:
        raise UserError(f"a Rerun recording needs rerun-sdk ({error}): pip install 'tsp3d[rerun]'") from error
    return rerun
