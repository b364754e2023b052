"""Prepare a ScanNet download: python tools/prepare_scannet.py SCANS_DIR --out data/scannet --lists LISTS_DIR

A run that was stopped goes on. Scenes with damaged or missing files are skipped and listed in OUT/skipped.json.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tsp3d.data.scannet import find_scenes
from tsp3d.data.scannet_prepare import PrepareSettings, prepare


@dataclass
class Options:
    """Write ScanNet's scenes in the format that training and evaluation read."""

    scans: tyro.conf.Positional[Path]
    """ScanNet's folder "scans", with a folder for each scene."""
    out: Path
    """Folder of the prepared dataset."""
    lists: Path | None = None
    """Folder with scannetv2_train.txt, scannetv2_val.txt (or ScanRefer_filtered_train.txt …), one scene id a line.
    Without it all scenes go to one split, "all"."""
    points: int = 50_000
    """Points kept of each scene, always the same ones; 0 for all."""
    boxes: Literal["full", "subsample"] = "full"
    """Boxes around all of an object's vertices, or around those among the points kept."""
    workers: int = os.cpu_count() or 1  # Processes.
    limit: int = 0
    """At most this many scenes of each split; 0 for all."""


def read_lists(folder: Path | None) -> dict[str, list[str]]:
    """Scene ids of each split that ``folder`` has a list for."""
    if folder is None:
        return {}
    listed = {}
    for split in ("train", "val", "test"):
        files = [folder / name for name in (f"scannetv2_{split}.txt", f"ScanRefer_filtered_{split}.txt")]
        found = [path for path in files if path.is_file()]
        if found:
            try:
                listed[split] = sorted(set(found[0].read_text(encoding="utf-8").split()))
            except UnicodeDecodeError as error:
                raise ValueError(f"{found[0]}: no list of scene ids in UTF-8 ({error})") from error
    if not listed:
        raise FileNotFoundError(f"{folder} has none of scannetv2_train.txt, scannetv2_val.txt, scannetv2_test.txt")
    return listed


def main(options: Options) -> None:
    """Prepare, then say what was done and what was left out."""
    try:
        scenes, listed = find_scenes(options.scans), read_lists(options.lists)
        here = {path.name: path for path in scenes}
        splits = {name: [here[i] for i in ids if i in here] for name, ids in listed.items()} or {"all": scenes}
        splits = {name: folders[: options.limit or None] for name, folders in splits.items()}
        settings = PrepareSettings(options.points, options.boxes)
        columns = (TextColumn("scenes"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns) as bar:
            task = bar.add_task("scenes", total=sum(map(len, splits.values())))
            result = prepare(options.out, splits, settings, options.workers, lambda _: bar.advance(task), listed)
    except (OSError, ValueError, RuntimeError, KeyboardInterrupt) as error:
        raise SystemExit(f"prepare_scannet: {str(error) or 'interrupted'}") from error
    for scene, reason in result.skipped.items():
        print(f"skipped {scene}: {reason}")
    absent = [scene for ids in listed.values() for scene in ids if scene not in here]
    if absent:
        print(f"{len(absent)} listed scenes are not in {options.scans}: {', '.join(absent[:5])} …")
    for note in sorted({note.split(":")[0] for notes in result.notes.values() for note in notes}):
        print(f"{sum(any(n.startswith(note) for n in notes) for notes in result.notes.values())} scenes: {note}")
    counts = ", ".join(f"{count} {split}" for split, count in result.done.items())
    print(f"{options.out}: {counts} scenes ({result.kept} from earlier runs, {len(result.skipped)} skipped)")
    if not any(result.done.values()):
        raise SystemExit("prepare_scannet: no scene could be prepared; the reasons are above")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
