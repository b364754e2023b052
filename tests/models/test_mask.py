"""The mask head: on a network that learns rooms of boxes, by hand where that can be, and weights without it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from tsp3d.models.config import MaskConfig
from tsp3d.models.mask import MaskHead, mask_loss
from tsp3d.models.net import GroundingNet
from tsp3d.sparse import voxelize

sys.path.insert(0, str(Path(__file__).parent))
from test_net import build, room, scene_points


@pytest.fixture(scope="module")
def trained() -> GroundingNet:
    """Boxes first, then the mask head alone."""
    net = build(mask={"enabled": True}, fusion={"dim": 32}).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    batch = room()
    for step in range(180):
        optimizer.zero_grad()
        losses = net.losses(batch) if step < 140 else net.answer_losses(batch)
        losses["total"].backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    return net.eval()


def test_a_mask_has_the_points_of_the_object_and_not_of_the_floor_under_it(trained: GroundingNet) -> None:
    batch = room(seed=1)  # other places, other points
    encoded = trained.encode(*scene_points(batch, 0))
    instance = batch.instance[batch.batch == 0]
    answers = trained.ground(encoded, ["the red chair", "the blue chair"])
    for target, raw in enumerate(answers):
        masks = trained.masks(encoded, raw)
        assert masks is not None and len(masks) == 1
        mask = masks[0]
        assert mask.dtype == torch.int64 and bool((mask[1:] > mask[:-1]).all())
        on, true = torch.zeros_like(instance, dtype=torch.bool), instance == target
        on[mask] = True
        assert float((on & true).sum() / (on | true).sum()) > 0.8
        box = raw.boxes[0]
        reach = box[3:] * 0.6 + trained.config.mask.margin + 2 * trained.config.voxel_size
        assert bool(((scene_points(batch, 0)[0][mask] - box[:3]).abs() <= reach).all())


def test_masks_of_some_boxes_are_those_of_all(trained: GroundingNet) -> None:
    encoded = trained.encode(*scene_points(room(), 0))
    raw = trained.ground(encoded, ["the red chair"], top_k=3)[0]
    every, last = trained.masks(encoded, raw), trained.masks(encoded, raw, [len(raw.boxes) - 1])
    assert every is not None and last is not None and len(every) == len(raw.boxes) > 1
    assert torch.equal(last[0], every[-1])
    assert trained.masks(encoded, raw, []) == []


def test_the_mask_stage_moves_the_mask_head_alone() -> None:
    net = build(mask={"enabled": True}).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    # Boxes that no object is under would leave nothing to learn: put them where the first object is.
    torch.nn.init.constant_(net.head.bbox_conv.bias, 0.0)  # type: ignore[arg-type]
    before["head.bbox_conv.bias"].zero_()
    losses = net.answer_losses(room())
    assert set(losses) == {"mask", "total"} and net.training
    losses["total"].backward()
    assert all(p.grad is None or name.startswith("mask.") for name, p in net.named_parameters())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_a_step_whose_boxes_are_on_no_object_can_be_taken() -> None:
    net, batch = build(mask={"enabled": True}).train(), room()
    batch.boxes = [boxes + 100 for boxes in batch.boxes]
    loss = net.answer_losses(batch)["total"]
    loss.backward()
    assert float(loss) == 0 and all(bool((p.grad == 0).all()) for p in net.mask.parameters() if p.grad is not None)  # type: ignore[union-attr]


def test_weights_without_a_mask_head_give_none(tmp_path: Path) -> None:
    build().save_pretrained(tmp_path / "plain")
    net = GroundingNet.from_pretrained(tmp_path / "plain")
    encoded = net.encode(*scene_points(room(), 0))
    assert net.masks(encoded, net.ground(encoded, ["the red chair"])[0]) is None
    with pytest.raises(ValueError, match=r"mask\.enabled"):
        net.answer_losses(room())
    build(mask={"enabled": True}).save_pretrained(tmp_path / "mask")
    assert GroundingNet.from_pretrained(tmp_path / "mask").mask is not None


def test_region_by_hand() -> None:
    head = MaskHead(MaskConfig(enlarge=0.0, margin=0.1), 4, 0.1)
    xyz = torch.tensor([[0.05, 0.05, 0.05], [0.55, 0.05, 0.05], [0.75, 0.05, 0.05], [0.05, 0.05, 0.05]])
    voxels, row = voxelize(xyz, torch.cat([xyz, xyz], 1), 0.1, batch=torch.tensor([0, 0, 0, 1]), batch_size=2)
    scene = head.prepare(voxels, row, [])
    boxes = torch.tensor([[0.0, 0.0, 0.0, 1.0, 1.0, 1.0]] * 2)
    region = head.region(scene, boxes, [0, 1])
    # Half a metre and the margin reach the second voxel of the first scene but not its third.
    assert region.rows.tolist() == [0, 1, 3] and region.query.tolist() == [0, 0, 1]
    assert head.region(scene, boxes, [0, 1], limit=1).query.tolist() == [0, 1]
    assert head.region(scene, boxes[:0], []).rows.tolist() == []


def test_loss_by_hand() -> None:
    sure = torch.tensor([20.0, -20.0, 20.0])
    query = torch.tensor([0, 0, 2])
    assert float(mask_loss(sure, torch.tensor([1.0, 0.0, 1.0]), query, 3)) == pytest.approx(0.0, abs=1e-6)
    # Box 0 is right, box 2 wrong: cross-entropy 20 and dice loss 1 - 1 / 2, over two boxes with voxels.
    assert float(mask_loss(sure, torch.tensor([1.0, 0.0, 0.0]), query, 3)) == pytest.approx(20.5 / 2, abs=1e-4)
    nothing = mask_loss(sure[:0], sure[:0], query[:0], 0)
    assert float(nothing) == 0.0
