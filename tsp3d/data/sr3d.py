"""Sr3D (ReferIt3D): sentences made from templates, one object each, with the objects that they relate it to."""

from __future__ import annotations

from pathlib import Path

from tsp3d.data.annotated import AnnotatedScenes, Annotation, read_csv_rows, release_text, to_bool, to_int
from tsp3d.data.referit3d import difficulty, id_list

COLUMNS = (
    "scan_id", "target_id", "instance_type", "utterance", "mentions_target_class", "tokens", "stimulus_id",
    "distractor_ids", "anchor_ids", "anchors_types",
)  # fmt: skip


class Sr3D(AnnotatedScenes):
    """Sentences of ``sr3d.csv`` or ``sr3d+.csv`` that name the target's class.

    ``meta`` of a sentence: ``distractors`` (none, which only Sr3D+ has; one: easy; more: hard), ``view_dependent``,
    and ``reference_type`` where the file has it.
    """

    def __init__(
        self, folder: str | Path, file: str | Path, split: str = "val", skip_missing: bool = False, tokens: bool = False
    ) -> None:
        rows = [row for row in read_sr3d(file, tokens) if row.meta["mentions_target_class"]]
        super().__init__(folder, rows, file, split, skip_missing)


def read_sr3d(file: str | Path, tokens: bool = False) -> list[Annotation]:
    """All rows of an Sr3D file; ``tokens``: as the published weights read them (:func:`release_text`)."""
    rows = []
    for number, row in enumerate(read_csv_rows(file, COLUMNS, "Sr3D"), 2):
        where = f"{file}, line {number}"
        target = to_int(row["target_id"], where, "target_id")
        text = release_text(row["utterance"]) if tokens else row["utterance"]
        group, view_dependent = difficulty(row["stimulus_id"], target, row["tokens"], row["utterance"], where)
        named = to_bool(row["mentions_target_class"], where, "mentions_target_class")
        meta = {**group, "mentions_target_class": named}
        if row.get("reference_type"):
            meta["reference_type"] = row["reference_type"]
        rows.append(
            Annotation(
                row["scan_id"], text, (target,), where, row["instance_type"],
                id_list(row["anchor_ids"], where, "anchor_ids"), view_dependent, meta,
            )
        )  # fmt: skip
    return rows
