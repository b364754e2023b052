"""Scans that are turned and tilted, as they lie and set right: python benchmarks/alignment.py --data data/synth

Validation rooms are turned about z, or lean toward a direction. "As it lies" is judged against boxes along the axes
around the turned objects, "set right" against the rooms' own boxes, of which it must find the directions, too.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

import tsp3d
from tsp3d.data import PreparedScenes
from tsp3d.results import paired_iou

LIES = [("straight", 0, 0), *((f"turned by {a}°", a, 0) for a in (5, 10, 20, 30, 45)),
        *((f"tilted by {a}°", 0, a) for a in (3, 8, 15, 30))]  # fmt: skip


def around(points: np.ndarray) -> np.ndarray:
    """Box (6,) along the axes around points (N, 3)."""
    low, high = points.min(0), points.max(0)
    return np.concatenate([(low + high) / 2, high - low])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/synth"))
    parser.add_argument("--model", default="tsp3d-tiny")
    parser.add_argument("--rooms", type=int, default=100)
    parser.add_argument("--sentences", type=int, default=6, help="of each room")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    grounder, scenes = tsp3d.Grounder.from_pretrained(args.model), PreparedScenes(args.data, "val")
    found: dict[tuple[str, bool], list[float]] = {}
    for room in range(min(args.rooms, len(scenes))):
        sample, rng = scenes[room], np.random.default_rng(room)
        queries = [sample.queries[i] for i in rng.permutation(len(sample.queries))[: args.sentences]]
        toward = rng.uniform(-180, 180)
        for name, yaw, tilt in LIES:
            lean = Rotation.from_euler("zyz", [-toward, tilt, toward], degrees=True)
            turn = (lean * Rotation.from_euler("z", yaw * rng.choice([-1, 1]), degrees=True)).as_matrix()
            for align in (False, True):
                scan = tsp3d.Scan.from_arrays(sample.xyz @ turn.T, sample.rgb, align=align)
                answers = grounder.ground(scan, [q.text for q in queries], min_presence=0, min_score=0)
                for query, answer in zip(queries, answers, strict=True):
                    corners = answer.boxes[0].corners
                    if align:
                        box, true = around(corners @ turn), sample.boxes[query.targets[0]]
                    else:
                        points = sample.xyz[sample.instance == query.targets[0]]
                        box, true = around(corners), around(points @ turn.T)
                    found.setdefault((name, align), []).append(paired_iou(box, true))
    print(f"{len(found[LIES[0][0], True])} sentences in {args.rooms} rooms; Acc@0.25 and Acc@0.5, %\n")
    print("| a scan that is | as it lies | set right |\n|---|---|---|")
    for name, *_ in LIES:
        rows = [np.array(found[name, align]) for align in (False, True)]
        cells = (f"{100 * (row > 0.25).mean():.1f} / {100 * (row > 0.5).mean():.1f}" for row in rows)
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
