"""Nr3D (ReferIt3D): sentences that people said in a game, one object each."""

from __future__ import annotations

from pathlib import Path

from tsp3d.data.annotated import AnnotatedScenes, Annotation, read_csv_rows, release_text, to_bool, to_int
from tsp3d.data.referit3d import difficulty

COLUMNS = (
    "scan_id", "target_id", "instance_type", "utterance", "correct_guess", "mentions_target_class", "tokens",
    "stimulus_id",
)  # fmt: skip


class Nr3D(AnnotatedScenes):
    """Sentences of ``nr3d.csv``: for training all of them, otherwise those that the listener guessed right.

    ``meta`` of a sentence: ``distractors`` (one: easy, more: hard), ``view_dependent``,
    ``correct_guess``, ``mentions_target_class``.
    """

    def __init__(
        self, folder: str | Path, file: str | Path, split: str = "val", skip_missing: bool = False, tokens: bool = False
    ) -> None:
        rows = read_nr3d(file, tokens)
        if split != "train":
            rows = [row for row in rows if row.meta["correct_guess"]]
        super().__init__(folder, rows, file, split, skip_missing)


def read_nr3d(file: str | Path, tokens: bool = False) -> list[Annotation]:
    """All rows of an Nr3D file; ``tokens``: as the published weights read them (:func:`release_text`)."""
    rows = []
    for number, row in enumerate(read_csv_rows(file, COLUMNS, "Nr3D"), 2):
        where = f"{file}, line {number}"
        target = to_int(row["target_id"], where, "target_id")
        text = release_text(row["utterance"]) if tokens else row["utterance"]
        group, view_dependent = difficulty(row["stimulus_id"], target, row["tokens"], row["utterance"], where)
        meta = {
            **group,
            "correct_guess": to_bool(row["correct_guess"], where, "correct_guess"),
            "mentions_target_class": to_bool(row["mentions_target_class"], where, "mentions_target_class"),
        }
        rows.append(
            Annotation(
                row["scan_id"], text, (target,), where, row["instance_type"],
                view_dependent=view_dependent, meta=meta,
            )
        )  # fmt: skip
    return rows
