"""Training samples and their order, both functions of (seed, step), so that a resumed run continues exactly."""

from __future__ import annotations

import signal
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from tsp3d.data.annotated import SceneSet
from tsp3d.data.augment import AugmentConfig, augment, cut_below
from tsp3d.data.collate import GroundingBatch, collate
from tsp3d.data.sample import Query, SceneSample, absent_query, detection_query
from tsp3d.synth.types import RELATIONS


@dataclass
class DataConfig:
    """What a training step is made of."""

    folder: str = "data/synth"
    """Dataset folder (see :mod:`tsp3d.data.scenes`)."""
    dataset: str = "synth"
    """Whose sentences: "synth" for those in the folder ("synth-multi": with those that mean several objects or none),
    or "scanrefer", "nr3d", "sr3d", "multi3drefer"."""
    annotations: str = ""
    """Annotation file of these, for training…"""
    val_annotations: str = ""
    """…and for validation (Nr3D and Sr3D: the same file)."""
    tokens: bool = False
    """Sentences of ScanRefer, Nr3D and Sr3D as the published weights read them (:mod:`tsp3d.data.datasets`)."""
    skip_missing: bool = False
    """Leave out annotations whose scene or object was not prepared, instead of refusing."""
    split: str = "train"
    val_split: str = "val"
    scenes_per_step: int = 2
    sentences_per_scene: int = 16
    sentence_share: float = 1.0
    """Share of each scene's sentences that training may use, at least one: the same always, evenly spread."""
    relation_weights: dict[str, float] = field(default_factory=dict)
    """How many times as likely as another one a sentence of a relation ("ordinal": 3) is to be drawn next; with 0 only
    where all others are drawn. Generated sentences have relations (``tsp3d.synth.types.RELATIONS``)."""
    unlabelled_sentences: int = 0
    """How many of the others a scene has beside, without what they mean, for a method that labels them itself
    (``pseudo-labels``)."""
    bare_scenes: int = 0
    """Further scenes of a step without sentences: their objects alone train the backbone, at a fifth of the cost."""
    labelled_share: float = 1.0
    """Share of the scenes that have labels, at least one: the same always, evenly spread. Of the others training knows
    the objects' boxes, neither their classes and colours nor any sentence: they are what ``bare_scenes`` are drawn
    from, and nothing else."""
    points_per_scene: int = 40_000
    """Random points kept of each scene; 0 keeps all."""
    mirror_probability: float = 0.3
    """Probability that only sentences that do not depend on the view are chosen, so that the scene may be mirrored
    (``augment.flip``). Among many sentences of a scene there is nearly always one that forbids it."""
    detection_probability: float = 0.5
    """Probability that a scene gets its extra detection prompts."""
    detection_prompts: int = 1
    """Detection prompts of a scene that gets them."""
    detection_names: int = 10
    """Most class names in a detection prompt."""
    absent_probability: float = 0.0
    """Probability that a scene gets one sentence of another scene that is true of nothing here."""
    workers: int = 1
    prefetch: int = 4
    augment: AugmentConfig = field(default_factory=AugmentConfig)


class TrainingSamples(Dataset[SceneSample]):
    """Subsampled, augmented scenes with a random choice of their sentences. Index: (epoch, scene index).

    Each sample is a function of (seed, epoch, scene id) alone: the same scene gives the same sample whichever process,
    run or dataset size it is read in (sentences of other scenes, ``absent_probability``, excepted).
    """

    def __init__(self, scenes: SceneSet, config: DataConfig, seed: int = 0, sentences: bool = True) -> None:
        if unknown := set(config.relation_weights) - set(RELATIONS):
            raise ValueError(f"relation_weights: no relation is called {sorted(unknown)}; there are {list(RELATIONS)}")
        if not all(0 <= weight < np.inf for weight in config.relation_weights.values()):
            raise ValueError(f"relation_weights must be 0 or more, got {config.relation_weights}")
        self.scenes = scenes
        self.config = config
        self.seed = seed
        self.sentences = sentences
        """False leaves out every text, for training on objects alone."""
        self.labelled = _spread(len(scenes), config.labelled_share)
        """(scenes,) whether a scene has labels."""
        self.known, self.rest = ([i for i, own in enumerate(self.labelled) if own is has] for has in (True, False))
        """The scenes that have labels, and the others."""

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: tuple[int, int]) -> SceneSample:
        epoch, scene = index
        sample = self.scenes[scene]
        if not self.labelled[scene]:
            unknown = np.full(len(sample.boxes), -1, dtype=np.int64)
            sample = sample.replace(classes=unknown, colors=unknown, labels=())
        rng = np.random.default_rng([self.seed, epoch, zlib.crc32(sample.scene_id.encode())])
        shared = _spread(len(sample.queries), self.config.sentence_share)
        allowed = {id(query) for query, own in zip(sample.queries, shared, strict=True) if own}
        cut = self.config.augment.enabled and rng.random() < self.config.augment.cut
        if cut:
            sample = cut_below(sample, rng.uniform(0, self.config.augment.cut_height))
        spoken = self.sentences and self.labelled[scene]
        sample = sample.replace(queries=self._choose(sample, allowed, not cut, rng) if spoken else ())
        return augment(sample, self.config.augment, rng, self.config.points_per_scene)

    def _choose(
        self, sample: SceneSample, allowed: set[int], whole: bool, rng: np.random.Generator
    ) -> tuple[Query, ...]:
        """Queries of a sample. allowed: the ids of those that training may use. whole: every object of it has its
        class, so that prompts can be made."""
        config = self.config
        usable = [query for query in sample.queries if id(query) in allowed]
        mirror = rng.random() < config.mirror_probability
        if mirror:
            usable = [query for query in usable if not query.view_dependent] or usable
        # The least of exponential variates at the rate of each weight: a draw without replacement by weight.
        relations = [query.meta.get("relation", "none") for query in usable]
        weights = [config.relation_weights.get(name if name in RELATIONS else "other", 1.0) for name in relations]
        waits = rng.exponential(size=len(usable)) / np.maximum(weights, 1e-9)
        queries = [usable[i] for i in np.argsort(waits)[: config.sentences_per_scene]]
        if rng.random() < config.detection_probability and whole:
            for _ in range(config.detection_prompts):
                prompt = detection_query(sample, rng, config.detection_names)
                queries += [prompt] if prompt else []
        if rng.random() < config.absent_probability and whole:
            other = self.scenes.queries(self.known[int(rng.integers(len(self.known)))])
            absent = absent_query(sample, other, rng)
            queries += [absent] if absent else []
        if config.unlabelled_sentences:
            rest = [query for query in sample.queries if id(query) not in allowed]
            rest = [query for query in rest if not (mirror and query.view_dependent)]
            rest = [rest[i] for i in rng.permutation(len(rest))[: config.unlabelled_sentences]]
            queries += [replace(query, targets=(), anchors=(), meta={"kind": "unlabelled"}) for query in rest]
        return tuple(queries)


def _spread(count: int, share: float) -> list[bool]:
    """Which of ``count`` things are among a share of them: the first, and others at even distances."""
    return [not i or int(i * share) > int((i - 1) * share) for i in range(count)]


class StepSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, scene index) for steps ``start``, ``start + 1``, …; each epoch permutes the scenes anew.

    The scenes of all processes of one step are consecutive in the permutation.
    """

    def __init__(
        self, scenes: Sequence[int], per_step: int, seed: int, start: int, stop: int, rank: int = 0, world: int = 1
    ) -> None:
        if not len(scenes) or per_step < 1:
            raise ValueError(f"StepSampler needs at least one scene ({scenes}) and one scene per step ({per_step})")
        self.scenes, self.per_step, self.seed = scenes, per_step, seed
        self.start, self.stop, self.rank, self.world = start, stop, rank, world

    def __len__(self) -> int:
        return max(0, self.stop - self.start)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order_epoch, order = -1, np.empty(0, dtype=np.int64)
        for step in range(self.start, self.stop):
            first = (step * self.world + self.rank) * self.per_step
            batch = []
            for position in range(first, first + self.per_step):
                epoch = position // len(self.scenes)
                if epoch != order_epoch:
                    order_epoch, order = epoch, np.random.default_rng([self.seed, epoch]).permutation(self.scenes)
                batch.append((epoch, int(order[position % len(self.scenes)])))
            yield batch


class JoinedSampler(Sampler[list[tuple[int, int]]]):
    """Steps whose batches are those of several samplers, one after the other."""

    def __init__(self, parts: Sequence[StepSampler]) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return min(map(len, self.parts))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for batches in zip(*self.parts, strict=True):
            yield [pair for batch in batches for pair in batch]


def training_loader(
    samples: TrainingSamples, start: int, stop: int, rank: int = 0, world: int = 1
) -> DataLoader[GroundingBatch]:
    """Loader of the batches of steps ``start`` to ``stop`` (excluded) of process ``rank`` among ``world``."""
    config = samples.config
    parts = [(samples.known, config.scenes_per_step), (samples.rest, config.bare_scenes)]
    if not samples.rest:
        parts = [(samples.known, config.scenes_per_step + config.bare_scenes)]
    sampler = JoinedSampler(
        [StepSampler(pool, count, samples.seed, start, stop, rank, world) for pool, count in parts if count]
    )
    workers = config.workers
    return DataLoader(  # type: ignore[return-value]  # collate makes batches of samples
        samples,
        batch_sampler=sampler,
        collate_fn=partial(_collate_step, spoken=config.scenes_per_step),
        num_workers=workers,
        prefetch_factor=config.prefetch if workers else None,
        persistent_workers=False,
        pin_memory=False,
        worker_init_fn=_quiet_worker,
        # The loader draws a base seed for its workers; its own generator keeps that from moving the training's.
        generator=torch.Generator().manual_seed(samples.seed),
    )


def _collate_step(samples: Sequence[SceneSample], spoken: int) -> GroundingBatch:
    """Collates a step whose scenes after the first ``spoken`` keep no sentences."""
    return collate([*samples[:spoken], *(sample.replace(queries=()) for sample in samples[spoken:])])


def _quiet_worker(_: int) -> None:
    torch.set_num_threads(1)
    # Signals often go to the whole group of processes: the main one saves its state and then ends the workers, which
    # also end by themselves when it is gone.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
