"""Multi3DRefer (Zhang et al., ICCV 2023): none, one or several objects for each sentence; one JSON file a split."""

from __future__ import annotations

from pathlib import Path

from tsp3d.data.annotated import AnnotatedScenes, Annotation, is_view_dependent, plain_words, read_json_rows, to_int

FIELDS = ("scene_id", "object_ids", "object_name", "ann_id", "description", "eval_type")

EVAL_TYPES: dict[str, str] = {
    "zt_w_d": "zero targets, with distractors",
    "zt_wo_d": "zero targets, without distractors",
    "st_w_d": "single target, with distractors",
    "st_wo_d": "single target, without distractors",
    "mt": "multiple targets",
}
"""Kinds of sentences that are reported apart; a distractor is another object of the class named."""


class Multi3DRefer(AnnotatedScenes):
    """Sentences of ``multi3drefer_<split>.json``; ``meta``: ``eval_type`` (a key of :data:`EVAL_TYPES`), ``ann_id``."""

    def __init__(self, folder: str | Path, file: str | Path, skip_missing: bool = False, split: str = "") -> None:
        """``split``: that of the file, for which scenes of another are an error."""
        super().__init__(folder, read_multi3drefer(file), file, skip_missing=skip_missing, all_of=split)


def read_multi3drefer(file: str | Path) -> list[Annotation]:
    """The rows of a Multi3DRefer file.

    Raises:
        ValueError: a row's ``eval_type`` is unknown, or contradicts its number of objects.
    """
    rows = []
    for number, row in enumerate(read_json_rows(file, FIELDS, "Multi3DRefer")):
        where, kind = f"{file}, row {number}", row["eval_type"]
        if not isinstance(row["object_ids"], list):
            raise ValueError(f"{where}: object_ids is {row['object_ids']!r}, not a list")
        targets = tuple(dict.fromkeys(to_int(i, where, "object_ids") for i in row["object_ids"]))
        if kind not in EVAL_TYPES:
            raise ValueError(f"{where}: eval_type is {kind!r}, not one of {list(EVAL_TYPES)}")
        if min(len(targets), 2) != {"zt": 0, "st": 1, "mt": 2}[kind[:2]]:
            raise ValueError(f"{where}: eval_type {kind!r}, but {len(targets)} objects")
        meta = {"eval_type": kind, "ann_id": str(row["ann_id"])}
        view_dependent = is_view_dependent(plain_words(row["description"]))
        rows.append(
            Annotation(
                row["scene_id"], row["description"], targets, where, str(row["object_name"] or ""),
                view_dependent=view_dependent, meta=meta,
            )
        )  # fmt: skip
    return rows
