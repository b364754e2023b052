"""Reader of prepared scenes: the shards and JSON lines that ``tools/make_synth.py`` (or a preparation tool) writes.

Layout of a dataset folder::

    dataset.json                      format "tsp3d-scenes", version 1
    <split>/scenes-00000.safetensors  "<scene_id>.xyz_mm" int16 (N, 3), "<scene_id>.rgb" uint8 (N, 3),
                                      "<scene_id>.instance" int16 (N,)
    <split>/scenes.jsonl              one line a scene, with its objects
    <split>/sentences.jsonl           one line a sentence
    <split>/sets.jsonl                optional: sentences that mean several objects or none
"""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from tsp3d.data.records import read_lines, scene_problem, sentence_problem, wanted_ids
from tsp3d.data.sample import CLASS_INDEX, COLOR_INDEX, Query, SceneSample

log = logging.getLogger(__name__)

FORMAT = "tsp3d-scenes"
VERSION = 1
OPEN_SHARDS = 32
"""Shards kept open at once in each process."""


@dataclass(frozen=True)
class _Entry:
    """Where a scene is: its line in scenes.jsonl and the spans (file, start, end) of its sentences, bytes."""

    scene_id: str
    shard: str
    line: tuple[int, int]
    sentences: tuple[tuple[str, int, int], ...]


class PreparedScenes:
    """One split of a prepared dataset, read lazily.

    Only the positions of the lines are kept in memory. A dataset that is still being written can be opened: scenes
    whose line, sentences or shard are not there yet are left out.

    Args:
        folder: the dataset folder, with ``dataset.json``.
        split: name of a sub-folder, such as "train" or "val".
        require_sentences: leave out the scenes that have no sentence (not wanted for training on objects alone).
        sets: also read the sentences that mean several objects or none; every sentence then has an ``eval_type``.

    Raises:
        FileNotFoundError: folder or split is not there, or has no such sentences.
        ValueError: not a prepared dataset of a known version, or no scene is complete.
    """

    def __init__(
        self, folder: str | Path, split: str = "train", require_sentences: bool = True, sets: bool = False
    ) -> None:
        self.folder = Path(folder)
        self.split = split
        self.info = _read_info(self.folder)
        self.path = self.folder / split
        if not (self.path / "scenes.jsonl").is_file():
            found = sorted(p.parent.name for p in self.folder.glob("*/scenes.jsonl"))
            raise FileNotFoundError(f"{self.path / 'scenes.jsonl'} is missing; splits found in {self.folder}: {found}")
        self.sets = sets
        if sets and not (self.path / "sets.jsonl").is_file():
            raise FileNotFoundError(
                f"{self.path / 'sets.jsonl'} is missing; make it with tools/make_synth.py --sets {self.folder}"
            )
        self._entries = self._index(require_sentences)
        if not self._entries:
            lacking = require_sentences and not (self.path / "sentences.jsonl").is_file()
            raise ValueError(
                f"{self.path} has no sentences: name whose they are (--dataset scanrefer …), or write sentences.jsonl"
                if lacking
                else f"{self.path} has no complete scene yet: wait for the writer, or check shards and sentences"
            )
        self._shards: OrderedDict[str, Any] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_shards": OrderedDict()}  # open files do not travel to another process

    @property
    def scene_ids(self) -> list[str]:
        """Ids of the scenes, in the order of their index."""
        return [entry.scene_id for entry in self._entries]

    def __getitem__(self, index: int) -> SceneSample:
        """The whole scene with all its sentences, as stored."""
        entry = self._entries[index]
        record = self._record(entry)
        xyz_mm, rgb, instance = self._arrays(entry)
        objects = record["objects"]
        ids = np.array([item["id"] for item in objects], dtype=np.int64)
        boxes = np.array([item["box"] for item in objects], dtype=np.float32).reshape(-1, 6)
        sample = SceneSample(
            scene_id=entry.scene_id,
            xyz=xyz_mm.astype(np.float32) * np.float32(1e-3),
            rgb=rgb.astype(np.float32) * np.float32(1 / 255),
            instance=_to_index(instance, ids),
            boxes=boxes,
            classes=np.array([CLASS_INDEX.get(item["name"], -1) for item in objects], dtype=np.int64),
            colors=np.array([COLOR_INDEX.get(item.get("color") or "", -1) for item in objects], dtype=np.int64),
            labels=tuple(item["name"] for item in objects),
        )
        return sample.replace(queries=tuple(self._queries(entry, ids)))

    def objects(self, index: int) -> list[dict[str, Any]]:
        """The object records of a scene as written (fields of :class:`tsp3d.synth.types.SceneObject`)."""
        return self._record(self._entries[index])["objects"]

    def queries(self, index: int) -> list[tuple[Query, int]]:
        """A scene's sentences without its points, each with the class index of its (first) target or -1."""
        entry = self._entries[index]
        objects = self._record(entry)["objects"]
        ids = np.array([item["id"] for item in objects], dtype=np.int64)
        classes = [CLASS_INDEX.get(item["name"], -1) for item in objects]
        return [(query, classes[query.targets[0]]) for query in self._queries(entry, ids) if query.targets]

    # Reading -----------------------------------------------------------------------------------------------------

    def _index(self, require_sentences: bool) -> list[_Entry]:
        sentences: dict[str, list[tuple[str, int, int]]] = {}
        meant: dict[str, dict[int, str]] = {}
        for name in ("sentences.jsonl", *(["sets.jsonl"] if self.sets else [])):
            for start, end, record in read_lines(self.path / name, sentence_problem):
                texts = meant.setdefault(record["scene_id"], {})
                texts |= dict.fromkeys(wanted_ids(record), record["text"])
                spans = sentences.setdefault(record["scene_id"], [])
                if spans and spans[-1][0] == name and spans[-1][2] == start:
                    spans[-1] = (name, spans[-1][1], end)
                else:
                    spans.append((name, start, end))
        shards = {path.name for path in self.path.glob("*.safetensors")}
        entries, missing, known = [], 0, set()
        for start, end, record in read_lines(self.path / "scenes.jsonl", scene_problem):
            scene_id = record["scene_id"]
            if scene_id in known:
                raise ValueError(f"{self.path / 'scenes.jsonl'} has scene {scene_id!r} twice; leave one out")
            known.add(scene_id)
            for unknown in meant.get(scene_id, {}).keys() - {item["id"] for item in record["objects"]}:
                text = meant[scene_id][unknown]
                raise ValueError(f"{self.path}: sentence {text!r} means object {unknown!r}, which {scene_id!r} lacks")
            spans = tuple(sentences.get(scene_id, ()))
            if record["shard"] not in shards or (require_sentences and not spans):
                missing += 1
                continue
            entries.append(_Entry(scene_id, record["shard"], (start, end), spans))
        if missing:
            log.warning("%s: %d scenes without shard or sentences are left out", self.path, missing)
        if strays := sorted(sentences.keys() - known):
            log.warning(
                "%s: no scene is called %s; its sentences are left out", self.path, ", ".join(map(repr, strays[:5]))
            )
        return entries

    def _record(self, entry: _Entry) -> dict[str, Any]:
        with open(self.path / "scenes.jsonl", "rb") as file:
            file.seek(entry.line[0])
            return json.loads(file.read(entry.line[1] - entry.line[0]))

    def _queries(self, entry: _Entry, ids: np.ndarray) -> list[Query]:
        if not entry.sentences:
            return []
        place = {int(object_id): index for index, object_id in enumerate(ids)}
        queries = []
        for name, start, end in entry.sentences:
            with open(self.path / name, "rb") as file:
                file.seek(start)
                lines = file.read(end - start).splitlines()
            for line in lines:
                if line.strip():
                    query = _to_query(json.loads(line), place)
                    if self.sets and "eval_type" not in query.meta:
                        query.meta["eval_type"] = "st_wo_d" if query.meta.get("unique") else "st_w_d"
                    queries.append(query)
        return queries

    def _arrays(self, entry: _Entry) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        shard = self._shards.get(entry.shard)
        if shard is None:
            path = self.path / entry.shard
            try:
                shard = safe_open(str(path), framework="numpy")
            except (SafetensorError, OSError) as error:
                raise ValueError(
                    f"{path} is not a readable safetensors file ({error}); generate the shard again"
                ) from error
            self._shards[entry.shard] = shard
            while len(self._shards) > OPEN_SHARDS:
                self._shards.popitem(last=False)
        else:
            self._shards.move_to_end(entry.shard)
        try:
            xyz, rgb, instance = (
                shard.get_tensor(f"{entry.scene_id}.{part}") for part in ("xyz_mm", "rgb", "instance")
            )
        except SafetensorError as error:
            raise ValueError(f"{self.path / entry.shard} lacks scene {entry.scene_id!r} ({error})") from error
        if not (
            xyz.shape == rgb.shape == (len(instance), 3)
            and rgb.dtype == np.uint8
            and {"i"} == {xyz.dtype.kind, instance.dtype.kind}
        ):
            raise ValueError(
                f"{self.path / entry.shard}: scene {entry.scene_id!r} needs xyz_mm (N, 3) int16, rgb (N, 3) uint8 and "
                f"instance (N,) int16, got {xyz.shape} {xyz.dtype}, {rgb.shape} {rgb.dtype} and {instance.shape} "
                f"{instance.dtype}; write the shard again"
            )
        return xyz, rgb, instance


def prepared_scene(path: str | Path) -> SceneSample | None:
    """The scene that FOLDER/SPLIT/SCENE names in a prepared dataset, FOLDER/SPLIT its first; None for any other path.

    Raises:
        ValueError: the split has no such scene.
    """
    path = Path(path)
    for split, scene in ((path, None), (path.parent, path.name)):
        if (split / "scenes.jsonl").is_file():
            scenes = PreparedScenes(split.parent, split.name, require_sentences=False)
            if scene is not None and scene not in scenes.scene_ids:
                raise ValueError(f"{split} has no scene {scene!r}; its first is {scenes.scene_ids[0]!r}")
            return scenes[scenes.scene_ids.index(scene) if scene else 0]
    return None


def _read_info(folder: Path) -> dict[str, Any]:
    path = folder / "dataset.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: give a folder written by tools/make_synth.py or a preparation tool"
        )
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); prepare the dataset again") from error
    if not isinstance(info, dict):
        raise ValueError(f"{path} is no description of a dataset; prepare the dataset again")
    if info.get("format") != FORMAT or info.get("version") != VERSION:
        raise ValueError(
            f"{path}: format {info.get('format')!r} version {info.get('version')!r}, "
            f"but this reader knows {FORMAT!r} version {VERSION}; prepare the dataset again"
        )
    return info


def _to_index(instance: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Raw instance ids (N,) to indices into ``ids``, -1 where the id is negative or not listed. (N,) int64."""
    table = np.full(int(max(ids.max(initial=-1), instance.max(initial=-1))) + 2, -1, dtype=np.int64)
    table[ids] = np.arange(len(ids))
    return table.take(np.maximum(instance, -1), mode="wrap")  # -1 reads the last cell, which is always -1


def _to_query(record: dict[str, Any], place: dict[int, int]) -> Query:
    wanted = wanted_ids(record)
    meta = {key: value for key, value in record.items() if key not in ("scene_id", "text", "target", "anchors")}
    return Query(
        text=record["text"],
        targets=tuple(place[object_id] for object_id in wanted),
        anchors=tuple(place[object_id] for object_id in record.get("anchors") or () if object_id in place),
        view_dependent=bool(record.get("view_dependent", False)),
        meta={"kind": "sentence" if wanted else "absent", **meta},
    )
