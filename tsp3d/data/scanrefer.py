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
    release_text,
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

    ``meta`` of a sentence: ``unique`` (TSP3D, BUTD-DETR: no other object of the scene is of the target's class among
    18), ``unique_official`` (ScanRefer: no other object *that the file describes* is; both are left out where the scene
    has no NYU40 labels), ``object_id``, ``ann_id``.
    """

    def __init__(
        self, folder: str | Path, file: str | Path, skip_missing: bool = False, tokens: bool = False, split: str = ""
    ) -> None:
        """``split``: that of the file, for which scenes of another are an error."""
        super().__init__(folder, read_scanrefer(file, tokens), file, skip_missing=skip_missing, all_of=split)

    def _complete(self) -> None:
        self._described: dict[str, Counter[str]] = {}
        for scene_id, rows in self._by_scene.items():
            described = {row.targets[0] for row in rows}
            self._described[scene_id] = Counter(
                official_class(item) for item in self._records[scene_id] if int(item["id"]) in described
            )

    def _meta(self, row: Annotation, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
        target = next(item for item in records if int(item["id"]) == row.targets[0])
        official, butd = official_class(target), butd_class(target)
        if not official:
            return {}
        return {
            "unique": sum(butd_class(item) == butd for item in records) == 1,
            "unique_official": self._described[row.scene_id][official] == 1,
        }


def official_class(item: dict[str, Any]) -> str:
    """Class of an object in ScanRefer's own evaluation; "" where its NYU40 label is not known."""
    nyu40 = item.get("nyu40") or ""
    return nyu40 if nyu40 in OFFICIAL_CLASSES or not nyu40 else "others"


def butd_class(item: dict[str, Any]) -> str:
    """Class of an object in the evaluation of BUTD-DETR and what descends from it, TSP3D among them, which calls a sofa
    "couch": NYU40 knows none, so sofas are among the others there."""
    name = official_class(item)
    return "others" if name == "sofa" else name


def read_scanrefer(file: str | Path, tokens: bool = False) -> list[Annotation]:
    """The rows of a ScanRefer file.

    Args:
        tokens: read a sentence as the published weights of TSP3D do: its tokens (lower case, punctuation apart) joined
            by blanks. Otherwise as it was written. The object's name, which BUTD-DETR puts into sentences that lack it,
            is not told, as EDA and TSP3D do not.
    """
    rows, needed = [], (*FIELDS, "token") if tokens else FIELDS
    for number, row in enumerate(read_json_rows(file, needed, "ScanRefer")):
        where = f"{file}, row {number}"
        object_id = to_int(row["object_id"], where, "object_id")
        words = row["token"] if isinstance(row.get("token"), list) else plain_words(row["description"])
        text = release_text(" ".join(map(str, words))) if tokens else row["description"]
        meta = {"object_id": object_id, "ann_id": str(row["ann_id"])}
        rows.append(
            Annotation(
                row["scene_id"], text, (object_id,), where, str(row["object_name"] or ""),
                view_dependent=is_view_dependent(map(str, words)), meta=meta,
            )
        )  # fmt: skip
    return rows
