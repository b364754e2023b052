"""The one sample type that every dataset hands to augmentation, collation and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tsp3d.synth.types import CLASSES, COLORS

CLASS_INDEX: dict[str, int] = {name: index for index, name in enumerate(CLASSES)}
COLOR_INDEX: dict[str, int] = {name: index for index, name in enumerate(COLORS)}


@dataclass(frozen=True)
class Query:
    """One text and the objects that it means, as indices into the scene's objects."""

    text: str
    targets: tuple[int, ...]
    """Indices of the objects meant: one (a sentence), several (a detection prompt) or none (an absent object)."""
    anchors: tuple[int, ...] = ()
    """Indices of the other objects mentioned."""
    view_dependent: bool = False
    """The text has words (left, behind, …) that a mirrored scene would make false."""
    meta: dict[str, Any] = field(default_factory=dict)
    """``kind`` ("sentence", "detection", "absent", "unlabelled"); of sentences also ``relation``, ``unique`` and so
    on."""


@dataclass(frozen=True)
class SceneSample:
    """A scene's points, objects and queries; lengths in metres, z up.

    N points, M objects. Arrays are numpy; :func:`tsp3d.data.collate.collate` makes the tensors.
    """

    scene_id: str
    xyz: np.ndarray
    """(N, 3) float32."""
    rgb: np.ndarray
    """(N, 3) float32 in 0..1."""
    instance: np.ndarray
    """(N,) int64, index of the point's object, -1 where it belongs to none."""
    boxes: np.ndarray
    """(M, 6) float32, centre and full size."""
    classes: np.ndarray
    """(M,) int64 index in CLASSES, -1 where the name is not one of them."""
    colors: np.ndarray
    """(M,) int64 index in COLORS, -1 where unknown."""
    queries: tuple[Query, ...] = ()
    colored: bool = True
    """False where the scan has no colour and ``rgb`` is a filler."""
    labels: tuple[str, ...] = ()
    """M names as the dataset has them, which may be others than CLASSES; empty where nobody needs them."""

    def replace(self, **changes: Any) -> SceneSample:
        """Copy with some fields changed."""
        return replace(self, **changes)

    def names(self) -> list[str]:
        """Name of each object: its label, or else its class, "" where unknown."""
        if self.labels:
            return list(self.labels)
        return [CLASSES[index] if index >= 0 else "" for index in self.classes]


def subsample(sample: SceneSample, count: int, rng: np.random.Generator) -> SceneSample:
    """Keep ``count`` random points in their stored order (all where there are fewer, or where ``count`` is 0). Raises
    ValueError where it is below 0."""
    if count < 0:
        raise ValueError(f"points kept must be 0, for all, or more; got {count}")
    total = len(sample.xyz)
    if count == 0 or total <= count:
        return sample
    keep = np.zeros(total, dtype=bool)
    keep[np.argpartition(rng.random(total, dtype=np.float32), count)[:count]] = True
    return sample.replace(xyz=sample.xyz[keep], rgb=sample.rgb[keep], instance=sample.instance[keep])


def detection_query(sample: SceneSample, rng: np.random.Generator, max_names: int = 10) -> Query | None:
    """A detection prompt: 1 to ``max_names`` class names joined by " . ", meaning all objects of these classes.

    At least one of the classes is in the scene; the others may be absent. None where the scene has no known class.
    """
    present = np.unique(sample.classes[sample.classes >= 0])
    if not len(present):
        return None
    count = int(rng.integers(1, max_names + 1))
    count_present = int(rng.integers(1, min(count, len(present)) + 1))
    absent = np.setdiff1d(np.arange(len(CLASSES)), present)
    chosen = rng.choice(present, count_present, replace=False)
    chosen = np.concatenate([chosen, rng.choice(absent, min(count - count_present, len(absent)), replace=False)])
    chosen = rng.permutation(chosen)
    targets = tuple(int(i) for i in np.flatnonzero(np.isin(sample.classes, chosen)))
    return Query(" . ".join(CLASSES[i] for i in chosen), targets, meta={"kind": "detection"})


def absent_query(sample: SceneSample, others: Sequence[tuple[Query, int]], rng: np.random.Generator) -> Query | None:
    """A sentence of another scene about a class that this scene lacks, hence true of no object here.

    Args:
        others: another scene's queries, each with the class index of its target.
    """
    present = set(sample.classes.tolist())
    if -1 in present:
        return None  # an object of unknown class might be what the sentence means
    usable = [query for query, target_class in others if target_class >= 0 and target_class not in present]
    if not usable:
        return None
    query = usable[int(rng.integers(len(usable)))]
    return Query(query.text, (), (), query.view_dependent, {"kind": "absent"})
