"""The datasets by name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from tsp3d.data.annotated import SceneSet
from tsp3d.data.multi3drefer import Multi3DRefer
from tsp3d.data.nr3d import Nr3D
from tsp3d.data.scanrefer import ScanRefer
from tsp3d.data.scenes import PreparedScenes
from tsp3d.data.sr3d import Sr3D

Kind = Literal["synth", "synth-multi", "scanrefer", "nr3d", "sr3d", "multi3drefer"]


def open_dataset(
    kind: Kind | str,
    folder: str | Path,
    split: str,
    annotations: str | Path | None = None,
    skip_missing: bool = False,
    tokens: bool = False,
) -> SceneSet:
    """Prepared scenes with their own sentences ("synth"; "synth-multi" with those that mean several objects or none),
    or with those of an annotation file.

    Args:
        annotations: the file; ScanRefer and Multi3DRefer have one for each split, Nr3D and Sr3D one for all.
        tokens: sentences as the published weights read them: ScanRefer's as their tokens joined by blanks
            (:func:`tsp3d.data.scanrefer.read_scanrefer`), Nr3D's and Sr3D's with a blank before every comma.
        skip_missing: leave out sentences whose scene or object is not there, instead of refusing.

    Raises:
        FileNotFoundError: scenes or annotations are not there.
        ValueError: an unknown kind, no or an unwanted annotation file, or one that does not fit the scenes.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"dataset is {kind!r}; it must be one of {', '.join(get_args(Kind))}")
    if kind in ("synth", "synth-multi"):
        if annotations:
            raise ValueError(
                f"dataset {kind!r} has sentences of its own; name the dataset that {annotations} belongs to: "
                "--dataset scanrefer, nr3d, sr3d or multi3drefer"
            )
        return PreparedScenes(folder, split, sets=kind == "synth-multi")
    if not annotations:
        raise ValueError(
            f"dataset {kind!r} needs its annotation file: --annotations FILE (in training: data.annotations=FILE, and "
            "data.val_annotations=FILE for the validation)"
        )
    if kind == "scanrefer":
        return ScanRefer(folder, annotations, skip_missing, tokens, split)
    if kind == "multi3drefer":
        return Multi3DRefer(folder, annotations, skip_missing, split)
    return (Nr3D if kind == "nr3d" else Sr3D)(folder, annotations, split, skip_missing, tokens)
