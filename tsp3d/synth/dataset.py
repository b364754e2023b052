"""Writes generated scenes as a sharded dataset, in several processes, reproducible from one seed.

Layout (``tsp3d-scenes`` version 1)::

    DIR/dataset.json, DIR/README.md
    DIR/<split>/scenes-00000.safetensors   "<scene_id>.xyz_mm" int16 (N,3), ".rgb" uint8 (N,3), ".instance" int16 (N,)
    DIR/<split>/scenes.jsonl               one line a scene
    DIR/<split>/sentences.jsonl            one line a sentence

Shards are written one after the other, so that what is finished can be read while the rest is made, and a run that was
stopped goes on where it was when it is started again with the same arguments.
"""

from __future__ import annotations

import json
import multiprocessing
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tsp3d.files import save_tensors, write_text
from tsp3d.synth.assets import AssetLibrary, load_assets
from tsp3d.synth.language import generate_sentences
from tsp3d.synth.scene import SynthScene, generate_scene
from tsp3d.synth.sets import set_sentences
from tsp3d.synth.types import CLASSES, SceneDescription, SceneObject, Sentence

FORMAT = "tsp3d-scenes"
VERSION = 1
SHARD_SCENES = 16
SPLITS = ("val", "train")
SETS = "sets.jsonl"
"""File of sentences that mean several objects or none, beside ``sentences.jsonl``."""


@dataclass(frozen=True)
class SynthConfig:
    """What to generate."""

    train: int
    val: int
    seed: int = 0
    max_points: int = 60000
    sentences: int = 40
    assets: str | None = None
    """Folder with ``.sh3f`` libraries; None uses an installed one, where there is one."""
    parametric_only: bool = False
    cache: str | None = None


def scene_line(scene: SynthScene, shard: str) -> dict[str, Any]:
    """The ``scenes.jsonl`` entry of a scene."""
    d = scene.description
    return {
        "scene_id": d.scene_id,
        "shard": shard,
        "num_points": len(scene.xyz),
        "room": list(d.room),
        "entrance": None if d.entrance is None else list(d.entrance),
        "objects": [asdict(item) for item in d.objects],
    }


def read_scene_line(line: dict[str, Any]) -> SceneDescription:
    """The description that a ``scenes.jsonl`` entry holds."""
    objects = tuple(SceneObject(**{**item, "box": tuple(item["box"])}) for item in line["objects"])
    entrance = None if line["entrance"] is None else tuple(line["entrance"])
    return SceneDescription(line["scene_id"], objects, tuple(line["room"]), entrance)  # type: ignore[arg-type]


def scene_sentences(scene: SceneDescription, seed: int, count: int) -> list[Sentence]:
    """The sentences of a scene: the same for the same scene, seed and count."""
    if count == 0 or not scene.objects:
        return []
    rng = np.random.default_rng([seed, zlib.crc32(scene.scene_id.encode())])
    return generate_sentences(scene, rng, count)


def write_shard(path: Path, scenes: Iterable[SynthScene]) -> None:
    """Writes the clouds of some scenes; the file appears only when it is complete."""
    tensors: dict[str, np.ndarray] = {}
    for scene in scenes:
        name = scene.description.scene_id
        tensors[f"{name}.xyz_mm"] = np.round(scene.xyz * 1000).astype(np.int16)
        tensors[f"{name}.rgb"] = scene.rgb
        tensors[f"{name}.instance"] = scene.instance
    # One entry only: safetensors writes several in no fixed order, and the same dataset is the same bytes.
    save_tensors(path, tensors, {"format": f"{FORMAT} {VERSION}"})


_worker: dict[str, Any] = {}


def _start(config: SynthConfig) -> None:
    _worker["models"] = [] if config.parametric_only else load_assets(_path(config.assets), _path(config.cache))
    _worker["libraries"] = {}


def _path(text: str | None) -> Path | None:
    return Path(text).expanduser() if text else None


def _make_shard(task: tuple[SynthConfig, str, str, int, int]) -> tuple[str, int, list[str], list[str]]:
    config, out, split, first, count = task
    if split not in _worker["libraries"]:
        _worker["libraries"][split] = AssetLibrary(split, _worker["models"])
    library = _worker["libraries"][split]
    shard = f"scenes-{first // SHARD_SCENES:05d}.safetensors"
    scenes, lines, sentences = [], [], []
    for index in range(first, first + count):
        scene = generate_scene(library, config.seed, index, config.max_points)
        scenes.append(scene)
        lines.append(json.dumps(scene_line(scene, shard)))
        sentences += _sentence_lines(scene.description, config.seed, config.sentences)
    write_shard(Path(out) / split / shard, scenes)
    return split, count, lines, sentences


def _sentence_lines(scene: SceneDescription, seed: int, count: int) -> list[str]:
    return [json.dumps({"scene_id": scene.scene_id, **asdict(s)}) for s in scene_sentences(scene, seed, count)]


def _in_processes(work: Callable[[Any], Any], tasks: list[Any], config: SynthConfig, workers: int) -> Iterator[Any]:
    if workers <= 1:
        _start(config)
        yield from map(work, tasks)
        return
    with multiprocessing.get_context("spawn").Pool(workers, _start, (config,)) as pool:
        yield from pool.imap(work, tasks)


def _lines(path: Path) -> list[str]:
    """The lines that were written to their end: a run may have been stopped, or the disk full, within the last."""
    return path.read_text().split("\n")[:-1] if path.exists() else []


def write_dataset(
    out: Path, config: SynthConfig, workers: int = 1, progress: Callable[[str, int], None] | None = None
) -> dict[str, int]:
    """Generates the dataset, or what is missing of it.

    Args:
        out: Folder to write to.
        config: What to generate.
        workers: Processes; the result does not depend on their number.
        progress: Called with (split, scenes finished by this step).

    Returns:
        Scenes of each split.

    Raises:
        ValueError: ``out`` holds a dataset made with other arguments.
        FileNotFoundError: ``config.assets`` holds no furniture library.
    """
    if not config.parametric_only:
        load_assets(_path(config.assets), _path(config.cache))  # prepared once, before the workers want it
    settings = {key: value for key, value in asdict(config).items() if key not in ("train", "val", "assets", "cache")}
    settings["libraries"] = not config.parametric_only
    header = out / "dataset.json"
    if header.exists():
        known = json.loads(header.read_text())["generator"]
        if known != settings:
            raise ValueError(
                f"{out}: made with other settings ({known}, now {settings}); choose another folder or remove it"
            )
    tasks: list[tuple[SynthConfig, str, str, int, int]] = []
    done: dict[str, int] = {}
    for split in SPLITS:
        folder = out / split
        folder.mkdir(parents=True, exist_ok=True)
        total = getattr(config, split)
        lines = _lines(folder / "scenes.jsonl")
        whole = min(len(lines) - len(lines) % SHARD_SCENES if len(lines) < total else total, total)
        names = {json.loads(line)["scene_id"] for line in lines[:whole]}
        sentences = [line for line in _lines(folder / "sentences.jsonl") if json.loads(line)["scene_id"] in names]
        _write_lines(folder / "scenes.jsonl", lines[:whole])
        _write_lines(folder / "sentences.jsonl", sentences)
        done[split] = whole
        if progress and whole:
            progress(split, whole)
        for first in range(whole, total, SHARD_SCENES):
            tasks.append((config, str(out), split, first, min(SHARD_SCENES, total - first)))
    _write_header(header, config.seed, settings, done)
    if tasks:
        for split, count, lines, sentences in _in_processes(_make_shard, tasks, config, workers):
            _add_lines(out / split / "sentences.jsonl", sentences)
            _add_lines(out / split / "scenes.jsonl", lines)
            done[split] += count
            _write_header(header, config.seed, settings, done)
            if progress:
                progress(split, count)
    write_card(out, config.seed)
    return done


def _write_lines(path: Path, lines: list[str]) -> None:
    write_text(path, "".join(line + "\n" for line in lines))


def _add_lines(path: Path, lines: list[str]) -> None:
    with path.open("a") as file:
        file.writelines(line + "\n" for line in lines)


def _write_header(path: Path, seed: int, settings: dict[str, Any], done: dict[str, int]) -> None:
    header = {
        "format": FORMAT,
        "version": VERSION,
        "classes": list(CLASSES),
        "seed": seed,
        "generator": settings,
        "splits": {split: done.get(split, 0) for split in ("train", "val")},
    }
    write_text(path, json.dumps(header, indent=2) + "\n")


def _resay(task: tuple[str, int, int]) -> list[str]:
    line, seed, count = task
    return _sentence_lines(read_scene_line(json.loads(line)), seed, count)


def rewrite_sentences(out: Path, count: int, workers: int = 1) -> dict[str, int]:
    """Makes ``sentences.jsonl`` of every split anew from its ``scenes.jsonl``; returns sentences of each split.

    Raises:
        FileNotFoundError: ``out`` holds no dataset.
    """
    made, content = _say_all(out, count, workers, _resay, "sentences.jsonl")
    content["generator"]["sentences"] = count
    write_text(out / "dataset.json", json.dumps(content, indent=2) + "\n")
    write_card(out, content["seed"])
    return made


def _say_all(
    out: Path, count: int, workers: int, say: Callable[[tuple[str, int, int]], list[str]], name: str
) -> tuple[dict[str, int], dict[str, Any]]:
    """Writes what ``say`` gives for each scene to ``<split>/name`` -> sentences of each split, and the header."""
    header = out / "dataset.json"
    if not header.exists():
        raise FileNotFoundError(f"{out}: no dataset.json there; generate the scenes first")
    content = json.loads(header.read_text())
    made: dict[str, int] = {}
    for split in SPLITS:
        source = out / split / "scenes.jsonl"
        if not source.exists():
            continue
        tasks = [(line, content["seed"], count) for line in _lines(source)]
        if workers > 1:
            with multiprocessing.get_context("spawn").Pool(workers) as pool:
                results = pool.map(say, tasks, chunksize=8)
        else:
            results = [say(task) for task in tasks]
        _write_lines(out / split / name, [line for lines in results for line in lines])
        made[split] = sum(len(lines) for lines in results)
    return made, content


def _say_sets(task: tuple[str, int, int]) -> list[str]:
    line, seed, count = task
    scene = read_scene_line(json.loads(line))
    rng = np.random.default_rng([seed, zlib.crc32(f"{scene.scene_id} sets".encode())])
    return [json.dumps({"scene_id": scene.scene_id, **asdict(s)}) for s in set_sentences(scene, rng, count)]


def write_sets(out: Path, count: int, workers: int = 1) -> dict[str, int]:
    """Adds ``sets.jsonl`` to every split, made from its ``scenes.jsonl``: sentences that mean several objects or none.
    The rest of the dataset stays as it is. Returns sentences of each split.

    Raises:
        FileNotFoundError: ``out`` holds no dataset.
    """
    return _say_all(out, count, workers, _say_sets, SETS)[0]


def write_card(out: Path, seed: int) -> None:
    """Writes the dataset card ``README.md`` with counts of what is in the dataset."""
    rows, histogram = [], {}
    for split in ("train", "val"):
        scenes = [json.loads(line) for line in _lines(out / split / "scenes.jsonl")]
        names = Counter(item["name"] for scene in scenes for item in scene["objects"])
        histogram[split] = names
        count = max(len(scenes), 1)
        sentences = len(_lines(out / split / "sentences.jsonl"))
        points = sum(scene["num_points"] for scene in scenes) / count
        models = len({item["model"] for scene in scenes for item in scene["objects"]})
        rows.append(
            f"| {split} | {len(scenes)} | {sentences} | {sum(names.values()) / count:.1f} | {points:.0f} | {models} |"
        )
    classes = "\n".join(f"| {name} | {histogram['train'][name]} | {histogram['val'][name]} |" for name in CLASSES)
    (out / "README.md").write_text(
        f"""# Synthetic rooms with referring sentences

Generated by `tools/make_synth.py`, seed {seed}: furnished rooms, scanned by a virtual hand-held depth camera (noise,
missing depth, occlusion, pose drift), with axis-aligned boxes of the scanned points and sentences true of exactly
one object. Furniture is parametric and, where they were at hand, from the Sweet Home 3D libraries (CC0 and
CC-BY 3.0; see NOTICE).
The splits share no room and no furniture model.

| split | rooms | sentences | objects a room | points a room | models |
|---|---|---|---|---|---|
{chr(10).join(rows)}

Files: `<split>/scenes-*.safetensors` (`<scene_id>.xyz_mm` int16 millimetres, `.rgb` uint8, `.instance` int16,
-1 = none),
`<split>/scenes.jsonl` (objects with class, box, colour, material, front, support), `<split>/sentences.jsonl`.
Metres, z up, floor at z = 0, the room centred on x = y = 0.

## Objects by class

| class | train | val |
|---|---|---|
{classes}
"""
    )
