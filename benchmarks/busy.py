"""How long a scan and a sentence take beside another program that keeps one core busy, by how OpenMP's threads wait:

python benchmarks/busy.py [ROUNDS]    prints a table in Markdown: medians of the rounds' medians, in ms
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from statistics import median

WAITING = {"as OpenMP has it": {}, "OMP_WAIT_POLICY=passive": {"OMP_WAIT_POLICY": "passive"}}
SCANS, WARM = 12, 3


def measure() -> tuple[float, float]:
    """Medians in ms over scans of 50,000 points: to encode one, and to ground a new sentence in it."""
    import torch

    from tsp3d import Grounder
    from tsp3d.benchmark.model import scan

    net = Grounder.from_pretrained("tsp3d-tiny").network
    scans = [scan(index, 50_000) for index in range(3)]
    times = []
    with torch.inference_mode():
        for index in range(WARM + SCANS):
            begin = time.perf_counter()
            encoded = net.encode(*scans[index % 3])
            middle = time.perf_counter()
            net.ground(encoded, [f"the red chair next to table {index}"])
            times.append((middle - begin, time.perf_counter() - middle))
    encode, ground = zip(*times[WARM:], strict=True)
    return 1e3 * median(encode), 1e3 * median(ground)


def run(waiting: dict[str, str], busy: bool) -> tuple[float, float]:
    """:func:`measure` in a process of its own, beside one that computes for nothing where ``busy``."""
    env = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True) if busy else None
    try:
        command = [sys.executable, __file__, "--measure"]
        return json.loads(subprocess.run(command, env=env | waiting, check=True, capture_output=True).stdout)
    finally:
        if other:
            other.kill()
            other.wait()


def main(rounds: int) -> None:
    found: dict[tuple[str, bool], list[tuple[float, float]]] = {}
    for _ in range(rounds):  # in turns, since the machine's speed varies
        for busy in (False, True):
            for name, waiting in WAITING.items():
                found.setdefault((name, busy), []).append(run(waiting, busy))
    print("| threads wait | other work | a new scan | another sentence |\n|---|---|---|---|")
    for (name, busy), times in found.items():
        encode, ground = (median(values) for values in zip(*times, strict=True))
        print(f"| {name} | {'one core' if busy else 'none'} | {encode:.0f} | {ground:.1f} |")


if __name__ == "__main__":
    if sys.argv[1:] == ["--measure"]:
        print(json.dumps(measure()))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
