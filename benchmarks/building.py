"""Time and peak memory of a scan of many rooms, by their number: python benchmarks/building.py [ROOMS A SIDE …]

Generated rooms of 60,000 points stand 9 m apart; each number runs in a process of its own and prints a line of JSON.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time

import numpy as np

import tsp3d
from tsp3d.benchmark.model import scan as room
from tsp3d.sparse import keep_freed_memory

POINTS, SPACING_M, DIFFERENT = 60_000, 9.0, 9


def measure(side: int) -> dict[str, float]:
    """A building of side * side rooms."""
    rooms = [[part.numpy() for part in room(index, POINTS)] for index in range(min(side * side, DIFFERENT))]
    places = [(i, np.array([i // side, i % side, 0.0], dtype=np.float32) * SPACING_M) for i in range(side * side)]
    xyz = np.concatenate([rooms[i % len(rooms)][0] + at for i, at in places])
    rgb = np.concatenate([rooms[i % len(rooms)][1] for i, _ in places])
    grounder = tsp3d.Grounder.from_pretrained()
    scan = tsp3d.Scan(xyz, (rgb * 255).astype(np.uint8))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    scene = grounder.encode(scan)
    middle = time.perf_counter()
    grounder.ground(scene, "the red chair next to the desk")
    end = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "rooms": side * side, "points": len(xyz), "width_m": round(float(np.ptp(xyz[:, 0])), 1),
        "tiles": len(getattr(scene.encoded, "tiles", [0])), "encode_s": round(middle - start, 2),
        "ground_s": round(end - middle, 3), "peak_mb_above_the_scan": round((peak - before) / 1024),
    }  # fmt: skip


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--one":
        keep_freed_memory()
        print(json.dumps(measure(int(sys.argv[2]))))
    else:
        for count in sys.argv[1:] or ["1", "2", "4", "6"]:
            subprocess.run([sys.executable, __file__, "--one", count], check=True)
