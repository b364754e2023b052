"""A ScanNet download into prepared scenes (:mod:`tsp3d.data.scenes`), in several processes, going on where it stopped.

Every scene becomes a file of its own, ``<split>/<scene_id>.safetensors``, whose header holds its record and the
settings that it was made with. So what is finished needs no bookkeeping: ``scenes.jsonl`` is written from the headers.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from tsp3d.data.scannet import ScannetScene, SceneError, box_of, read_scene
from tsp3d.data.scenes import FORMAT, VERSION
from tsp3d.files import save_tensors, write_text

LARGEST = 32.767
"""Metres from the origin that 16 bits of millimetres reach."""


@dataclass(frozen=True)
class PrepareSettings:
    """What a prepared scene holds."""

    points: int = 50_000
    """Vertices kept of each scene, chosen at random by its id, so always the same; 0 keeps all."""
    boxes: str = "full"
    """"full": extents of all the vertices of an object (ScanRefer, Multi3DRefer); "subsample": of those that are kept,
    as programs do that draw 50,000 points first."""

    def __post_init__(self) -> None:
        if self.points < 0:
            raise ValueError(f"points is {self.points}; give the number of points to keep, or 0 for all")
        if self.boxes not in ("full", "subsample"):
            raise ValueError(f"boxes is {self.boxes!r}; it must be 'full' or 'subsample'")


@dataclass
class Prepared:
    """What became of the scenes."""

    done: dict[str, int] = field(default_factory=dict)
    """Scenes of each split, those of earlier runs included."""
    kept: int = 0
    """Of them, those that an earlier run had made."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Reason for each scene that could not be prepared."""
    notes: dict[str, list[str]] = field(default_factory=dict)
    """What is odd about a scene that was."""


def prepare(
    out: Path,
    splits: dict[str, list[Path]],
    settings: PrepareSettings,
    workers: int = 1,
    progress: Callable[[str], None] | None = None,
    listed: dict[str, list[str]] | None = None,
) -> Prepared:
    """Prepare the scenes (folders of a ScanNet download) of each split; write the dataset folder ``out``.

    Scenes that an earlier run finished with the same settings are kept. Broken ones are left out, with the reason in
    the result and in ``skipped.json``. ``progress`` is called with the id of each scene, whatever became of it.
    ``listed`` are the ids that belong to each split, present or not: annotations of both splits are parted by them.

    Raises:
        ValueError: ``out`` holds another kind of dataset.
        RuntimeError: a worker process was ended from outside.
    """
    _check_folder(out)
    result, jobs = Prepared(), []
    for split, folders in splits.items():
        (out / split).mkdir(parents=True, exist_ok=True)
        for folder in folders:
            path = out / split / f"{folder.name}.safetensors"
            if _finished(path, settings):
                result.kept += 1
                if progress:
                    progress(folder.name)
            else:
                jobs.append((folder, path, settings))
    for scene_id, problem in _run(jobs, workers):
        if problem:
            result.skipped[scene_id] = problem
        if progress:
            progress(scene_id)
    for split, folders in splits.items():
        result.done[split] = _write_index(out / split, [f.name for f in folders], settings, result)
    generator = {"name": "scannet", **asdict(settings)}
    info = {"format": FORMAT, "version": VERSION, "generator": generator, "splits": result.done, "listed": listed or {}}
    write_text(out / "dataset.json", json.dumps(info, indent=1) + "\n")
    result.skipped = dict(sorted(result.skipped.items()))
    write_text(out / "skipped.json", json.dumps(result.skipped, indent=1) + "\n")
    return result


def to_arrays(scene: ScannetScene, settings: PrepareSettings) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The stored arrays of a scene, and its line of ``scenes.jsonl``.

    A vertex of several objects goes to the smallest of them. Boxes are of *all* the object's vertices in metres, before
    they are rounded to millimetres; the record has the other choice beside it (``box_full``, ``box_subsample``).

    Raises:
        SceneError: too large for the format, or nothing to be found in it.
    """
    xyz, count = scene.xyz, len(scene.xyz)
    farthest = float(np.abs(xyz).max())
    if farthest > LARGEST:
        raise SceneError(f"the scene reaches {farthest:.1f} m from its origin; at most {LARGEST} m can be stored")
    if not scene.objects:
        raise SceneError("no annotated object has a vertex; check aggregation and segs of this scene")
    if max(item.id for item in scene.objects) > 32767:
        raise SceneError("an objectId is above 32767; download the aggregation again")
    keep = np.ones(count, dtype=bool)
    if 0 < settings.points < count:
        rng = np.random.default_rng(zlib.crc32(scene.scene_id.encode()))
        keep[rng.permutation(count)[settings.points :]] = False
    instance = np.full(count, -1, dtype=np.int16)
    for item in sorted(scene.objects, key=lambda item: -len(item.vertices)):
        instance[item.vertices] = item.id
    objects = []
    for item in scene.objects:
        full = box_of(xyz[item.vertices])
        left = item.vertices[keep[item.vertices]]
        part = box_of(xyz[left]) if len(left) else full
        box = full if settings.boxes == "full" else part
        objects.append(
            {
                "id": item.id, "name": item.label, "box": box, "color": None, "nyu40": item.nyu40,
                "box_full": full, "box_subsample": part, "vertices": len(item.vertices), "kept": len(left),
            }
        )  # fmt: skip
    arrays = {
        "xyz_mm": np.round(xyz[keep] * 1000).astype(np.int16),
        "rgb": np.ascontiguousarray(scene.rgb[keep]),
        "instance": instance[keep],
    }
    room = box_of(xyz)
    record = {"scene_id": scene.scene_id, "num_points": int(keep.sum()), "room": room, "entrance": None}
    return arrays, {**record, "boxes": settings.boxes, "objects": objects, "notes": list(scene.notes)}


# One scene ---------------------------------------------------------------------------------------------------------


def _prepare_one(job: tuple[Path, Path, PrepareSettings]) -> tuple[str, str]:
    """-> scene id and, where it is broken, why."""
    folder, path, settings = job
    try:
        arrays, record = to_arrays(read_scene(folder), settings)
    except (ValueError, TypeError, KeyError, OverflowError, OSError) as error:
        path.unlink(missing_ok=True)  # of other settings, or of files that were whole then
        known = isinstance(error, SceneError)
        return folder.name, str(error) if known else f"{type(error).__name__}: {error}; check the scene's files"
    header = {"record": json.dumps(record), "settings": json.dumps(asdict(settings))}
    save_tensors(path, {f"{folder.name}.{name}": value for name, value in arrays.items()}, header)
    return folder.name, ""


def _run(jobs: list[tuple[Path, Path, PrepareSettings]], workers: int) -> Iterable[tuple[str, str]]:
    if workers <= 1 or len(jobs) <= 1:
        yield from map(_prepare_one, jobs)
        return
    with ProcessPoolExecutor(min(workers, len(jobs))) as pool:
        waiting = [pool.submit(_prepare_one, job) for job in jobs]
        try:
            for future in as_completed(waiting):
                yield future.result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a worker process was ended from outside, most likely for want of memory; run the command again with "
                "fewer --workers, it goes on where it stopped"
            ) from error
        finally:
            for future in waiting:
                future.cancel()


def _header(path: Path) -> dict[str, str]:
    """The header of a scene's file; empty where it cannot be read."""
    try:
        with safe_open(str(path), framework="numpy") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError):
        return {}


def _finished(path: Path, settings: PrepareSettings) -> bool:
    return path.is_file() and _header(path).get("settings") == json.dumps(asdict(settings))


# The dataset -------------------------------------------------------------------------------------------------------


def _check_folder(out: Path) -> None:
    path = out / "dataset.json"
    if path.is_file():
        try:
            name = json.loads(path.read_text(encoding="utf-8"))["generator"]["name"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged ({error}); remove it, or choose another --out") from error
        if name != "scannet":
            raise ValueError(f"{out} holds a dataset made by {name!r}; choose another --out")


def _write_index(folder: Path, scene_ids: list[str], settings: PrepareSettings, result: Prepared) -> int:
    lines = []
    for scene_id in sorted(scene_ids):
        path = folder / f"{scene_id}.safetensors"
        if _finished(path, settings):
            record = json.loads(_header(path)["record"])
            if record["notes"]:
                result.notes[scene_id] = record["notes"]
            lines.append(json.dumps({**record, "shard": path.name}) + "\n")
    write_text(folder / "scenes.jsonl", "".join(lines))
    return len(lines)
