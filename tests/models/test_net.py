"""The whole network on generated boxes-in-a-room scenes: losses, learning, pruning edge cases, files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tsp3d.data.collate import GroundingBatch
from tsp3d.models.backbone import InputSkip
from tsp3d.models.config import ModelConfig, load_model_config, model_config
from tsp3d.models.net import GroundingNet

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "model"
SMALL_TEXT = {"kind": "small", "name": "text-small"}


def small_config(**changes: object) -> ModelConfig:
    values: dict = {
        "name": "test", "voxel_size": 0.05, "voxel_reduce": "mean",
        "backbone": {"stem_channels": 8, "stem_pool": False, "channels": [8, 16, 16, 24], "blocks": [1, 1, 1, 1]},
        "text": SMALL_TEXT,
        "fusion": {"dim": 16, "heads": 2, "layers": 1, "feedforward": 16, "dropout": 0.0},
        "pruning": {"train_enter": [[100, 200], [400, 400]], "train_keep": [32, 0], "teacher_forcing": 0.5,
                    "thresholds": [0.0, 0.0], "keep_min": [4, 6], "keep_max": [32, 0], "enter_max": [150, 400],
                    "upsample": ["generative", "occupied"]},
        "completion": {"candidates": 64},
        "head": {"positives": 8},
        "auxiliary": {"enabled": True, "classes": ["chair", "table"], "colors": ["red", "blue"], "dim": 16},
    }  # fmt: skip
    for section, change in changes.items():
        values[section] = {**values.get(section, {}), **change} if isinstance(change, dict) else change
    return model_config(values)


def room(seed: int = 0, points: int = 3000) -> GroundingBatch:
    """Two scenes of a floor with three coloured boxes, two sentences each, as a training batch."""
    g = torch.Generator().manual_seed(seed)
    xyz, rgb, instance, batch, boxes, classes, colors = [], [], [], [], [], [], []
    for scene in range(2):
        centers = torch.tensor([[-1.0, -1.0, 0.4], [1.0, -1.0, 0.4], [0.0, 1.2, 0.4]]) + 0.2 * torch.rand(
            3, 3, generator=g
        )
        sizes = torch.tensor([[0.6, 0.6, 0.8]]).expand(3, 3)
        which = torch.randint(-1, 3, (points,), generator=g)
        floor = torch.rand(points, 3, generator=g) * torch.tensor([5.0, 5.0, 0.02]) - torch.tensor([2.5, 2.5, 0.0])
        on_box = centers[which.clamp(min=0)] + (torch.rand(points, 3, generator=g) - 0.5) * sizes[which.clamp(min=0)]
        xyz.append(torch.where(which[:, None] >= 0, on_box, floor))
        rgb.append(torch.where(which[:, None] == 0, torch.tensor([0.9, 0.1, 0.1]), torch.tensor([0.1, 0.1, 0.9])))
        instance.append(which)
        batch.append(torch.full((points,), scene))
        boxes.append(torch.cat([centers, sizes], 1))
        classes.append(torch.tensor([0, 0, 1]))
        colors.append(torch.tensor([0, 1, 1]))
    none = torch.tensor([], dtype=torch.long)
    return GroundingBatch(
        xyz=torch.cat(xyz), rgb=torch.cat(rgb), batch=torch.cat(batch), instance=torch.cat(instance),
        texts=["the red chair", "the blue chair", "the table", "the red chair"], text_scene=torch.tensor([0, 0, 1, 1]),
        boxes=boxes, classes=classes, colors=colors,
        targets=[torch.tensor([0]), torch.tensor([1]), torch.tensor([2]), torch.tensor([0])],
        anchors=[none, torch.tensor([0]), none, torch.tensor([2])],
        meta=[{}] * 4, scene_ids=["a", "b"],
    )  # fmt: skip


def build(**changes: object) -> GroundingNet:
    torch.manual_seed(0)
    return GroundingNet(small_config(**changes))


VARIANTS = [
    {},
    {"pruning": {"enabled": False}},
    {"completion": {"enabled": False}},
    {"head": {"quality": True}},
    {"backbone": {"input_skip": True}},
    {"backbone": {"input_skip": True, "point_levels": 2}},
    {"fusion": {"spatial": True, "gate": 8}},
    {"completion": {"refine": True}},
    {"mask": {"enabled": True}},
    {"head": {"positive_margin": 0.1, "match": 4}, "loss": {"rank": 0.5}},
    {"pruning": {"upsample": ["generative", "generative"]}},
    {"pruning": {"stack_max": [50, 20]}},
    {"compat": {"prune_sign": True, "no_half_voxel": True}, "completion": {"select": "random"}},
]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_losses_are_finite_and_reach_every_weight(changes: dict) -> None:
    net = build(**changes).train()
    if net.config.completion.enabled:
        assert net.head.com_cls.bias is not None
        torch.nn.init.constant_(net.head.com_cls.bias, 1.0)  # so that voxels are added
    losses = net.losses(room())
    assert all(bool(torch.isfinite(v)) for v in losses.values()), losses
    assert torch.allclose(losses["total"], torch.stack([v for k, v in losses.items() if k != "total"]).sum())
    losses["total"].backward()
    silent = [
        n for n, p in net.named_parameters() if p.requires_grad and (p.grad is None or not bool(p.grad.abs().sum() > 0))
    ]
    unused = (
        "text_encoder.",
        "head.keep_conv",
        "head.keep_trans.0.layers.0.cross_layer.ffn_lv",
        "head.com_trans",
        "auxiliary",
        "input_skips",  # these and the gates begin at zero in their last layer
        "head.refine",
        "head.match",
        "mask.",  # learns from boxes that are on an object, and here none is yet
    )
    silent = [n for n in silent if not n.startswith(unused) and ".gate." not in n]
    assert not silent, silent


def test_losses_in_mixed_precision() -> None:
    net = build(mask={"enabled": True}, backbone={"input_skip": True, "point_levels": 2}).train()
    with torch.autocast("cpu", torch.bfloat16):
        total = net.losses(room(points=600))["total"]
    total.backward()
    assert bool(torch.isfinite(total)) and net.vision_backbone.conv1.kernel.grad is not None


def test_detection_mode_trains_the_backbone_alone() -> None:
    net = build().train()
    losses = net.detection_losses(room())
    assert set(losses) == {"semantic", "color", "dense_box", "total"}
    losses["total"].backward()
    assert net.vision_backbone.conv1.kernel.grad is not None
    assert all(p.grad is None for p in net.head.parameters())


@pytest.fixture(scope="module")
def trained() -> GroundingNet:
    net = build(fusion={"dim": 32}).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    batch = room()
    for _ in range(100):
        optimizer.zero_grad()
        net.losses(batch)["total"].backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    return net.eval()


def scene_points(batch: GroundingBatch, scene: int) -> tuple[torch.Tensor, torch.Tensor]:
    rows = batch.batch == scene
    return batch.xyz[rows], batch.rgb[rows]


def test_it_learns_to_tell_boxes_apart_by_words(trained: GroundingNet) -> None:
    batch = room()
    encoded = trained.encode(*scene_points(batch, 0))
    red, blue = trained.ground(encoded, ["the red chair", "the blue chair"])
    assert (red.boxes[0, :3] - batch.boxes[0][0, :3]).norm() < 0.4
    assert (blue.boxes[0, :3] - batch.boxes[0][1, :3]).norm() < 0.4


def test_one_sentence_or_many_gives_the_same_answer(trained: GroundingNet) -> None:
    encoded = trained.encode(*scene_points(room(), 0))
    texts = ["the red chair", "the blue chair next to the other chair", "table"]
    together = trained.ground(encoded, texts)
    for text, both in zip(texts, together, strict=True):
        alone = trained.ground(encoded, [text])[0]
        assert torch.allclose(alone.boxes, both.boxes, atol=1e-4) and torch.allclose(
            alone.scores, both.scores, atol=1e-4
        )
    again = trained.ground(encoded, texts)
    assert all(torch.equal(a.boxes, b.boxes) for a, b in zip(together, again, strict=True))


def test_top_k_is_sorted_and_does_not_overlap(trained: GroundingNet) -> None:
    encoded = trained.encode(*scene_points(room(), 0))
    result = trained.ground(encoded, ["the red chair"], top_k=5)[0]
    assert 1 <= len(result.scores) <= 5
    assert bool((result.scores[:-1] >= result.scores[1:]).all())
    assert set(result.trace) == {"level2", "level1", "level0", "completed"}
    assert len(result.trace["level1"]) == 32 and len(result.trace["level0"]) == 150  # keep_max, enter_max


def test_all_voxels_below_the_threshold_still_gives_a_box(trained: GroundingNet) -> None:
    before = trained.config.pruning.thresholds
    trained.config.pruning.thresholds = [1.0, 1.0]
    try:
        result = trained.ground(trained.encode(*scene_points(room(), 0)), ["the red chair"])[0]
    finally:
        trained.config.pruning.thresholds = before
    assert result.boxes.shape == (1, 6) and bool(torch.isfinite(result.boxes).all())
    assert [len(result.trace[f"level{level}"]) for level in (1, 2)] == trained.config.pruning.keep_min


def test_training_keeps_the_places_that_are_meant_where_it_is_forced_to() -> None:
    batch, far = room(), {}
    for share in (0.0, 1.0):
        out = build(pruning={"teacher_forcing": share, "train_keep": [8, 0]}).train().forward_training(batch).head
        counts = {stage: coords[:, 0].bincount().tolist() for stage, coords in out.trace.items()}
        assert counts["level1"] == [8] * 4 and all(100 <= count <= 200 for count in counts["level0"])
        assert out.completion is not None and out.completion.query.bincount().tolist() == [64] * 4
        kept = out.trace["level1"]
        middle = (kept[:, 1:] + 4) * 0.05
        targets = zip(batch.text_scene.tolist(), batch.targets, strict=True)
        centres = torch.cat([batch.boxes[scene][rows, :3] for scene, rows in targets])
        far[share] = [float((middle[kept[:, 0] == q] - centres[q]).norm(dim=1).min()) for q in range(4)]
    assert max(far[1.0]) < 0.6 < min(far[0.0])  # a voxel of level 1 is 40 cm wide


def test_sizes_stay_finite_whatever_the_weights() -> None:
    net = build().eval()
    torch.nn.init.constant_(net.head.bbox_conv.bias, 1000.0)  # type: ignore[arg-type]
    raw = net.ground(net.encode(*scene_points(room(points=300), 0)), ["the table"])[0]
    assert len(raw.boxes) == 1 and bool(torch.isfinite(raw.boxes).all())


def test_one_point_and_no_colour(trained: GroundingNet) -> None:
    for xyz in (torch.zeros(1, 3), torch.tensor([[0.0, 0, 0], [100.0, 50.0, -20.0]])):
        result = trained.ground(trained.encode(xyz), ["the red chair"])[0]
        assert bool(torch.isfinite(result.boxes).all())


def test_bad_input_is_named(trained: GroundingNet) -> None:
    with pytest.raises(ValueError, match="NaN"):
        trained.encode(torch.tensor([[0.0, float("nan"), 0.0]]))
    with pytest.raises(ValueError, match="at least one point"):
        trained.encode(torch.zeros(0, 3))
    with pytest.raises(RuntimeError, match="eval"):
        build().train().encode(torch.zeros(1, 3))


def test_saved_and_loaded_gives_the_same_boxes(trained: GroundingNet, tmp_path: Path) -> None:
    trained.save_pretrained(tmp_path / "model")
    loaded = GroundingNet.from_pretrained(tmp_path / "model")
    points = scene_points(room(), 1)
    ours, theirs = (net.ground(net.encode(*points), ["the table"])[0] for net in (trained, loaded))
    assert torch.equal(ours.boxes, theirs.boxes) and torch.equal(ours.scores, theirs.scores)
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        GroundingNet.from_pretrained(tmp_path / "model")


def test_input_skip_sees_the_mean_colour_of_each_voxel() -> None:
    net = build(backbone={"input_skip": True}).eval()
    batch = room()
    voxels, _ = net._voxelize(batch.xyz, batch.rgb, batch.batch, 2)
    level = net._levels(voxels)[1]
    seen = []
    skip = net.input_skips[1]
    assert isinstance(skip, InputSkip)
    skip.mlp.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    net._levels(voxels)
    for row in (0, len(level.feats) // 2, len(level.feats) - 1):
        low = level.coords[row]
        coords = voxels.coords
        inside = (coords[:, 0] == low[0]) & ((coords[:, 1:] >= low[1:]) & (coords[:, 1:] < low[1:] + level.stride)).all(
            1
        )
        mean = voxels.feats[inside].mean(0)
        assert torch.allclose(seen[0][row, :3], mean[3:6], atol=1e-5)
        assert torch.allclose(seen[0][row, 3], mean[2], atol=1e-5)
        assert bool((seen[0][row, 4:].abs() <= 0.51).all())


@pytest.mark.parametrize("name", ["tsp3d-base", "tsp3d-tiny"])
def test_shipped_configurations_load(name: str) -> None:
    config = load_model_config(CONFIGS / f"{name}.yaml")
    assert config.name == name
    if name == "tsp3d-base":  # the paper's numbers
        assert (config.voxel_size, config.fusion.dim, config.completion.candidates) == (0.01, 128, 2400)
        assert config.pruning.thresholds == [0.3, 0.7] and config.backbone.blocks == [3, 4, 6, 3]
    with pytest.raises(Exception, match="voxel_sise"):
        model_config({"voxel_sise": 1})


def test_half_precision_files_are_half_the_size_and_nearly_the_same(trained: GroundingNet, tmp_path: Path) -> None:
    trained.save_pretrained(tmp_path / "full")
    trained.save_pretrained(tmp_path / "half", half=True)
    size = {name: (tmp_path / name / "model.safetensors").stat().st_size for name in ("full", "half")}
    assert size["half"] < 0.7 * size["full"]
    points = scene_points(room(), 0)
    full, half = (GroundingNet.from_pretrained(tmp_path / name) for name in ("full", "half"))
    a, b = (net.ground(net.encode(*points), ["the red chair"])[0] for net in (full, half))
    assert torch.allclose(a.boxes, b.boxes, atol=0.05) and torch.allclose(a.scores, b.scores, atol=0.05)


def test_objects_weigh_the_same_in_any_order() -> None:
    batch, turned = room(), room()
    turned.instance = torch.where(turned.instance >= 0, 2 - turned.instance, -1)
    for name in ("boxes", "classes", "colors"):
        setattr(turned, name, [values.flip(0) for values in getattr(turned, name)])
    net = build().eval()  # without dropout
    with torch.no_grad():
        one, other = net.detection_losses(batch), net.detection_losses(turned)
    assert all(float(one[name]) == pytest.approx(float(other[name]), rel=1e-5) for name in one)


def test_scenes_without_objects_are_background() -> None:
    batch = room()
    batch.instance = torch.full_like(batch.instance, -1)
    for name in ("boxes", "classes", "colors"):
        setattr(batch, name, [values[:0] for values in getattr(batch, name)])
    losses = build().train().detection_losses(batch)
    losses["total"].backward()
    assert float(losses["semantic"]) > 0 and float(losses["dense_box"]) == 0
