"""Proposals: voting by hand, what they may know, whose weights may make them, what they are worth."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tsp3d import sparse
from tsp3d.data import GroundingBatch, PreparedScenes
from tsp3d.distill.methods import load_distill_config
from tsp3d.distill.proposal_eval import chance_accuracy, evaluate_proposals
from tsp3d.distill.proposals import feature_dim, load_proposer, propose

CUBE = [0.0, 0.0, 0.5, 1.0, 1.0, 1.0]


def scene_of(voices: list[list[tuple[list[float], float, float]]]) -> tuple[Any, GroundingBatch]:
    """A proposer that says of each scene's voxels a box, a class logit and a probability; and a batch of its scenes."""
    places = [[s, i, 0, 0] for s, scene in enumerate(voices) for i in range(len(scene))]
    coords = torch.tensor(places, dtype=torch.int32)
    told = [voice for scene in voices for voice in scene]
    feats = torch.arange(len(told), dtype=torch.float32)[:, None]
    whole = (coords[:, 1] % 2 == 0).nonzero()[:, 0]
    levels = [
        sparse.SparseTensor(feats[rows], coords[rows], stride=step, batch_size=len(voices))
        for step, rows in ((1, slice(None)), (2, whole))
    ]
    said = [torch.tensor([voice[i] for voice in told]) for i in range(3)]
    net = SimpleNamespace(detections=lambda batch: (levels, said[0], said[1][:, None], said[2]))
    none = torch.zeros(0, dtype=torch.int64)
    corners = torch.tensor([[-2.0, -2.0, 0.0], [4.0, 2.0, 2.0]]).repeat(len(voices), 1)
    return net, GroundingBatch(
        xyz=corners, rgb=corners, batch=torch.arange(len(voices)).repeat_interleave(2), instance=none, texts=[],
        text_scene=none, boxes=[torch.zeros(0, 6)] * len(voices), classes=[], colors=[], targets=[], anchors=[],
        meta=[], scene_ids=[],
    )  # fmt: skip


def test_voxels_vote_by_hand() -> None:
    """Two voxels agree on a box 1.0 and 1.2 wide; one sees another object, one none; a second scene has one voxel."""
    wider, far, wall = [0.0, 0.0, 0.5, 1.2, 1.0, 1.0], [3.0, 0.0, 0.5, 1.0, 1.0, 1.0], [-1.5, 0.0, 1.0, 0.2, 2.0, 2.0]
    first = [(CUBE, 1.0, 0.9), (wider, 2.0, 0.6), (far, 5.0, 0.8), (wall, 7.0, 0.01)]
    net, batch = scene_of([first, [(far, 3.0, 0.2)]])
    found = propose(net, batch, count=8, nms_iou=0.25, objectness=0.5, at_least=1)
    assert found.mask.tolist() == [[True, True], [True, False]]
    assert found.boxes[0, 0, 3].item() == pytest.approx((0.9 * 1.0 + 0.6 * 1.2) / 1.5)
    assert found.boxes[0, 1].tolist() == far and found.boxes[1, 0].tolist() == far
    assert found.logits[0, :, 0].tolist() == pytest.approx([(0.9 * 1 + 0.6 * 2) / 1.5, 5.0])
    assert found.objectness[0].tolist() == pytest.approx([(0.9 * 0.9 + 0.6 * 0.6) / 1.5, 0.8])
    # Level 0 by votes, level 1 by the voxel that the voter lies in, then place from the middle of the scene and size.
    assert found.features[0, 1].tolist() == pytest.approx([2, 2, 3 - 1, 0, 0.5, 0, 0, 0])
    assert found.features[0, 0, :2].tolist() == pytest.approx([0.6 / 1.5, 0.0])
    few = propose(net, batch, count=1, nms_iou=0.25, objectness=0.5, at_least=0)
    assert few.boxes.shape == (2, 1, 6) and few.mask.tolist() == [[True], [False]]


def test_nms_drops_what_overlaps_a_better_one() -> None:
    shifted = [0.5, 0.0, 0.5, 1.0, 1.0, 1.0]  # IoU 1/3: another vote, but the same object to the suppression
    net, batch = scene_of([[(CUBE, 0.0, 0.9), (shifted, 0.0, 0.8)]])
    boxes = [propose(net, batch, 8, iou, 0.0, 1).boxes[0] for iou in (0.25, 0.4)]
    assert [len(rows) for rows in boxes] == [1, 2] and boxes[0][0].tolist() == CUBE


def test_a_detector_proposes_from_points_alone(detector: Path, batch: GroundingBatch) -> None:
    net = load_proposer(detector)
    assert not net.training and not any(p.requires_grad for p in net.parameters())
    found = propose(net, batch, 16, 0.25, 0.5, 4)
    assert found.features.shape == (*found.mask.shape, feature_dim(net)) and not found.features.requires_grad
    assert found.mask.sum(1).min() >= 4 and len(found.mask) == batch.num_scenes
    nothing = [torch.zeros(0, 6)] * 2
    again = propose(net, replace(batch, boxes=nothing, classes=[], instance=-batch.instance), 16, 0.25, 0.5, 4)
    assert all(torch.equal(value, getattr(again, name)) for name, value in vars(found).items())


def test_only_a_run_on_detection_may_propose(detector: Path, tmp_path: Path) -> None:
    for folder in ("", tmp_path / "nowhere", detector / "export"):
        with pytest.raises(ValueError, match="tiny-detection.yaml"):
            load_proposer(folder)
    other = shutil.copytree(detector, tmp_path / "grounding")
    (other / "config.yaml").write_text("stage: grounding\n")
    with pytest.raises(ValueError, match="needs a run of stage=detection"):
        load_proposer(other)


def test_chance_by_hand() -> None:
    found = chance_accuracy([[0.6, 0.3, 0.1, 0.0], [0.2, 0.25], [], [0.9]])
    assert found == pytest.approx({
        "sentences": 4, "chance@0.25": 100 * (2 / 4 + 0 + 0 + 1) / 4, "best@0.25": 50,
        "chance@0.5": 100 * (1 / 4 + 0 + 0 + 1) / 4, "best@0.5": 50,
    })  # fmt: skip
    assert chance_accuracy([])["best@0.5"] == 0


def test_what_the_proposals_of_a_dataset_are_worth(detector: Path, data: Path) -> None:
    config: Any = load_distill_config("coarse-to-fine", ["objectness=0", "nms_iou=0.5"])
    scenes = PreparedScenes(data)
    found = evaluate_proposals(load_proposer(detector), scenes, config, limit=3)
    everything = sum(len(scenes.queries(index)) for index in (0, 2, 3))
    assert evaluate_proposals(load_proposer(detector), scenes, config, 3, queries=0)["sentences"] == everything
    assert found["sentences"] == 3 * 8 and 8 <= found["proposals"] <= 64
    for threshold in ("0.25", "0.5"):
        assert 0 <= found[f"chance@{threshold}"] <= found[f"best@{threshold}"] <= 100
    assert found["best@0.25"] > found["chance@0.25"] > 0
