"""The presence head and the choice among several boxes: by hand, and on sentences that a network can tell apart."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from tsp3d.models.decode import several_boxes
from tsp3d.models.net import GroundingNet
from tsp3d.models.presence import PresenceHead

sys.path.insert(0, str(Path(__file__).parent))
from test_net import build, room, scene_points


def test_presence_is_of_each_sentence_alone() -> None:
    head = PresenceHead(4, 8)
    fused, logits, said = torch.randn(7, 4), torch.randn(7), torch.randn(3, 8)
    query = torch.tensor([0, 0, 0, 0, 2, 2, 2])
    together = head(fused, logits, query, said)
    assert together.shape == (3,) and bool(torch.isfinite(together).all())  # sentence 1 has no voxel
    for q in (0, 2):
        rows = query == q
        alone = head(fused[rows], logits[rows], torch.zeros(int(rows.sum()), dtype=torch.long), said[q : q + 1])
        assert torch.allclose(alone[0], together[q], atol=1e-6)
        order = torch.randperm(int(rows.sum()))
        mixed = head(fused[rows][order], logits[rows][order], torch.zeros_like(order), said[q : q + 1])
        assert torch.allclose(mixed, alone, atol=1e-6)


def test_several_boxes_by_hand() -> None:
    boxes = torch.tensor([[x, 0.0, 0.0, 1.0, 1.0, 1.0] for x in (0, 0.2, 3, 6)])
    scores = torch.tensor([0.5, 0.8, 0.6, 0.2])
    assert several_boxes(boxes, scores, 0.5, 0.25).tolist() == [1, 2]  # the first overlaps a better one by 2 / 3
    assert several_boxes(boxes, scores, 0.5, 0.9).tolist() == [1, 2, 0]
    assert several_boxes(boxes, scores, 0.0, 0.25).tolist() == [1, 2, 3]
    assert several_boxes(boxes, scores, 1.0, 0.25).tolist() == [1]  # the best is always one
    assert several_boxes(boxes[:0], scores[:0], 0.5, 0.25).tolist() == []


def test_it_learns_what_is_there_and_calibration_moves_it(tmp_path: Path) -> None:
    net = build(presence={"enabled": True}).train()
    batch = room()
    none = torch.tensor([], dtype=torch.long)
    batch.texts += ["the piano"]
    batch.text_scene = torch.cat([batch.text_scene, torch.tensor([1])])
    batch.targets, batch.anchors, batch.meta = [*batch.targets, none], [*batch.anchors, none], [*batch.meta, {}]
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        losses = net.losses(batch)
        losses["total"].backward()
        optimizer.step()
    assert set(losses) >= {"presence", "score"}
    for _ in range(40):  # with the boxes as they are at inference
        optimizer.zero_grad()
        net.answer_losses(batch)["total"].backward()
        optimizer.step()
    net.eval()
    encoded = net.encode(*scene_points(batch, 1))
    table, piano = net.ground(encoded, ["the table", "the piano"])
    assert table.presence > 0.7 and piano.presence < 0.3
    net.config.calibration.bias = -50.0
    net.config.calibration.several_share = 0.0
    assert net.ground(encoded, ["the table"])[0].presence < 1e-6
    several = net.ground(encoded, ["the table"], top_k=5, several=True)[0]
    assert len(several.boxes) == len(several.features) == 5
    net.save_pretrained(tmp_path / "model")
    assert GroundingNet.from_pretrained(tmp_path / "model").config.calibration.bias == -50.0


def test_without_the_head_presence_is_that_of_the_best_score() -> None:
    net = build().eval()
    raw = net.ground(net.encode(*scene_points(room(), 0)), ["the red chair"], top_k=3)[0]
    assert raw.presence == pytest.approx(float(raw.scores.max()), abs=1e-6)
