"""Coarse to fine: rewards by hand, that no box of a sentence or an object enters, switches, controls, learning."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tsp3d.data import DataConfig, GroundingBatch, PreparedScenes, TrainingSamples, collate
from tsp3d.distill.coarse_to_fine import Candidates, CoarseToFine, blind, box_loss, reward_loss
from tsp3d.distill.methods import build_method, load_distill_config
from tsp3d.distill.proposals import Proposals
from tsp3d.models.head import VoxelBoxes
from tsp3d.models.net import GroundingNet
from tsp3d.synth.types import CLASSES
from tsp3d.training.checkpoint import load_weights

SMALL = ("dim=16", "heads=2", "layers=1", "feedforward=16", "words=64")
STUDENT = {"score", "box", "keep1", "keep2", "completion"}


def build(detector: Path) -> GroundingNet:
    """A student of the detector's architecture that starts from its weights."""
    torch.manual_seed(0)
    net = GroundingNet.from_pretrained(detector / "export")
    load_weights(net, detector / "export", skip=["head."])
    return net.train()


def method(net: GroundingNet, detector: Path, data: Path, *overrides: str) -> CoarseToFine:
    torch.manual_seed(1)
    made = build_method(load_distill_config("coarse-to-fine", [f"proposer={detector}", *SMALL, *overrides]), net)
    assert isinstance(made, CoarseToFine)
    made.prepare(net, PreparedScenes(data))
    return made


def losses_of(made: CoarseToFine, net: GroundingNet, batch: GroundingBatch) -> dict[str, Tensor]:
    torch.manual_seed(2)
    found = made(net, batch)
    assert all(bool(torch.isfinite(value)) for value in found.values()), found
    total = torch.stack([value for name, value in found.items() if name != "total"]).sum()
    assert torch.equal(found.pop("total"), total) and all(name.startswith("distill_") for name in found)
    return {name.removeprefix("distill_"): value for name, value in found.items()}


def voxels() -> tuple[VoxelBoxes, Tensor]:
    """One sentence with four voxels on a line, and two candidates: around the first two, and around the third."""
    positions = torch.tensor([[0.0, 0, 0], [1, 0, 0], [4, 0, 0], [9, 0, 0]])
    boxes = torch.cat([positions, torch.full((4, 3), 0.5)], 1)
    boxes[3] = torch.tensor([4.0, 0, 0, 1, 1, 1])  # lies elsewhere, but its box is the second candidate's
    logits = torch.tensor([1.0, 2.0, 3.0, 4.0]).log().requires_grad_()  # shares 0.1 to 0.4
    candidates = torch.tensor([[[0.4, 0, 0, 2, 1, 1], [4, 0, 0, 1, 1, 1], [0, 9, 0, 1, 1, 1]]])
    return VoxelBoxes(positions, torch.zeros(4, dtype=torch.int64), boxes.requires_grad_(), logits), candidates


def test_the_reward_of_ranks_by_hand() -> None:
    out, candidates = voxels()
    reward = torch.tensor([1.0, 0.5, 0.25])
    valid = torch.ones(1, 3, dtype=torch.bool)
    loss = reward_loss(out, candidates, valid, reward)  # the third candidate has no voxel
    assert loss.item() == pytest.approx(-(1.0 * math.log(0.3) + 0.5 * math.log(0.7)) / 3)
    loss.backward()
    assert out.logits.grad is not None and out.boxes.grad is None
    # Against the softmax: d/dl of -log(sum of some shares) is p - p / sum for these, and p for the others.
    expected = [1.5 * 0.1 - 0.1 / 0.3, 1.5 * 0.2 - 0.2 / 0.3, 1.5 * 0.3 - 0.5 * 0.3 / 0.7, 1.5 * 0.4 - 0.5 * 0.4 / 0.7]
    assert out.logits.grad.tolist() == pytest.approx([value / 3 for value in expected], abs=1e-6)
    valid[0, 0] = False
    assert reward_loss(out, candidates, valid, reward).item() == pytest.approx(-0.5 * math.log(0.7) / 3)
    assert reward_loss(out, candidates, torch.zeros_like(valid), reward).item() == 0


def test_the_better_rank_has_the_greater_reward(detector: Path, data: Path) -> None:
    made = method(build(detector), detector, data)
    assert made.reward.tolist() == pytest.approx([v**2 for v in reversed(torch.linspace(0.1, 1, 8).tolist())])
    assert "reward" not in made.state_dict()


def test_boxes_by_hand() -> None:
    out, candidates = voxels()
    confidence = torch.tensor([[0.8, 0.2, 1.0]])
    valid = torch.tensor([[True, True, False]])
    loss = box_loss(out, candidates, valid, confidence, positives=1, margin=0.0)
    apart = 1 - 0.125 / 2 + 0.16 / 6, 1 - 0.125
    assert loss.item() == pytest.approx((0.8 * apart[0] + 0.2 * apart[1]) / (0.8 + 0.2))
    loss.backward()
    assert out.boxes.grad is not None
    assert out.boxes.grad.abs().sum(1).bool().tolist() == [True, False, True, False]


def garbage(batch: GroundingBatch) -> GroundingBatch:
    """The same points and sentences, with nothing true about what they mean."""
    wrong = torch.tensor([10**6, -5])
    return replace(
        batch, targets=[wrong] * len(batch.texts), anchors=[wrong] * len(batch.texts), instance=batch.instance * 0 + 99,
        boxes=[torch.full_like(boxes, float("nan")) for boxes in batch.boxes],
        classes=[classes * 0 + 77 for classes in batch.classes], colors=[colors * 0 - 9 for colors in batch.colors],
        scene_ids=["?"] * batch.num_scenes, meta=[{"kind": "sentence", "target": "?"}] * len(batch.texts),
    )  # fmt: skip


@pytest.mark.parametrize("ranking", ["reconstruction", "coarse", "chance"])
def test_no_box_of_a_sentence_enters(ranking: str, detector: Path, data: Path, batch: GroundingBatch) -> None:
    """With other boxes, targets, anchors, classes and instances: the same losses and gradients, bit for bit."""
    found = []
    for given in (batch, garbage(batch)):
        net = build(detector)
        made = method(net, detector, data, f"ranking={ranking}")
        losses = losses_of(made, net, given)
        torch.stack(list(losses.values())).sum().backward()
        gradients = {n: p.grad for part in (net, made) for n, p in part.named_parameters() if p.grad is not None}
        found.append((losses, gradients))
    (losses, gradients), (again, others) = found
    assert losses.keys() == again.keys() and all(torch.equal(losses[name], again[name]) for name in losses)
    assert gradients.keys() == others.keys() and all(torch.equal(gradients[n], others[n]) for n in gradients)
    assert float(gradients["head.bbox_conv.kernel"].abs().sum()) > 0
    taught = {"match", "class", "reconstruction"} if ranking == "reconstruction" else {"match", "class"}
    assert set(losses) == STUDENT | (taught if ranking != "chance" else set())


def test_the_annotated_class_is_an_option(detector: Path, data: Path, batch: GroundingBatch) -> None:
    net = build(detector)
    made = method(net, detector, data, "sentence_class=annotated")
    meant = [int(batch.classes[s][t[0]]) for s, t in zip(batch.text_scene.tolist(), batch.targets, strict=True)]
    assert made.allowed(blind(batch, keep_class=True)).nonzero().tolist() == [[q, c] for q, c in enumerate(meant)]
    parsed = method(net, detector, data).allowed(blind(batch))
    assert all(bool(parsed[q, c]) for q, c in enumerate(meant))  # the toy's sentences name the class
    other = replace(batch, classes=[torch.full_like(classes, CLASSES.index("piano")) for classes in batch.classes])
    losses, others = (losses_of(made, net, given) for given in (batch, other))
    assert losses["match"].item() == others["match"].item() and losses["class"].item() != others["class"].item()


def test_only_sentences_that_mean_one_object_are_read(detector: Path, data: Path) -> None:
    scenes = PreparedScenes(data)
    plain = DataConfig(sentences_per_scene=2, detection_probability=0, mirror_probability=0)
    prompted = replace(plain, detection_probability=1, absent_probability=1)
    both = []
    for config in (plain, prompted):
        samples = TrainingSamples(scenes, config)
        both.append(blind(collate([samples[0, 0], samples[0, 1]])))
    assert both[0].texts == both[1].texts and len(both[0].texts) == 4
    with pytest.raises(ValueError, match="sentences_per_scene"):
        blind(replace(both[0], meta=[{"kind": "detection"}] * 4))


def test_a_sentence_needs_another_scene(detector: Path, data: Path) -> None:
    samples = TrainingSamples(PreparedScenes(data), DataConfig(sentences_per_scene=2, detection_probability=0))
    net = build(detector)
    alone = collate([samples[0, 0]])
    with pytest.raises(ValueError, match=r"data\.bare_scenes=1"):
        method(net, detector, data)(net, alone)
    losses_of(method(net, detector, data, "ranking=chance"), net, alone)
    losses_of(method(net, detector, data), net, collate([samples[0, 0], samples[0, 1].replace(queries=())]))


def test_the_decoder_ranks_what_the_coarse_step_chose(
    detector: Path, data: Path, batch: GroundingBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order is that of its scores, the four best alone are learnt from after the first steps."""
    net = build(detector)
    made = method(net, detector, data, "all_steps=1", "candidates=3", "best=2", "objectness=0")
    assert made.reconstructor is not None
    nll = torch.tensor([[5.0, 1.0, 3.0]] * len(batch.texts))
    monkeypatch.setattr(made.reconstructor, "forward", lambda candidates, texts: nll)
    outputs = net.forward_training(blind(batch), supervised=False)
    first = made.teach(blind(batch), outputs)
    made.after_step(net)
    then = made.teach(blind(batch), outputs)
    assert first.losses["reconstruction"].item() == 3 and then.losses["reconstruction"].item() == 2
    assert int(made.state_dict()["steps"]) == 1
    coarse = method(net, detector, data, "ranking=coarse", "candidates=3", "objectness=0")
    coarse.load_state_dict({k: v for k, v in made.state_dict().items() if not k.startswith("reconstructor.")})
    assert torch.equal(coarse.teach(blind(batch), outputs).rows[:, [1, 2, 0]], first.rows)


def test_chance_is_any_object_of_the_scene(detector: Path, data: Path, batch: GroundingBatch) -> None:
    net = build(detector)
    made = method(net, detector, data, "ranking=chance", "candidates=4")
    outputs = net.forward_training(blind(batch), supervised=False)
    drawn = [made.teach(blind(batch), outputs) for _ in range(20)]
    for taught in drawn:
        assert bool(taught.proposals.mask[batch.text_scene].gather(1, taught.rows)[taught.valid].all())
        assert all(len(set(row)) == len(row) for row in taught.rows.tolist())
    assert len({str(taught.rows[0].tolist()) for taught in drawn}) > 3


def test_controls(detector: Path, data: Path, batch: GroundingBatch) -> None:
    found = {}
    for control in ("none", "random", "shuffled"):
        net = build(detector)
        made = method(net, detector, data, f"control={control}")
        found[control] = losses_of(made, net, batch)
        assert all(p.requires_grad == (control != "random") for p in made.parameters())
    taught = {"match", "class", "reconstruction"}
    assert set(found["random"]) == STUDENT and set(found["shuffled"]) == set(found["none"]) == STUDENT | taught
    assert all(torch.equal(found["shuffled"][name], found["none"][name]) for name in taught)
    assert found["shuffled"]["score"].item() != found["none"]["score"].item()


def test_shuffled_candidates_are_proposals_of_the_own_scene(detector: Path, data: Path, batch: GroundingBatch) -> None:
    made = method(build(detector), detector, data)
    mask = torch.tensor([[True] * 5, [True, False, False, True, False]])
    empty = torch.zeros(2, 5, 6)
    rows = torch.tensor([[4, 1], [0, 3], [2, 1], [1, 0], [0, 1], [1, 0]])
    taught = Candidates(Proposals(empty, empty, empty, empty[..., 0], mask), rows, torch.ones(6, 2).bool(), {})
    assert made.shuffle(taught, batch).rows.tolist() == [[1, 0], [0, 1], [1, 0], [0, 3], [0, 3], [0, 3]]


def test_the_losses_fall_and_reach_student_and_teacher(detector: Path, data: Path, batch: GroundingBatch) -> None:
    net = build(detector)
    made = method(net, detector, data).train()
    parameters: list[Any] = [*net.parameters(), *made.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=5e-3)
    found = []
    for _ in range(12):
        optimizer.zero_grad()
        losses = losses_of(made, net, batch)
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        made.after_step(net)
        found.append({name: value.item() for name, value in losses.items()})
    for name in ("match", "class", "reconstruction", "box", "keep1", "keep2"):
        assert found[-1][name] < found[0][name], name
    for p in (net.head.cls_conv.kernel, net.vision_backbone.conv1.kernel, *made.parameters()):
        assert p.grad is not None and bool(torch.isfinite(p.grad).all())
    proposer = made.proposer.net
    assert not proposer.training and all(p.grad is None for p in proposer.parameters())
    assert not any(name.startswith("proposer") for name in made.state_dict())


def test_errors_name_what_is_wrong(detector: Path, data: Path) -> None:
    net = build(detector)
    with pytest.raises(ValueError, match="reconstruction, coarse, chance"):
        method(net, detector, data, "ranking=best")
    with pytest.raises(ValueError, match="parsed, annotated"):
        method(net, detector, data, "sentence_class=known")
