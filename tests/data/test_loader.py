"""Samples, their order and the batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tsp3d.data import (
    AugmentConfig,
    DataConfig,
    GroundingBatch,
    PreparedScenes,
    StepSampler,
    TrainingSamples,
    collate,
    subsample,
    training_loader,
)
from tsp3d.data.sample import absent_query, detection_query
from tsp3d.synth.types import CLASSES


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> PreparedScenes:
    from tsp3d.data.toy import write_toy_dataset

    folder: Path = write_toy_dataset(tmp_path_factory.mktemp("toy"), train=5)
    return PreparedScenes(folder, "train")


def equal(a: GroundingBatch, b: GroundingBatch) -> bool:
    same = all(torch.equal(getattr(a, k), getattr(b, k)) for k in ("xyz", "rgb", "batch", "instance", "text_scene"))
    lists = all(
        len(getattr(a, k)) == len(getattr(b, k))
        and all(torch.equal(x, y) for x, y in zip(getattr(a, k), getattr(b, k), strict=True))
        for k in ("boxes", "classes", "colors", "targets", "anchors")
    )
    return same and lists and a.texts == b.texts and a.meta == b.meta


def test_collate_shapes_and_indices(scenes: PreparedScenes) -> None:
    config = DataConfig(sentences_per_scene=3, points_per_scene=200, detection_probability=1)
    samples = TrainingSamples(scenes, config)
    parts = [samples[0, 1], samples[0, 4], samples[0, 2]]
    batch = collate(parts)
    assert batch.num_scenes == 3
    assert batch.scene_ids == [part.scene_id for part in parts] == ["train-0001", "train-0004", "train-0002"]
    assert batch.xyz.shape == batch.rgb.shape == (600, 3) and batch.xyz.dtype == torch.float32
    assert batch.batch.tolist() == [0] * 200 + [1] * 200 + [2] * 200 and batch.batch.dtype == torch.int64
    assert batch.instance.shape == (600,) and batch.instance.dtype == torch.int64
    assert batch.text_scene.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert len(batch.texts) == len(batch.targets) == len(batch.anchors) == len(batch.meta) == 12
    assert [meta["kind"] for meta in batch.meta[:4]] == ["sentence"] * 3 + ["detection"]
    for scene in range(3):
        assert batch.boxes[scene].shape == (5, 6)
        assert batch.classes[scene].shape == batch.colors[scene].shape == (5,)
        own = batch.xyz[batch.batch == scene], batch.instance[batch.batch == scene]
        for place in range(5):
            box = batch.boxes[scene][place]
            points = own[0][own[1] == place]
            assert len(points) and bool(((points - box[:3]).abs() <= box[3:] / 2 + 0.0051).all())
    assert batch.to("cpu").texts == batch.texts


def test_collate_without_texts_and_without_scenes(scenes: PreparedScenes) -> None:
    batch = collate([TrainingSamples(scenes, DataConfig(), sentences=False)[0, 0]])
    assert batch.texts == [] and batch.targets == [] and batch.text_scene.shape == (0,)
    with pytest.raises(ValueError, match="at least one scene"):
        collate([])


def test_subsample_keeps_order_and_count(scenes: PreparedScenes) -> None:
    sample = scenes[0]
    part = subsample(sample, 100, np.random.default_rng(0))
    assert len(part.xyz) == len(part.rgb) == len(part.instance) == 100
    rows = [int(np.flatnonzero((sample.xyz == point).all(1))[0]) for point in part.xyz]
    assert rows == sorted(rows) and len(set(rows)) == 100
    assert subsample(sample, 0, np.random.default_rng(0)) is sample
    assert subsample(sample, 10_000, np.random.default_rng(0)) is sample


def test_detection_prompts_mean_all_objects_of_their_classes(scenes: PreparedScenes) -> None:
    sample, rng = scenes[0], np.random.default_rng(0)
    counts = set()
    for _ in range(60):
        query = detection_query(sample, rng)
        assert query is not None
        names = query.text.split(" . ")
        counts.add(len(names))
        assert len(set(names)) == len(names) <= 10 and set(names) <= set(CLASSES)
        assert query.targets == tuple(i for i, name in enumerate(sample.names()) if name in names)
        assert query.targets
    assert {1, 10} <= counts
    assert detection_query(sample.replace(classes=np.full(5, -1)), rng) is None


def test_absent_sentences_are_about_classes_that_the_scene_lacks(scenes: PreparedScenes) -> None:
    rng = np.random.default_rng(0)
    found = 0
    for here in range(5):
        for there in range(5):
            query = absent_query(scenes[here], scenes.queries(there), rng)
            if query is None:
                continue
            found += 1
            assert query.targets == () and query.meta["kind"] == "absent"
            classes = [c for q, c in scenes.queries(there) if q.text == query.text]
            assert not set(classes) & set(scenes[here].classes.tolist())
    assert found


def test_samples_depend_on_seed_epoch_and_scene_only(scenes: PreparedScenes) -> None:
    config = DataConfig(sentences_per_scene=4, points_per_scene=300)
    one, two = TrainingSamples(scenes, config, seed=1), TrainingSamples(scenes, config, seed=1)
    one[3, 0]
    assert equal(collate([one[2, 1]]), collate([two[2, 1]]))
    for other in (two[3, 1], TrainingSamples(scenes, config, seed=2)[2, 1]):
        assert not np.array_equal(one[2, 1].xyz, other.xyz)


def test_some_scenes_have_only_sentences_that_allow_mirroring(scenes: PreparedScenes) -> None:
    def allowed(probability: float) -> list[bool]:
        config = DataConfig(sentences_per_scene=5, mirror_probability=probability, points_per_scene=50)
        samples = TrainingSamples(scenes, config)
        return [not any(query.view_dependent for query in samples[epoch, 0].queries) for epoch in range(30)]

    assert all(allowed(1)) and sum(allowed(0)) < 5 and 8 < sum(allowed(0.5)) < 24


def test_a_share_of_the_scenes_has_labels(scenes: PreparedScenes) -> None:
    """Of five scenes two fifths are the first and the fourth; each step has one of them, and two of the others."""
    config = DataConfig(
        labelled_share=0.4, scenes_per_step=1, bare_scenes=2, detection_probability=1, points_per_scene=100, workers=0
    )
    samples = TrainingSamples(scenes, config)
    assert samples.labelled == [True, False, False, True, False]
    known, hidden = samples[0, 0], samples[0, 1]
    assert (known.classes >= 0).all() and known.queries and len(hidden.boxes) > 0 and not hidden.queries
    assert (hidden.classes == -1).all() and (hidden.colors == -1).all() and not any(hidden.names())
    seen = [batch.scene_ids for batch in training_loader(samples, 0, 6)]
    names = [[scenes.scene_ids.index(name) for name in step] for step in seen]
    assert {step[0] for step in names} == {0, 3} and {i for step in names for i in step[1:]} == {1, 2, 4}
    assert [batch.scene_ids for batch in training_loader(samples, 4, 6)] == seen[4:]
    alone = training_loader(TrainingSamples(scenes, replace(config, bare_scenes=0)), 0, 3)
    assert {name for batch in alone for name in batch.scene_ids} == {scenes.scene_ids[0], scenes.scene_ids[3]}


def test_absent_sentences_are_those_of_scenes_with_labels(
    scenes: PreparedScenes, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = set()
    own = PreparedScenes.queries
    monkeypatch.setattr(PreparedScenes, "queries", lambda self, index: asked.add(index) or own(self, index))
    samples = TrainingSamples(scenes, DataConfig(labelled_share=0.4, absent_probability=1, points_per_scene=50))
    for epoch in range(20):
        samples[epoch, 0]
    assert asked == {0, 3}


@pytest.mark.parametrize("cut", [0.0, 0.5])
@pytest.mark.parametrize("share, expected", [(1.0, 10), (0.5, 5), (0.1, 1), (0.001, 1)])
def test_a_share_of_the_sentences_is_always_the_same(
    scenes: PreparedScenes, share: float, expected: int, cut: float
) -> None:
    augment = AugmentConfig(cut=cut)
    config = DataConfig(sentence_share=share, mirror_probability=0, detection_probability=0, augment=augment)
    seen = {
        query.text
        for seed in (0, 1)
        for epoch in range(6)
        for query in TrainingSamples(scenes, config, seed)[epoch, 0].queries
    }
    assert len(seen) == expected and len({query.text for query in scenes[0].queries}) == 10


def test_sentences_of_a_relation_are_chosen_by_its_weight(scenes: PreparedScenes) -> None:
    relations = [query.meta["relation"] for query in scenes[0].queries]
    rare = min(set(relations), key=relations.count)

    def share(weight: float) -> float:
        config = DataConfig(
            relation_weights={rare: weight}, sentences_per_scene=1, mirror_probability=0, detection_probability=0
        )
        samples = TrainingSamples(scenes, config)
        return float(np.mean([samples[epoch, 0].queries[0].meta["relation"] == rare for epoch in range(200)]))

    own, others = relations.count(rare), len(relations) - relations.count(rare)
    for weight in (0, 1, 10):
        assert abs(share(weight) - weight * own / (weight * own + others)) < 0.1
    with pytest.raises(ValueError, match="no relation is called"):
        TrainingSamples(scenes, DataConfig(relation_weights={"ordnal": 2}))
    with pytest.raises(ValueError, match="0 or more"):
        TrainingSamples(scenes, DataConfig(relation_weights={"ordinal": float("nan")}))


def test_cut_scenes_are_smaller_and_keep_sentences(scenes: PreparedScenes) -> None:
    plain, cut = (DataConfig(augment=AugmentConfig(cut=share, cut_height=0.3)) for share in (0.0, 1.0))
    for place in range(3):
        sample, before = TrainingSamples(scenes, cut)[0, place], TrainingSamples(scenes, plain)[0, place]
        assert len(sample.xyz) <= len(before.xyz) and sample.queries
        assert sample.boxes[:, 5].sum() < before.boxes[:, 5].sum()


def test_each_epoch_visits_each_scene_once_and_resumes_anywhere() -> None:
    whole = list(StepSampler(range(7), 3, seed=5, start=0, stop=14))
    flat = [pair for batch in whole for pair in batch]
    assert [epoch for epoch, _ in flat] == [i // 7 for i in range(42)]
    orders = [tuple(scene for epoch, scene in flat if epoch == e) for e in range(6)]
    assert all(sorted(order) == list(range(7)) for order in orders) and len(set(orders)) > 1
    assert list(StepSampler(range(7), 3, seed=5, start=5, stop=14)) == whole[5:]


def test_processes_share_out_the_same_order() -> None:
    alone = [pair for batch in StepSampler(range(7), 4, seed=5, start=0, stop=6) for pair in batch]
    ranks = [list(StepSampler(range(7), 2, seed=5, start=0, stop=6, rank=r, world=2)) for r in range(2)]
    shared = [pair for step in range(6) for rank in range(2) for pair in ranks[rank][step]]
    assert shared == alone


@pytest.mark.parametrize("workers", [0, 1])
def test_the_loader_continues_where_it_is_told(scenes: PreparedScenes, workers: int) -> None:
    config = DataConfig(sentences_per_scene=2, points_per_scene=100, workers=workers)
    samples = TrainingSamples(scenes, config, seed=3)
    whole = list(training_loader(samples, 0, 5))
    rest = list(training_loader(samples, 3, 5))
    assert len(whole) == 5 and all(equal(a, b) for a, b in zip(whole[3:], rest, strict=True))


def test_bare_scenes_come_without_sentences(scenes: PreparedScenes) -> None:
    config = DataConfig(scenes_per_step=1, bare_scenes=2, sentences_per_scene=2, points_per_scene=100, workers=0)
    for batch in training_loader(TrainingSamples(scenes, config), 0, 3):
        assert batch.num_scenes == 3 and set(batch.text_scene.tolist()) == {0}
        assert all(len(boxes) for boxes in batch.boxes)
