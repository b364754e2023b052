"""How long a scan and a sentence take beside another program that keeps one core busy, by how OpenMP's threads wait:

python benchmarks/busy.py [ROUNDS]    prints a table in Markdown, in ms

Times are those of ``tools/benchmark.py model``, and the median of its runs, which take turns.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

BENCHMARK = Path(__file__).parents[1] / "tools/benchmark.py"
WAITING = {"by spinning (default)": {}, "`OMP_WAIT_POLICY=passive`": {"OMP_WAIT_POLICY": "passive"}}


def measure(waiting: dict[str, str], busy: bool) -> tuple[float, float]:
    """A new scan and a sentence, and another sentence, in ms; ``busy``: beside a program that computes for nothing."""
    env = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True) if busy else None
    try:
        with TemporaryDirectory() as folder:
            command = [sys.executable, str(BENCHMARK), "model", "--rooms", "3", "--rounds", "4"]
            command += ["--json", f"{folder}/times.json"]
            subprocess.run(command, env=env | waiting, check=True, stdout=subprocess.DEVNULL)
            times = json.loads(Path(folder, "times.json").read_text())
        return times["cold"]["ms"], times["warm"]["ms"]
    finally:
        if other:
            other.kill()
            other.wait()


def main(rounds: int) -> None:
    """Prints the table."""
    found: dict[tuple[str, bool], list[tuple[float, float]]] = {}
    for _ in range(rounds):  # in turns, since the machine's speed varies
        for busy in (False, True):
            for name, waiting in WAITING.items():
                found.setdefault((name, busy), []).append(measure(waiting, busy))
    print("| threads wait | other work | a new scan and a sentence | another sentence |\n|---|---|---|---|")
    for (name, busy), times in found.items():
        cold, warm = (median(values) for values in zip(*times, strict=True))
        print(f"| {name} | {'one core' if busy else 'none'} | {cold:.0f} | {warm:.1f} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
