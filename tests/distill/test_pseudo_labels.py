"""Sentences without labels: what the loader hands out, whom the teacher chooses, what the student learns of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tsp3d.data import DataConfig, GroundingBatch, PreparedScenes, TrainingSamples, collate
from tsp3d.distill.methods import build_method, load_distill_config
from tsp3d.distill.pseudo_labels import MARGIN, PseudoLabels, object_mass
from tsp3d.models.net import GroundingNet
from tsp3d.synth.types import CLASSES

FEW = DataConfig(sentences_per_scene=2, sentence_share=0.1, unlabelled_sentences=3, detection_probability=0)


@pytest.fixture(scope="module")
def few(data: Path) -> GroundingBatch:
    """Two scenes, each with one sentence that has a label and three that have none."""
    samples = TrainingSamples(PreparedScenes(data), replace(FEW, mirror_probability=0))
    return collate([samples[0, 0], samples[0, 1]])


@pytest.fixture(scope="module")
def truth(data: Path) -> dict[tuple[str, str], int]:
    """The object that each sentence means, by scene and text."""
    scenes = PreparedScenes(data)
    samples = [scenes[index] for index in range(len(scenes))]
    return {(sample.scene_id, query.text): query.targets[0] for sample in samples for query in sample.queries}


def build(detector: Path) -> GroundingNet:
    torch.manual_seed(0)
    return GroundingNet.from_pretrained(detector / "export").train()


def method(net: GroundingNet, *overrides: str) -> PseudoLabels:
    made = build_method(load_distill_config("pseudo-labels", list(overrides)), net)
    assert isinstance(made, PseudoLabels)
    return made


def says(taught: PseudoLabels, places: dict[str, torch.Tensor]) -> None:
    """Makes the teacher see a sentence's object at the centres (K, 3), equally likely."""

    def ask(batch: GroundingBatch) -> SimpleNamespace:
        rows = [places[text] for text in batch.texts]
        query = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor([len(r) for r in rows]))
        head = SimpleNamespace(positions=torch.cat(rows), query=query, logits=torch.zeros(len(query)))
        return SimpleNamespace(head=head)

    taught.ask = ask  # type: ignore[method-assign, assignment]


def unlabelled(batch: GroundingBatch) -> list[int]:
    return [q for q, meta in enumerate(batch.meta) if meta["kind"] == "unlabelled"]


def test_the_mass_of_a_box_is_that_of_the_voxels_in_it() -> None:
    boxes = torch.tensor([[0.0, 0, 0, 1, 1, 1], [5, 0, 0, 1, 1, 1], [0, 0, 0, 4, 4, 4]])
    edge = 0.5 + MARGIN
    positions = torch.tensor([[0.0, 0, 0], [edge - 1e-3, 0, 0], [edge + 1e-3, 0, 0], [9, 9, 9]])
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log()
    assert torch.allclose(object_mass(positions, logits, boxes), torch.tensor([0.3, 0, 0.6]))
    assert object_mass(positions[:0], logits[:0], boxes).tolist() == [0, 0, 0]


def test_the_loader_hands_out_what_it_may_not_learn_from_without_labels(data: Path) -> None:
    scenes = PreparedScenes(data)
    known, others = set(), set()
    for epoch in range(8):
        for query in TrainingSamples(scenes, replace(FEW, mirror_probability=0))[epoch, 0].queries:
            (others if query.meta["kind"] == "unlabelled" else known).add(query.text)
            assert (query.targets == () and query.anchors == ()) == (query.meta["kind"] == "unlabelled")
    everything = {query.text for query in scenes[0].queries}
    assert len(known) == 1 and not known & others and known | others == everything
    whole = TrainingSamples(scenes, replace(FEW, sentence_share=1.0))[0, 0].queries
    assert all(query.meta["kind"] != "unlabelled" for query in whole)


def test_mirrored_scenes_have_no_sentence_that_a_mirror_makes_false(data: Path) -> None:
    scenes = PreparedScenes(data)
    marked = [replace(query, view_dependent=index % 2 == 1) for index, query in enumerate(scenes[0].queries)]
    samples = TrainingSamples(scenes, replace(FEW, mirror_probability=1, unlabelled_sentences=100))
    sample = scenes[0].replace(queries=tuple(marked))
    chosen = samples._choose(sample, {id(marked[0])}, True, np.random.default_rng(0))
    assert len(chosen) > 2 and not any(query.view_dependent for query in chosen)


def test_a_teacher_that_knows_gives_the_true_labels(detector: Path, few: GroundingBatch, truth) -> None:
    net = build(detector)
    taught = method(net)
    scene = few.text_scene.tolist()
    meant = [truth[few.scene_ids[s], text] for s, text in zip(scene, few.texts, strict=True)]
    says(taught, {t: few.boxes[s][m : m + 1, :3] for t, s, m in zip(few.texts, scene, meant, strict=True)})
    before = [target.tolist() for target in few.targets]
    labelled = taught.label(few)
    assert [target.tolist() for target in labelled.targets] == [[m] for m in meant]
    assert labelled.texts == few.texts and {meta["kind"] for meta in labelled.meta} == {"sentence"}
    assert [target.tolist() for target in few.targets] == before and len(unlabelled(few)) == 6
    losses = []
    for forward, batch in ((taught.train(), few), (lambda net, batch: net.losses(batch), labelled)):
        torch.manual_seed(3)
        losses.append({name: value.item() for name, value in forward(net.train(), batch).items()})
    assert losses[0] == losses[1]  # the student learns as if they had been labels all along


def test_it_is_left_out_what_the_teacher_is_not_sure_of(detector: Path, few: GroundingBatch) -> None:
    taught = method(build(detector), "by_class=false", "min_share=0.6")
    boxes, rows = few.boxes, unlabelled(few)
    places = {few.texts[q]: boxes[few.text_scene[q]][:1, :3] for q in rows}  # sure: the first object…
    places[few.texts[rows[1]]] = boxes[few.text_scene[rows[1]]][:2, :3]  # …one of two…
    places[few.texts[rows[2]]] = torch.full((1, 3), 50.0)  # …nowhere at all
    says(taught, places)
    labelled = taught.label(few)
    assert len(labelled.texts) == len(few.texts) - 2
    assert few.texts[rows[1]] not in labelled.texts and few.texts[rows[2]] not in labelled.texts
    assert all(labelled.targets[labelled.texts.index(few.texts[q])].tolist() == [0] for q in rows if q not in rows[1:3])
    assert labelled.text_scene.tolist() == sorted(labelled.text_scene.tolist())
    only = few.with_sentences(rows[1:3])
    with pytest.raises(ValueError, match="sentences_per_scene=1"):
        taught.label(only)


def test_the_class_that_is_asked_for_decides_before_the_teacher(detector: Path, few: GroundingBatch, truth) -> None:
    q = unlabelled(few)[0]
    scene = int(few.text_scene[q])
    meant = truth[few.scene_ids[scene], few.texts[q]]
    other = next(k for k in range(len(few.boxes[scene])) if few.classes[scene][k] != few.classes[scene][meant])
    assert CLASSES[few.classes[scene][meant]] in few.texts[q]
    places = few.boxes[scene][[other, other, meant], :3]
    for by_class, expected in ((True, meant), (False, other)):
        taught = method(build(detector), f"by_class={by_class}", "min_share=0.6")
        says(taught, {few.texts[q]: places})
        assert taught.choose(few.with_sentences([q])) == [expected]


def test_the_shuffled_control_has_the_choices_of_the_other_scene(detector: Path, few: GroundingBatch) -> None:
    rows = unlabelled(few)
    first = {few.texts[q]: few.boxes[0][1:2, :3] for q in rows if few.text_scene[q] == 0}
    second = {few.texts[q]: few.boxes[1][2:3, :3] for q in rows if few.text_scene[q] == 1}
    chosen = {}
    for control in ("none", "shuffled"):
        taught = method(build(detector), "by_class=false", f"control={control}")
        says(taught, first | second)
        chosen[control] = taught.choose(few.with_sentences(rows))
    assert chosen == {"none": [1, 1, 1, 2, 2, 2], "shuffled": [2, 2, 2, 1, 1, 1]}
    alone = few.with_sentences([q for q in rows if few.text_scene[q] == 0])
    assert taught.choose(alone) == [-1, -1, -1]  # nobody to take them from


def test_the_shuffled_control_passes_over_scenes_without_sentences(
    detector: Path, few: GroundingBatch, data: Path
) -> None:
    samples = TrainingSamples(PreparedScenes(data), replace(FEW, mirror_probability=0))
    bare = samples[0, 2].replace(queries=())
    batch = collate([samples[0, 0], bare, samples[0, 1], bare])
    assert batch.texts == few.texts
    taught = method(build(detector), "by_class=false", "control=shuffled")
    says(taught, {t: few.boxes[s][1 + s : 2 + s, :3] for t, s in zip(few.texts, few.text_scene.tolist(), strict=True)})
    labelled = taught.label(batch)
    chosen = [labelled.targets[labelled.texts.index(few.texts[q])].tolist() for q in unlabelled(few)]
    assert chosen == [[2], [2], [2], [1], [1], [1]]
    with pytest.raises(ValueError, match="scenes_per_step=2"):
        taught.label(collate([samples[0, 0], bare]))


def test_voxels_of_a_teacher_that_goes_by_their_corners_are_where_their_centres_are(
    detector: Path, few: GroundingBatch
) -> None:
    taught = method(build(detector), "by_class=false")
    taught.teacher_grid = replace(taught.teacher_grid, shift=0.9)  # of weights of the TSP3D release: half a voxel
    says(taught, {t: few.boxes[s][1:2, :3] - 0.9 for t, s in zip(few.texts, few.text_scene.tolist(), strict=True)})
    assert taught.choose(few.with_sentences(unlabelled(few))) == [1] * 6


def test_the_average_teaches_and_its_divergence_can_be_added(detector: Path, few: GroundingBatch, data: Path) -> None:
    net = build(detector)
    taught = method(net, "min_share=0.0", "weight=1.0")
    taught.prepare(net, PreparedScenes(data))
    losses = taught(net, few)
    assert all(bool(torch.isfinite(value)) for value in losses.values()) and losses["distill_score"].item() > 0
    losses["total"].backward()
    assert all(p.grad is None for p in taught.parameters())  # they are the average's
    assert any(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in net.vision_backbone.parameters())
