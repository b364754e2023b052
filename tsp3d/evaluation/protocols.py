"""How a network is measured: which scenes and sentences, in which order, with which clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tsp3d.data.augment import cut_below
from tsp3d.data.sample import Query, SceneSample, subsample
from tsp3d.evaluation.masks import mask_measures, mask_row
from tsp3d.evaluation.metrics import CalibrationError, GroundingAccuracy, box_iou


class GroundingModel(Protocol):
    """What evaluation needs of a network (:class:`tsp3d.models.net.GroundingNet` has it)."""

    def encode(self, xyz: Tensor, rgb: Tensor | None, /) -> Any:
        """Encode one scene: (N, 3) metres, (N, 3) colour 0..1 or None."""
        ...

    def ground(self, encoded: Any, texts: list[str], /, top_k: int = 1) -> Sequence[Any]:
        """For each text an object with ``boxes`` (k, 6) and ``scores`` (k,), best first."""
        ...


class SceneSource(Protocol):
    """A dataset: samples by index, each with its points, objects and queries."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> SceneSample: ...


class CutScenes:
    """Scenes without their points below a height in metres (:func:`tsp3d.data.augment.cut_below`).

    ValueError where the height is none, and at a scene that has no point above it.
    """

    def __init__(self, scenes: SceneSource, height: float) -> None:
        if not 0 <= height < float("inf"):
            raise ValueError(f"the height that scans are cut at must be 0 m or more, got {height}")
        self.scenes, self.height = scenes, height

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int, /) -> SceneSample:
        sample = self.scenes[index]
        cut = cut_below(sample, self.height)
        if cut is sample:
            raise ValueError(f"{sample.scene_id} has no point above {self.height} m; cut less")
        return cut


@dataclass
class Evaluation:
    """Measures, timings and one row per query."""

    groups: dict[str, dict[str, float]]
    """Group of queries to ``queries`` and its measures: ``acc@0.25``, ``acc@0.5``, ``recall@…`` (percent) and
    ``mean_iou``, or ``f1@…`` (percent) where a query may have any number of targets."""
    calibration_error: float
    """Expected calibration error of the score, at IoU 0.25, in 0..1."""
    rows: list[dict[str, Any]]
    masks: dict[str, dict[str, float]] = field(default_factory=dict)
    """As :func:`tsp3d.evaluation.masks.mask_measures`; empty where the network predicts none."""
    timings: dict[str, float] = field(default_factory=dict)
    """Medians in milliseconds; see :func:`measure_speed`."""
    info: dict[str, Any] = field(default_factory=dict)
    """What was evaluated: filled by the caller."""
    dataset: str = "synth"
    """Kind of dataset: of those that papers report, the report has a table with their figures."""

    def summary(self) -> dict[str, Any]:
        """Everything but the rows."""
        return {
            **self.info,
            "groups": self.groups,
            "calibration_error": self.calibration_error,
            **({"masks": self.masks} if self.masks else {}),
            "timings_ms": self.timings,
        }


def spread(total: int, wanted: int) -> list[int]:
    """``wanted`` indices of ``total`` at even distances (all of them where ``wanted`` is 0 or too many). Raises
    ValueError where it is below 0."""
    if wanted < 0:
        raise ValueError(f"a count must be 0, for all, or more; got {wanted}")
    if wanted == 0 or wanted >= total:
        return list(range(total))
    return [int(i) for i in np.linspace(0, total - 1, wanted).round()]


def ground_scenes(
    net: GroundingModel,
    dataset: SceneSource,
    wanted: Callable[[Query], bool],
    *,
    scenes: Iterable[int] | None,
    queries_per_scene: int,
    batch: int,
    top_k: int,
    points: int,
    color: bool,
    device: torch.device | str,
    progress: Callable[[int], None] | None,
    several: bool = False,
) -> Iterator[list[tuple[SceneSample, Query, Any, np.ndarray | None]]]:
    """For each scene its ``wanted`` sentences with what the network answers, and the mask (N,) bool of the best box
    where it has one: the scene is encoded once, its sentences are grounded in batches. Arguments as
    :func:`evaluate_grounding`; scenes without such a sentence are left out.

    Raises:
        ValueError: no box is asked for, or no sentence at a time.
    """
    if top_k < 1 or batch < 1:
        raise ValueError(f"{top_k} boxes of {batch} sentences at a time; both must be 1 or more")
    for index in range(len(dataset)) if scenes is None else scenes:
        sample = subsample(dataset[index], points, np.random.default_rng(index))
        queries = [query for query in sample.queries if wanted(query)]
        queries = [queries[i] for i in spread(len(queries), queries_per_scene)]
        if not queries:
            continue
        outs: list[Any] = []
        with torch.inference_mode():
            encoded = net.encode(*scene_tensors(sample, color, device))
            for start in range(0, len(queries), batch):
                texts = [query.text for query in queries[start : start + batch]]
                outs += net.ground(encoded, texts, top_k=top_k, **({"several": True} if several else {}))
            masks = [_best_mask(net, encoded, out, len(sample.xyz)) for out in outs]
        yield [(sample, *answer) for answer in zip(queries, outs, masks, strict=True)]
        if progress:
            progress(len(queries))


def _best_mask(net: GroundingModel, encoded: Any, out: Any, points: int) -> np.ndarray | None:
    predict = getattr(net, "masks", None)
    found = predict(encoded, out, [0]) if predict is not None and len(out.boxes) else None
    if found is None:
        return None
    mask = np.zeros(points, dtype=bool)
    mask[found[0].cpu().numpy()] = True
    return mask


def evaluate_grounding(
    net: GroundingModel,
    dataset: SceneSource,
    *,
    scenes: Iterable[int] | None = None,
    queries_per_scene: int = 0,
    batch: int = 16,
    top_k: int = 5,
    points: int = 0,
    color: bool = True,
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Accuracy on sentences with exactly one target: each scene is encoded once, its sentences are grounded in batches.

    Args:
        net: in evaluation mode, on ``device``.
        dataset: the scenes.
        scenes: indices to evaluate, all by default.
        queries_per_scene: at most this many of a scene's sentences, at even distances in their order; 0 for all.
        batch: sentences grounded together.
        top_k: boxes asked for each sentence; accuracy looks at the first, recall at all.
        points: random points kept of each scene (chosen by its index, so always the same); 0 keeps all.
        color: False evaluates the scans without their colour.
        progress: called with each finished scene's count of sentences.

    Returns:
        Measures and rows; ``timings`` is left empty.
    """
    # One process evaluates, while others of a training run may wait elsewhere: nothing is gathered from them.
    accuracy = GroundingAccuracy(sync_on_compute=False)
    calibration = CalibrationError(sync_on_compute=False)
    rows: list[dict[str, Any]] = []
    for answers in ground_scenes(
        net, dataset, lambda query: len(query.targets) == 1, scenes=scenes, queries_per_scene=queries_per_scene,
        batch=batch, top_k=top_k, points=points, color=color, device=device, progress=progress,
    ):  # fmt: skip
        done = [_row(*answer) for answer in answers]
        rows += done
        accuracy.update([row["ious"] for row in done], done)
        calibration.update([row["score"] for row in done], [row["iou"] for row in done])
    return Evaluation(accuracy.compute(), calibration.compute(), rows, masks=mask_measures(rows))


def measure_speed(
    net: GroundingModel,
    dataset: SceneSource,
    *,
    scenes: int = 8,
    queries: int = 4,
    warm_up: int = 2,
    points: int = 0,
    device: torch.device | str = "cpu",
) -> dict[str, float]:
    """Median wall times in milliseconds, one sentence at a time, device synchronised, loading and warm-up left out.

    Returns:
        ``cold``: from raw points and a sentence, both new, to a box (the paper's figure is this one). ``encode``: the
        part of it that encodes the scene. ``warm``: a new sentence on a scene that is already encoded. ``points``:
        median number of points. ``scenes``: scenes timed.
    """
    sync = torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None
    cold, encode, warm, counts = [], [], [], []
    wanted = spread(len(dataset), scenes)
    with torch.inference_mode():
        for turn, index in enumerate([*wanted[:1] * warm_up, *wanted]):
            sample = subsample(dataset[index], points, np.random.default_rng(index))
            texts = list(dict.fromkeys(query.text for query in sample.queries))
            texts = [texts[i] for i in spread(len(texts), queries + 1)]
            if not texts:
                continue
            xyz, rgb = scene_tensors(sample, True, device)
            sync()
            begin = time.perf_counter()
            encoded = net.encode(xyz, rgb)
            sync()
            middle = time.perf_counter()
            net.ground(encoded, texts[:1])
            sync()
            end = time.perf_counter()
            if turn < warm_up:
                continue
            cold.append(end - begin)
            encode.append(middle - begin)
            counts.append(len(xyz))
            for text in texts[1:]:
                begin = time.perf_counter()
                net.ground(encoded, [text])
                sync()
                warm.append(time.perf_counter() - begin)
    medians = {"cold": cold, "encode": encode, "warm": warm}
    result = {name: 1000 * float(np.median(values)) for name, values in medians.items() if values}
    return {**result, "points": float(np.median(counts)) if counts else 0.0, "scenes": float(len(cold))}


def scene_tensors(sample: SceneSample, color: bool, device: torch.device | str) -> tuple[Tensor, Tensor | None]:
    """What a network encodes: points (N, 3) and colours (N, 3), or None where there are none or they are not wanted."""
    rgb = torch.from_numpy(sample.rgb).to(device) if color and sample.colored else None
    return torch.from_numpy(sample.xyz).to(device), rgb


def _row(sample: SceneSample, query: Query, out: Any, mask: np.ndarray | None) -> dict[str, Any]:
    boxes = np.asarray(out.boxes.detach().float().cpu(), dtype=np.float64)[:, :6]
    scores = np.asarray(out.scores.detach().float().cpu(), dtype=np.float64)
    target = query.targets[0]
    ious = box_iou(boxes, sample.boxes[target])[:, 0]
    names = sample.names()
    meta = {key: value for key, value in query.meta.items() if key != "kind"}
    # The object that the top box is on tells a wrong object from a badly fitted box.
    overlap = box_iou(boxes[:1], sample.boxes)[0] if len(boxes) else np.zeros(len(names))
    hit = int(overlap.argmax()) if overlap.max(initial=0.0) > 0 else -1
    return {
        "scene_id": sample.scene_id,
        "text": query.text,
        "target": target,
        "target_class": names[target],
        "anchors": list(query.anchors),
        "view_dependent": query.view_dependent,
        **meta,
        "iou": float(ious[0]) if len(ious) else 0.0,
        "score": float(scores[0]) if len(scores) else 0.0,
        "hit": hit,
        "hit_class": names[hit] if hit >= 0 else "",
        "ious": [float(value) for value in ious],
        **({} if mask is None else mask_row(mask, boxes[0], sample, target)),
        "box": [round(float(value), 4) for value in boxes[0]] if len(boxes) else None,
        "target_box": [round(float(value), 4) for value in sample.boxes[target]],
    }
