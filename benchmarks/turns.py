"""One copy of a scan against several turned ones: python benchmarks/turns.py --data data/synth

The same sentences in the same rooms, copies in turns, with the paired difference and its standard error. Sentences that
nothing fits are those of the next room about a class of object that the room does not have.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

import tsp3d
from tsp3d.data import PreparedScenes
from tsp3d.evaluation import CalibrationError, spread
from tsp3d.results import paired_iou
from tsp3d.turning import TURNS

STRANGERS = 3
"""Sentences of each room that nothing in it fits, where there are so many."""


def turned_down(grounder: tsp3d.Grounder, answer: tsp3d.Grounding) -> bool:
    """Whether the model's own threshold of presence says that nothing fits."""
    return answer.presence is not None and answer.presence < grounder.min_presence


def room(grounder: tsp3d.Grounder, sample, queries: list, strangers: list[str], found: dict[str, list]) -> None:
    """Adds what comes of one room: IoU, score and mask of each sentence, what is turned down, processor seconds."""
    begin = time.process_time()
    scene = grounder.encode(tsp3d.Scan(sample.xyz, np.round(sample.rgb * 255).astype(np.uint8)))
    middle = time.process_time()
    grounder.ground(scene, queries[0].text)
    found["encode"].append(middle - begin)
    found["sentence"].append(time.process_time() - middle)
    answers = grounder.ground(scene, [query.text for query in queries], min_presence=0, min_score=0)
    for query, answer in zip(queries, answers, strict=True):
        true = sample.instance == query.targets[0]
        mask = np.isin(np.arange(len(true)), answer.mask)
        found["iou"].append(paired_iou(answer.boxes_m[0], sample.boxes[query.targets[0]]))
        found["score"].append(answer.boxes[0].score)
        found["mask"].append((mask & true).sum() / max((mask | true).sum(), 1))
        found["doubted"].append(turned_down(grounder, answer))
    if strangers:
        found["refused"] += [turned_down(grounder, answer) for answer in grounder.ground(scene, strangers)]


def row(turns: int, found: dict[str, list], one: dict[str, list]) -> str:
    """A line of the table."""
    cells, error = [str(turns)], CalibrationError(sync_on_compute=False)
    error.update(found["score"], found["iou"])
    for threshold in (0.25, 0.5):
        right, before = (100.0 * (np.array(each["iou"]) > threshold) for each in (found, one))
        gain = right - before
        noise = gain.std(ddof=1) / np.sqrt(len(gain))
        cells += [f"{right.mean():.1f}", f"{gain.mean():+.2f} ± {noise:.2f}" if turns > 1 else ""]
    cells += [f"{100 * np.mean(found['mask']):.1f}", f"{float(error.compute()):.3f}"]
    cells += [f"{100 * np.mean(found[name]):.1f}" for name in ("refused", "doubted")]
    cells += [f"{np.median(np.divide(found[name], one[name])):.2f}" for name in ("encode", "sentence")]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/synth"))
    parser.add_argument("--model", default="tsp3d-tiny")
    parser.add_argument("--rooms", type=int, default=0, help="0: all")
    parser.add_argument("--sentences", type=int, default=12, help="of each room, at even distances; 0: all")
    args = parser.parse_args()
    torch.set_num_threads(1)
    grounders = {turns: tsp3d.Grounder.from_pretrained(args.model, "cpu", turns=turns) for turns in TURNS}
    scenes = PreparedScenes(args.data, "val")
    found: dict[int, dict[str, list]] = {turns: defaultdict(list) for turns in TURNS}
    for index in spread(len(scenes), args.rooms):
        sample, other = scenes[index], scenes[(index + 1) % len(scenes)]
        queries = [query for query in sample.queries if len(query.targets) == 1]
        queries = [queries[i] for i in spread(len(queries), args.sentences)]
        here, there = set(sample.names()), other.names()
        strangers = [q.text for q in other.queries if len(q.targets) == 1 and there[q.targets[0]] not in here]
        for turns, grounder in grounders.items():
            room(grounder, sample, queries, strangers[:STRANGERS], found[turns])
    one = found[1]
    print(f"{len(one['iou'])} sentences, {len(one['refused'])} that nothing fits, {len(one['encode'])} rooms\n")
    print("| copies | Acc@0.25 | gain | Acc@0.5 | gain | mask IoU | ECE | turned down: nothing fits | something fits |"
          " a scan, times one copy's time | a sentence |\n|---|---|---|---|---|---|---|---|---|---|---|")  # fmt: skip
    for turns in TURNS:
        print(row(turns, found[turns], one))


if __name__ == "__main__":
    main()
