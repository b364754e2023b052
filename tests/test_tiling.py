"""Scans larger than a room: every place is some tile's own, and boxes come back where they were found."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import tsp3d
from tsp3d.tiling import BORDER_M, TiledNetwork, TiledScene, cut


def hall(x: float, y: float, spacing: float = 0.2) -> torch.Tensor:
    """The floor of a hall that begins at (-3, 5)."""
    grid = torch.meshgrid(torch.arange(0, x, spacing), torch.arange(0, y, spacing), indexing="ij")
    return torch.stack([grid[0].flatten() - 3, grid[1].flatten() + 5, torch.zeros(grid[0].numel())], 1)


@dataclass
class Answer:
    boxes: torch.Tensor
    scores: torch.Tensor
    trace: dict[str, torch.Tensor] = field(default_factory=dict)


class RaisedPoints:
    """Finds each cluster of points above the floor, a metre from others: the higher, the surer."""

    def __init__(self):
        self.widths = []

    def encode(self, xyz, rgb):
        self.widths.append(float((xyz[:, :2].amax(0) - xyz[:, :2].amin(0)).max()))
        return xyz

    def ground(self, xyz, texts, top_k=1):
        raised = xyz[xyz[:, 2] > 0.3]
        boxes, scores = [], []
        while len(raised):
            near = (raised[:, :2] - raised[0, :2]).norm(dim=1) < 1.0
            low, high = raised[near].amin(0), raised[near].amax(0)
            boxes.append(torch.cat([(low + high) / 2, high - low]))
            scores.append(high[2] / 3)
            raised = raised[~near]
        order = torch.tensor(scores).argsort(descending=True)[:top_k]
        answer = Answer(torch.stack(boxes)[order], torch.tensor(scores)[order]) if boxes else None
        return [answer or Answer(torch.zeros(0, 6), torch.zeros(0)) for _ in texts]


def block(x: float, y: float, height: float) -> torch.Tensor:
    """Points of a block of 0.5 m by 0.5 m."""
    steps = torch.linspace(-0.25, 0.25, 6)
    return torch.cartesian_prod(steps + x, steps + y, torch.linspace(0.4, height, 6))


@pytest.mark.parametrize("shape", [(40.0, 9.0), (25.0, 31.0), (60.0, 60.0)])
@pytest.mark.parametrize("overlap", [3.0, 6.0])
def test_every_place_is_one_tiles_own(shape, overlap):
    xyz = hall(*shape)
    tiles = cut(xyz, 12.0, overlap)
    owners = torch.zeros(len(xyz), dtype=torch.long)
    for tile in tiles:
        own = xyz[tile.rows, :2]
        assert float((own.amax(0) - own.amin(0)).max()) <= 12.0 + 1e-4
        low, high = own.new_tensor(tile.low), own.new_tensor(tile.high)
        inside = ((own >= low) & (own < high)).all(1)
        owners[tile.rows[inside]] += 1
        around = ((xyz[:, :2] > low - overlap / 2 + 1e-4) & (xyz[:, :2] < high + overlap / 2 - 1e-4)).all(1)
        assert int(around.sum()) <= len(own)  # all that its part of the overlaps holds
        # What is not the tile's own lies within half an overlap of its border, or beyond.
        assert float((own - own.new_tensor(tile.center)).abs().max()) <= 6.0 + 1e-4
    assert bool((owners == 1).all())


def test_a_room_and_stray_points_stay_whole():
    assert len(cut(hall(17.0, 8.0))) == 1
    stray = torch.cat([hall(10.0, 8.0), torch.tensor([[900.0, 5.0, 1.0]])])
    (whole,) = cut(stray)
    assert len(whole.rows) == len(stray)
    assert [len(tile.rows) for tile in cut(torch.zeros(0, 3))] == [0]
    with pytest.raises(ValueError, match="half their side"):
        cut(stray, 4.0, 3.0)


def test_the_wall_at_the_end_of_a_scan_is_in_a_tile():
    for length in torch.arange(19.0, 60.0, 0.7).tolist():
        wall = torch.tensor([[length, 6.0, 1.0]]).expand(60, 3)
        xyz = torch.cat([hall(length, 3.0, 0.5), wall])
        assert torch.cat([tile.rows for tile in cut(xyz)]).unique().numel() == len(xyz)


def test_a_corridor_as_wide_as_the_overlap_keeps_its_walls():
    xyz = torch.cat([hall(40.0, 3.0), torch.tensor([[1.0, 8.0, 1.0]])])
    assert float(xyz[:, 1].max() - xyz[:, 1].min()) == 3.0
    assert torch.cat([tile.rows for tile in cut(xyz, 12.0, 3.0)]).unique().numel() == len(xyz)


def test_points_far_apart_make_no_tiles_between():
    far = torch.cat([hall(10.0, 8.0), hall(10.0, 8.0) + torch.tensor([1e5, 2e5, 0.0])])
    tiles = cut(far)
    assert 2 <= len(tiles) <= 12 and torch.cat([tile.rows for tile in tiles]).unique().numel() == len(far)


def test_boxes_come_back_once_and_in_place():
    places = [(4.0, 7.0, 1.0), (7.2, 12.0, 2.0), (21.3, 9.1, 1.5), (33.0, 20.0, 2.5), (13.0, 16.0, 0.8)]
    xyz = torch.cat([hall(40.0, 20.0), *(block(*place) for place in places)])
    found = RaisedPoints()
    network = TiledNetwork(found)
    scene = network.encode(xyz, None)
    assert isinstance(scene, TiledScene) and len(scene.tiles) > 3 and max(found.widths) <= 12.0
    (answer, again) = network.ground(scene, ["a", "b"], top_k=10)
    expected = sorted(places, key=lambda place: -place[2])
    assert answer.boxes[:, :2].tolist() == [pytest.approx(place[:2], abs=1e-4) for place in expected]
    assert torch.allclose(answer.boxes[:, 3:5], torch.tensor(0.5)) and torch.equal(answer.boxes, again.boxes)
    assert [number for number, _, _ in answer.parts] == [
        next(n for n, t in enumerate(scene.tiles) if _owns(t, place)) for place in expected
    ]
    assert len(network.ground(scene, ["a"], top_k=2)[0].boxes) == 2


def _owns(tile, place) -> bool:
    low, high = tile.low, tile.high
    return all(lo - BORDER_M <= at <= hi + BORDER_M for lo, at, hi in zip(low, place[:2], high, strict=True))


def test_nothing_in_any_tile():
    class Looks(RaisedPoints):
        def ground(self, xyz, texts, top_k=1):
            return [Answer(torch.zeros(0, 6), torch.zeros(0), {"level1": xyz})]

    network, xyz = TiledNetwork(Looks()), hall(40.0, 20.0)
    scene = network.encode(xyz, None)
    (answer,) = network.ground(scene, ["a"])
    assert answer.boxes.shape == (0, 6) and answer.scores.shape == (0,)
    torch.testing.assert_close(answer.trace["level1"], torch.cat([xyz[tile.rows] for tile in scene.tiles]))


def test_the_tile_that_holds_the_object_counts_for_more_than_a_better_score():
    class Judges(RaisedPoints):
        def ground(self, xyz, texts, top_k=1, several=False):
            (answer,) = super().ground(xyz, texts, top_k)
            answer.presence = {0.0: 0.1, 2.5: 0.2, 1.0: 0.9}[round(float(xyz[:, 2].max()), 3)]  # type: ignore[attr-defined]
            return [answer]

    network = TiledNetwork(Judges())
    scene = network.encode(torch.cat([hall(40.0, 20.0), block(0.0, 8.0, 2.5), block(33.0, 20.0, 1.0)]), None)
    (answer,) = network.ground(scene, ["a"], top_k=2)
    assert answer.boxes[:, 0].tolist() == pytest.approx([33.0, 0.0], abs=1e-4)
    assert answer.scores.tolist() == pytest.approx([1 / 3, 0.2 / 0.9 * 2.5 / 3]) and answer.presence == 0.9
    (first,) = network.ground(scene, ["a"], top_k=1)
    assert torch.equal(first.boxes, answer.boxes[:1])
    network.network.config = SimpleNamespace(calibration=SimpleNamespace(several_share=0.6))  # type: ignore[attr-defined]
    (meant,) = network.ground(scene, ["a"], top_k=2, several=True)
    assert torch.equal(meant.boxes, answer.boxes[:1]) and len(meant.parts) == 1  # the other has 0.56 of the best


def test_masks_and_colours_are_those_of_the_scans_points():
    class Paints(RaisedPoints):
        def encode(self, xyz, rgb):
            assert torch.equal(rgb[:, 0] == 1, xyz[:, 2] > 0.3)
            return super().encode(xyz, rgb)

        def masks(self, xyz, raw, which):
            return [
                ((xyz - raw.boxes[k, :3]).abs() <= raw.boxes[k, 3:] / 2 + 1e-3).all(1).nonzero()[:, 0] for k in which
            ]

    places = [(0.0, 8.0, 2.5), (4.0, 8.0, 1.0), (33.0, 20.0, 2.0)]  # two in the first tile
    xyz = torch.cat([hall(40.0, 20.0), *(block(*place) for place in places)])
    network = TiledNetwork(Paints())
    scene = network.encode(xyz, (xyz[:, 2:] > 0.3).float().expand(-1, 3))
    (answer,) = network.ground(scene, ["a"], top_k=3)
    found = network.masks(scene, answer, [2, 0])
    assert found is not None
    for mask, (x, y, _) in zip(found, (places[1], places[0]), strict=True):
        near = ((xyz[:, 0] - x).abs() < 0.3) & ((xyz[:, 1] - y).abs() < 0.3) & (xyz[:, 2] > 0.3)
        assert mask.equal(near.nonzero()[:, 0])
    assert TiledNetwork(RaisedPoints()).masks(scene, answer, [0]) is None


def test_a_grounder_cuts_a_building(tmp_path):
    xyz = torch.cat([hall(60.0, 20.0), block(40.0, 20.0, 2.0)]).numpy()
    np.save(tmp_path / "building.npy", xyz)
    for tile, calls in ((12.0, 14), (float("inf"), 1)):
        network = RaisedPoints()
        grounding = tsp3d.Grounder(network, tile=tile).ground(tmp_path / "building.npy", "the block")
        assert len(network.widths) == calls
        assert grounding.boxes[0].center == pytest.approx((40.0, 20.0, 1.2), abs=0.01)
