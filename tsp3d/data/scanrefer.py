"""ScanRefer (Chen et al., ECCV 2020): one object for each sentence; a JSON file for each split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tsp3d.data.annotated import (
    AnnotatedScenes,
    Annotation,
    is_view_dependent,
    plain_words,
    read_json_rows,
    same_label_count,
    to_int,
)

FIELDS = ("scene_id", "object_id", "object_name", "ann_id", "description")

OFFICIAL_CLASSES = frozenset(
    (
        "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture", "counter", "desk",
        "curtain", "refrigerator", "shower curtain", "toilet", "sink", "bathtub",
    )
)  # fmt: skip
"""The classes of ScanRefer's own evaluation beside its 18th, "others", which everything else is. It compares these
names with NYU40's, which spell "refridgerator": refrigerators are among the others there, and so they are here."""


class ScanRefer(AnnotatedScenes):
    """Sentences of ``ScanRefer_filtered_<split>.json``.

    ``meta`` of a sentence: ``unique`` (TSP3D, BUTD-DETR: no other object of the scene has the target's label),
    ``unique_official`` (ScanRefer: no other object *that the file describes* is of the target's class among 18; left
    out where the scene has no NYU40 labels), ``object_id``, ``ann_id``.
    """

    def __init__(self, folder: str | Path, file: str | Path, skip_missing: bool = False, tokens: bool = False) -> None:
        super().__init__(folder, read_scanrefer(file, tokens), file, skip_missing=skip_missing)

    def _complete(self) -> None:
        self._described: dict[str, Counter[str]] = {}
        for scene_id, rows in self._by_scene.items():
            described = {row.targets[0] for row in rows}
            self._described[scene_id] = Counter(
                official_class(item) for item in self._records[scene_id] if int(item["id"]) in described
            )

    def _meta(self, row: Annotation, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
        meta: dict[str, Any] = {"unique": same_label_count(row, records) == 0}
        own = official_class(next(item for item in records if int(item["id"]) == row.targets[0]))
        if own:
            meta["unique_official"] = self._described[row.scene_id][own] == 1
        return meta


def official_class(item: dict[str, Any]) -> str:
    """Class of an object in ScanRefer's own evaluation; "" where its NYU40 label is not known."""
    nyu40 = item.get("nyu40") or ""
    return nyu40 if nyu40 in OFFICIAL_CLASSES or not nyu40 else "others"


def read_scanrefer(file: str | Path, tokens: bool = False) -> list[Annotation]:
    """The rows of a ScanRefer file.

    Args:
        tokens: read a sentence as BUTD-DETR and what descends from it do, the published weights among them: its tokens
            (lower case, punctuation apart) joined by blanks, and the object's name in the place of the last word of
            the first sentence where no word of it is that name (which tells the network more than the writer did).
            Otherwise as it was written.
    """
    rows, needed = [], (*FIELDS, "token") if tokens else FIELDS
    for number, row in enumerate(read_json_rows(file, needed, "ScanRefer")):
        where = f"{file}, row {number}"
        object_id = to_int(row["object_id"], where, "object_id")
        words = row["token"] if isinstance(row.get("token"), list) else plain_words(row["description"])
        text = _with_name(" ".join(map(str, words)), str(row["object_name"])) if tokens else row["description"]
        meta = {"object_id": object_id, "ann_id": str(row["ann_id"])}
        rows.append(
            Annotation(
                row["scene_id"], text, (object_id,), where, row["object_name"],
                view_dependent=is_view_dependent(map(str, words)), meta=meta,
            )
        )  # fmt: skip
    return rows


def _with_name(text: str, name: str) -> str:
    name = name.replace("_", " ")
    if name in text:
        return text
    first, _, rest = text.partition(" . ")
    return f"{' '.join(first.split()[:-1])} {name} . {rest}"
