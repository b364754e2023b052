"""Each method on toy scenes: its minimum, that it teaches, whom its gradients reach, its controls, its errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tsp3d.data import GroundingBatch, PreparedScenes
from tsp3d.distill.base import Method
from tsp3d.distill.born_again import BornAgain
from tsp3d.distill.head import HeadTeacher
from tsp3d.distill.large_to_tiny import LargeToTiny, feature_loss
from tsp3d.distill.methods import METHODS, build_method, load_distill_config
from tsp3d.models.config import ModelConfig, model_config
from tsp3d.models.net import GroundingNet

SUPERVISED = sorted(set(METHODS) - {"coarse-to-fine", "lar", "pseudo-labels"})  # which have tests of their own
HEAD = ("queries=16", "dim=16", "heads=2", "layers=1", "feedforward=16")


def small_config(dim: int = 16, voxel_size: float = 0.05) -> ModelConfig:
    return model_config({
        "name": "test", "voxel_size": voxel_size, "voxel_reduce": "mean",
        "backbone": {"stem_channels": 8, "stem_pool": False, "channels": [8, 16, 16, 24], "blocks": [1, 1, 1, 1]},
        "text": {"kind": "small", "name": "text-small"},
        "fusion": {"dim": dim, "heads": 2, "layers": 1, "feedforward": 16, "dropout": 0.0},
        "pruning": {"train_enter": [[100, 200], [400, 400]], "train_keep": [32, 0], "thresholds": [0.0, 0.0],
                    "keep_min": [4, 4], "keep_max": [32, 0], "enter_max": [150, 400],
                    "upsample": ["generative", "occupied"]},
        "completion": {"candidates": 64},
        "head": {"positives": 8, "quality": True},
        "loss": {"rank": 0.25},
    })  # fmt: skip


def build(seed: int = 0, **changes) -> GroundingNet:
    torch.manual_seed(seed)
    return GroundingNet(small_config(**changes))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a network whose scores tell voxels apart."""
    return save(build(seed=1), tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a wider network with smaller voxels."""
    return save(build(seed=2, dim=24, voxel_size=0.04), tmp_path_factory.mktemp("large"))


def save(net: GroundingNet, folder: Path) -> Path:
    torch.nn.init.normal_(net.head.cls_conv.kernel, std=1.0)
    net.eval().save_pretrained(folder)
    return folder


def method(name: str, student: GroundingNet, *overrides: str) -> Method:
    """A method of the shipped configuration, small where it adds modules."""
    assert name in METHODS
    return build_method(load_distill_config(name, [*(HEAD if name == "head" else ()), *overrides]), student)


def options(name: str, teacher: Path) -> tuple[str, ...]:
    return () if name == "head" else (f"teacher={teacher}",)


def taught_by(student: GroundingNet, taught: Method, batch: GroundingBatch) -> dict[str, Tensor]:
    torch.manual_seed(0)
    losses = taught(student, batch)
    assert all(bool(torch.isfinite(value)) for value in losses.values()), losses
    total = torch.stack([value for key, value in losses.items() if key != "total"]).sum()
    assert torch.allclose(losses["total"], total)
    return {key.removeprefix("distill_"): value for key, value in losses.items() if key.startswith("distill_")}


@pytest.mark.parametrize("name", ["born-again", "large-to-tiny"])
def test_a_student_that_equals_its_teacher_has_nothing_to_learn(
    name: str, teacher: Path, batch: GroundingBatch
) -> None:
    student = GroundingNet.from_pretrained(teacher)  # in evaluation mode, so that both prune alike
    losses = taught_by(student, method(name, student, f"teacher={teacher}"), batch)
    assert set(losses) == {"score", "box"} | ({"features"} if name == "large-to-tiny" else set())
    assert all(value.item() == pytest.approx(0, abs=2e-6) for value in losses.values()), losses
    with torch.no_grad():
        student.head.cls_conv.kernel.add_(torch.randn_like(student.head.cls_conv.kernel))
        student.head.bbox_conv.kernel.add_(0.1 * torch.randn_like(student.head.bbox_conv.kernel))
        student.vision_backbone.conv1.kernel.add_(torch.randn_like(student.vision_backbone.conv1.kernel))
    losses = taught_by(student, method(name, student, f"teacher={teacher}"), batch)
    assert all(value.item() > 1e-4 for value in losses.values()), losses


def test_a_student_that_equals_its_average_has_nothing_to_learn(data: Path, batch: GroundingBatch) -> None:
    student = build().eval()
    taught = method("born-again", student, "teacher=ema")
    with torch.no_grad():
        student.head.cls_conv.kernel.mul_(50)  # as init_from does after the method was built
    taught.prepare(student, PreparedScenes(data))
    losses = taught_by(student, taught, batch)
    assert all(value.item() == pytest.approx(0, abs=2e-6) for value in losses.values()), losses


def test_a_head_that_equals_the_decoder_has_nothing_to_learn(batch: GroundingBatch) -> None:
    student = build().train()
    taught = method("head", student)
    assert isinstance(taught, HeadTeacher)
    outputs = student.forward_training(batch)
    own, rows, said = taught.teach(batch, outputs)
    assert torch.bincount(said.query).tolist() == [16] * 6 and float(said.trust.max()) > 0
    equal = replace(outputs, head=replace(own, boxes=said.boxes, logits=said.logits))
    losses = taught.losses(batch, equal, (own, rows, said))
    assert losses["score"].item() == pytest.approx(0, abs=1e-6) and losses["box"].item() == pytest.approx(0, abs=1e-6)
    losses = taught.losses(batch, outputs, (own, rows, said))
    assert losses["score"].item() > 1e-3 and losses["box"].item() > 1e-4


@pytest.mark.parametrize("name", ["born-again", "large-to-tiny", "head"])
def test_its_losses_fall(name: str, teacher: Path, large: Path, batch: GroundingBatch) -> None:
    student = build().train()
    taught = method(name, student, *options(name, large if name == "large-to-tiny" else teacher)).train()
    optimizer = torch.optim.AdamW([*student.parameters(), *taught.parameters()], lr=3e-3)
    history = []
    for _ in range(12):
        optimizer.zero_grad()
        total = torch.stack(list(taught_by(student, taught, batch).values())).sum()
        total.backward()
        optimizer.step()
        history.append(total.item())
    assert min(history[-3:]) < 0.8 * history[0], history


@pytest.mark.parametrize("name", ["born-again", "large-to-tiny"])
def test_no_gradient_reaches_a_frozen_teacher(name: str, teacher: Path, batch: GroundingBatch) -> None:
    student = build().train()
    taught = method(name, student, f"teacher={teacher}").train()
    assert isinstance(taught, BornAgain)
    net = taught.teacher.net
    before = {key: value.clone() for key, value in net.state_dict().items()}
    torch.stack(list(taught_by(student, taught, batch).values())).sum().backward()
    assert not net.training and all(p.grad is None and not p.requires_grad for p in net.parameters())
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())  # statistics too
    assert not set(map(id, net.parameters())) & set(map(id, taught.parameters()))
    assert any(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in student.vision_backbone.parameters())


def test_no_gradient_reaches_the_average_but_the_student_does(data: Path, batch: GroundingBatch) -> None:
    student = build().train()
    taught = method("born-again", student, "teacher=ema").train()
    assert isinstance(taught, BornAgain)
    taught.prepare(student, PreparedScenes(data))
    taught_by(student, taught, batch)["score"].backward()
    assert not taught.teacher.net.training
    assert all(p.grad is None and not p.requires_grad for p in taught.parameters())
    before = taught.teacher.net.head.cls_conv.kernel.clone()
    with torch.no_grad():
        student.head.cls_conv.kernel.add_(1)
    taught.after_step(student)
    expected = before + (1 - 2 / 11)
    assert torch.allclose(taught.teacher.net.head.cls_conv.kernel, expected)


def test_the_decoder_does_not_learn_from_what_it_teaches(batch: GroundingBatch) -> None:
    student = build().train()
    taught = method("head", student).train()
    losses = taught_by(student, taught, batch)
    (losses["score"] + losses["box"]).backward(retain_graph=True)
    assert all(p.grad is None for p in taught.parameters())
    assert student.head.cls_conv.kernel.grad is not None and float(student.head.cls_conv.kernel.grad.abs().sum()) > 0
    torch.stack([value for key, value in losses.items() if key.startswith("decoder_")]).sum().backward()
    assert all(p.grad is not None for p in taught.parameters())


@pytest.mark.parametrize("detach", [False, True])
def test_the_decoder_trains_the_backbone_unless_it_is_detached(detach: bool, batch: GroundingBatch) -> None:
    student = build().train()
    taught = method("head", student, f"detach={detach}").train()
    losses = taught_by(student, taught, batch)
    torch.stack([value for key, value in losses.items() if key.startswith("decoder_")]).sum().backward()
    assert (student.vision_backbone.conv1.kernel.grad is None) == detach


@pytest.mark.parametrize("name", SUPERVISED)
def test_controls_change_what_is_taught_and_nothing_else(name: str, teacher: Path, batch: GroundingBatch) -> None:
    found = {}
    for control in ("none", "random", "shuffled"):
        student = build().train()
        taught = method(name, student, *options(name, teacher), f"control={control}").train()
        torch.manual_seed(0)
        found[control] = {key: value.item() for key, value in taught(student, batch).items()}
    student = build().train()
    torch.manual_seed(0)
    alone = {key: value.item() for key, value in student.losses(batch).items() if key != "total"}
    for losses in found.values():
        assert {key: losses[key] for key in alone} == alone
    assert found["none"]["distill_score"] != found["shuffled"]["distill_score"]
    if name == "head":  # which begins at random
        assert not any("decoder" in key for key in found["random"])
    else:
        assert found["none"]["distill_score"] != found["random"]["distill_score"]
    one = replace(batch, text_scene=torch.zeros_like(batch.text_scene))
    with pytest.raises(ValueError, match="scenes_per_step=2"):
        method(name, build(), *options(name, teacher), "control=shuffled")(build(), one)


def test_a_random_teacher_has_nothing_of_the_weights_but_their_shapes(teacher: Path) -> None:
    known = GroundingNet.from_pretrained(teacher)
    taught = method("born-again", build(), f"teacher={teacher}", "control=random")
    assert isinstance(taught, BornAgain)
    state = taught.teacher.net.state_dict()
    assert {key: value.shape for key, value in state.items()} == {k: v.shape for k, v in known.state_dict().items()}
    for key, value in known.state_dict().items():
        if value.ndim > 1 and len(value.unique()) > 1:
            assert not torch.equal(state[key], value), key
    random = method("head", build(), "control=random")
    assert not any(p.requires_grad for p in random.parameters())


def test_features_are_matched_by_position(batch: GroundingBatch, teacher: Path, large: Path) -> None:
    """Between grids of other sizes each student's voxel meets the teacher's that its centre lies in."""
    fine, coarse = GroundingNet.from_pretrained(large), GroundingNet.from_pretrained(teacher)
    with torch.no_grad():
        own, theirs = (net.forward_training(batch, supervised=False).levels[0] for net in (coarse, fine))
    place = [x.replace((x.coords[:, 1:] + x.stride / 2) * size) for x, size in ((own, 0.05), (theirs, 0.04))]
    centers = place[0].feats
    loss = feature_loss(centers, place[0], place[1], 0.05, 0.04)
    expected = []
    for scene, center in zip(own.coords[:, 0], centers, strict=True):
        near = (place[1].feats - center).abs().amax(1) <= 0.04 * theirs.stride / 2
        near &= theirs.coords[:, 0] == scene
        if bool(near.any()):
            expected.append(1 - torch.cosine_similarity(place[1].feats[near][0], center, dim=0))
    assert 0 < len(expected) < len(centers)
    assert torch.allclose(loss, torch.stack(expected).mean(), atol=1e-5)
    assert isinstance(method("large-to-tiny", coarse, f"teacher={large}"), LargeToTiny)


def test_errors_name_what_is_wrong(teacher: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there are born-again, .*head, .*large-to-tiny"):
        load_distill_config("better")
    for overrides, expected in (
        (["method=best"], "must be one of born-again"), (["control=odd"], "none, random, shuffled"),
        (["weigth=1"], "weigth"), (["weight=high"], "high"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=expected):
            load_distill_config("born-again", overrides)
    with pytest.raises(ValueError, match="distill.teacher is empty"):
        method("large-to-tiny", build())
    with pytest.raises(ValueError, match="no such model"):
        method("born-again", build(), "teacher=nobody")
    with pytest.raises(ValueError, match="--distill born-again"):
        method("large-to-tiny", build(), "teacher=ema")
