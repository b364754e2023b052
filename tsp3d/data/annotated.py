"""Sentences of an annotation file over prepared scenes: what ScanRefer, Nr3D, Sr3D and Multi3DRefer have in common."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tsp3d.data.parse import names, parse
from tsp3d.data.records import is_writable
from tsp3d.data.sample import CLASS_INDEX, Query, SceneSample
from tsp3d.data.scenes import PreparedScenes

log = logging.getLogger(__name__)

VIEW_WORDS = frozenset(
    ("front", "behind", "back", "left", "right", "facing", "leftmost", "rightmost", "looking", "across")
)
"""A sentence with one of these tokens is view-dependent (ReferIt3D, Achlioptas et al., ECCV 2020, section 5)."""

TEXTS = ("scene_id", "description", "eval_type")
"""Fields of JSON files that hold text."""

SKIP = "Leave them out with --skip-missing (in training: data.skip_missing=true)"


@dataclass(frozen=True)
class Annotation:
    """One row of an annotation file."""

    scene_id: str
    text: str
    targets: tuple[int, ...]
    """Object ids meant, none where the sentence is true of nothing."""
    where: str
    """File and row, for messages."""
    name: str = ""
    """Class name that the file gives the target."""
    anchors: tuple[int, ...] = ()
    view_dependent: bool = False
    meta: dict[str, Any] = field(default_factory=dict)


class AnnotatedScenes:
    """Prepared scenes with the sentences of an annotation file; only scenes that have a sentence.

    It is read like :class:`~tsp3d.data.scenes.PreparedScenes`, and yields the same samples.

    Args:
        folder: prepared scenes, as ``tools/prepare_scannet.py`` writes. All its splits are searched.
        rows: the annotations.
        file: where they come from, for messages.
        split: of a file that holds several splits, the one to keep; the prepared scenes know which scenes it has.
            "" keeps every row.
        all_of: the split that every row must be of, where the prepared scenes have it and others.
        skip_missing: leave out rows whose scene or object is not there, with a warning; otherwise that is an error.

    Raises:
        FileNotFoundError: no prepared scenes there.
        ValueError: scenes or objects are missing, the split is unknown, or nothing is left.
    """

    def __init__(
        self,
        folder: str | Path,
        rows: Iterable[Annotation],
        file: str | Path,
        split: str = "",
        skip_missing: bool = False,
        all_of: str = "",
    ) -> None:
        self.folder, self.file = Path(folder), Path(file)
        self.parts = _open_parts(self.folder)
        self._place = {scene_id: (part, index) for part in self.parts for index, scene_id in enumerate(part.scene_ids)}
        rows = list(rows)
        if split:
            wanted = self._of_split(split)
            rows = [row for row in rows if row.scene_id in wanted]
        self._by_scene: dict[str, list[Annotation]] = {}
        for row in rows:
            self._by_scene.setdefault(row.scene_id, []).append(row)
        self._check_scenes(skip_missing)
        self._check_split(all_of)
        self._records = {scene_id: self._objects(scene_id) for scene_id in self._by_scene}
        self._check_objects(skip_missing)
        if not self._by_scene:
            raise ValueError(
                f"{self.file} has no sentence for split {split or 'any'!r} of {self.folder}: check that file, split "
                "and prepared scenes belong together"
            )
        self.scene_ids = sorted(self._by_scene)
        self._complete()

    def __len__(self) -> int:
        return len(self.scene_ids)

    def __getitem__(self, index: int) -> SceneSample:
        """The whole scene with all its sentences."""
        scene_id = self.scene_ids[index]
        part, place = self._place[scene_id]
        return part[place].replace(queries=tuple(self._queries(scene_id)))

    def objects(self, index: int) -> list[dict[str, Any]]:
        """The object records of a scene: ``id``, ``name`` (raw label), ``box``, ``nyu40`` and so on."""
        return self._records[self.scene_ids[index]]

    def queries(self, index: int) -> list[tuple[Query, int]]:
        """A scene's sentences without its points, each with the class index of its (first) target or -1."""
        scene_id = self.scene_ids[index]
        classes = [CLASS_INDEX.get(item["name"], -1) for item in self._records[scene_id]]
        return [(query, classes[query.targets[0]]) for query in self._queries(scene_id) if query.targets]

    @property
    def num_sentences(self) -> int:
        """Sentences of all scenes."""
        return sum(map(len, self._by_scene.values()))

    # What a dataset adds ---------------------------------------------------------------------------------------------

    def _complete(self) -> None:
        """Hook: called once when rows and records are known, before the first sample."""

    def _meta(self, row: Annotation, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """What is to be known of a sentence beside its text and objects; ``records`` are its scene's objects."""
        return {}

    # Inside ----------------------------------------------------------------------------------------------------------

    def _queries(self, scene_id: str) -> list[Query]:
        records = self._records[scene_id]
        place = {int(item["id"]): index for index, item in enumerate(records)}
        queries = []
        for row in self._by_scene[scene_id]:
            kind = "sentence" if row.targets else "absent"
            queries.append(
                Query(
                    row.text,
                    tuple(place[i] for i in row.targets),
                    tuple(place[i] for i in row.anchors if i in place) or mentioned(row, records, place),
                    row.view_dependent,
                    {"kind": kind, **row.meta, **self._meta(row, records)},
                )
            )
        return queries

    def _objects(self, scene_id: str) -> list[dict[str, Any]]:
        part, index = self._place[scene_id]
        return part.objects(index)

    def _of_split(self, split: str) -> set[str]:
        listed: dict[str, list[str]] = {}
        for part in self.parts:
            listed = listed or part.info.get("listed") or {}
        if split in listed:
            return set(listed[split])
        found = [part for part in self.parts if part.split == split]
        if found:
            return set(found[0].scene_ids)
        raise ValueError(
            f"{self.file} holds several splits, and {self.folder} does not know which scenes {split!r} has (it knows "
            f"{sorted(listed) or [part.split for part in self.parts]}): prepare the scenes with --lists, the folder of "
            "scannetv2_train.txt and scannetv2_val.txt"
        )

    def _check_scenes(self, skip: bool) -> None:
        missing = sorted(scene_id for scene_id in self._by_scene if scene_id not in self._place)
        if not missing:
            return
        reasons = {}
        if (self.folder / "skipped.json").is_file():
            reasons = json.loads((self.folder / "skipped.json").read_text(encoding="utf-8"))
        named = [f"{scene_id} ({reasons[scene_id]})" if scene_id in reasons else scene_id for scene_id in missing[:5]]
        count = sum(len(self._by_scene.pop(scene_id)) for scene_id in missing)
        text = (
            f"{len(missing)} of {len(missing) + len(self._by_scene)} scenes of {self.file} are not in {self.folder}: "
            f"{', '.join(named)}{' …' if len(missing) > 5 else ''}"
        )
        if not skip:
            raise ValueError(f"{text}; prepare them with tools/prepare_scannet.py. {SKIP}")
        log.warning("%s; their %d sentences are left out", text, count)

    def _check_split(self, split: str) -> None:
        others = {self._place[scene_id][0].split for scene_id in self._by_scene} - {split}
        if others and any(part.split == split for part in self.parts):
            raise ValueError(
                f"{self.file} describes scenes of {', '.join(sorted(others))}, not only of {split!r}: give the split "
                f"that it is of, or the file of {split!r}"
            )

    def _check_objects(self, skip: bool) -> None:
        lost, other, rows = [], [], 0
        for scene_id, candidates in self._by_scene.items():
            labels = {int(item["id"]): item["name"] for item in self._records[scene_id]}
            kept = []
            for row in candidates:
                rows += 1
                if not row.text.strip():
                    lost.append(f"{row.where}: the sentence has no text")
                    continue
                absent = [i for i in row.targets if i not in labels]
                if absent:
                    lost.append(f"{row.where}: {scene_id} has no object {absent[0]}")
                    continue
                if row.name and row.targets and labels[row.targets[0]] != label_of(row.name):
                    other.append(f"{row.where}: {row.name!r} is {labels[row.targets[0]]!r} in {scene_id}")
                kept.append(row)
            self._by_scene[scene_id] = kept
        self._by_scene = {scene_id: kept for scene_id, kept in self._by_scene.items() if kept}
        if lost and not skip:
            raise ValueError(
                f"{lost[0]} ({len(lost)} rows cannot be used). Where an object is missing, annotations and scenes are "
                f"of different versions, or it has no vertex. {SKIP}"
            )
        if lost:
            log.warning("%s (%d rows cannot be used, and are left out)", lost[0], len(lost))
        if len(other) > 0.05 * rows:
            log.warning("%s (%d of %d rows): are the object ids of another version?", other[0], len(other), rows)


SceneSet = PreparedScenes | AnnotatedScenes
"""Whatever training and evaluation read."""


def mentioned(row: Annotation, records: Sequence[dict[str, Any]], place: dict[int, int]) -> tuple[int, ...]:
    """For a row whose file names no other objects: of each class that its text names beside the target, the object
    nearest to the target (TSP3D's auxiliary object, for all nouns instead of the first). Indices into ``records``."""
    if not row.targets:
        return ()
    center = np.array(records[place[row.targets[0]]]["box"][:3])
    found = []
    for noun in parse(row.text).auxiliary:
        near = [
            (float(np.linalg.norm(np.array(item["box"][:3]) - center)), index)
            for index, item in enumerate(records)
            if int(item["id"]) not in row.targets and names(noun, item["name"])
        ]
        found += [min(near)[1]] if near else []
    return tuple(dict.fromkeys(found))


def label_of(name: str) -> str:
    """A raw label as prepared scenes have it: lower case, single blanks."""
    return " ".join(name.lower().replace("_", " ").split())


def is_view_dependent(words: Iterable[str]) -> bool:
    """Whether a token, or what hyphens join in it ("left-hand"), is one of :data:`VIEW_WORDS`."""
    return not VIEW_WORDS.isdisjoint(part for word in words for part in word.lower().split("-"))


def plain_words(text: str) -> list[str]:
    """Words of a text without tokens: cut at blanks and punctuation."""
    return "".join(c if c.isalnum() or c in "-'" else " " for c in text.lower()).split()


def release_text(text: str) -> str:
    """A sentence as the TSP3D release gives it to its text encoder: single blanks, and one before every comma."""
    return " ".join(text.replace(",", " ,").split())


# Files -------------------------------------------------------------------------------------------------------------


def read_json_rows(path: str | Path, needed: Sequence[str], what: str) -> list[dict[str, Any]]:
    """The rows of a JSON list of objects.

    Raises:
        FileNotFoundError: no such file. ValueError: not such a list, or a row lacks a field or has no text there.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no annotations at {path}; give the JSON file of {what}")
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}); download {what} again") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path} is not a list of objects, as {what} is; give its annotation file")
    for number, row in enumerate(rows):
        lacking = [name for name in needed if name not in row]
        if lacking:
            raise ValueError(
                f"{path}, row {number}: no field {lacking} ({what} has {list(needed)}); it has {sorted(row)}"
            )
        odd = [name for name in TEXTS if name in needed and not is_writable(row[name])]
        if odd:
            value = f"{row[odd[0]]!r:.80}"
            raise ValueError(f"{path}, row {number}: {odd[0]} is {value}, not a text; download {what} again")
    return rows


def read_csv_rows(path: str | Path, needed: Sequence[str], what: str) -> list[dict[str, str]]:
    """The rows of a CSV file by its header.

    Raises:
        FileNotFoundError: no such file. ValueError: not such a file, a column is missing, or a row is cut off.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no annotations at {path}; give the CSV file of {what}")
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns, rows = reader.fieldnames or (), list(reader)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not CSV in UTF-8 ({error}); download {what} again") from error
    lacking = [name for name in needed if name not in columns]
    if lacking:
        raise ValueError(f"{path} has no column {lacking} ({what} has it); its columns are {list(columns)}")
    for number, row in enumerate(rows, 2):
        if any(row[name] is None for name in needed):
            raise ValueError(f"{path}, line {number}: cut off; download {what} again")
    return rows


def to_bool(value: str, where: str, column: str) -> bool:
    """True or False as CSV files have them."""
    text = str(value).strip().lower()
    if text in ("true", "1", "1.0"):
        return True
    if text in ("false", "0", "0.0"):
        return False
    raise ValueError(f"{where}: {column} is {value!r}, not True or False")


def to_int(value: Any, where: str, column: str) -> int:
    """A whole number, also written "7.0"."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if not number == int(number if np.isfinite(number) else 0):
        raise ValueError(f"{where}: {column} is {f'{value!r:.80}'}, not a whole number")
    return int(number)


def _open_parts(folder: Path) -> list[PreparedScenes]:
    splits = sorted(path.parent.name for path in folder.glob("*/scenes.jsonl"))
    if not splits:
        raise FileNotFoundError(f"{folder} has no prepared scenes; make them with tools/prepare_scannet.py")
    parts = []
    for split in splits:
        try:
            parts.append(PreparedScenes(folder, split, require_sentences=False))
        except ValueError:
            if not (folder / split / "scenes.jsonl").stat().st_size:
                continue  # a split of which every scene was broken
            raise
    return parts
