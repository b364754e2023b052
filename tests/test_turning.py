"""Turned copies of a scan: what any of them shows is found, and comes back where it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

import tsp3d
from tsp3d.turning import TurnedNetwork, turn, turned

DEMO = Path(tsp3d.__file__).parent / "demo" / "room.npz"
SIZE = (0.4, 0.8, 0.6)


@dataclass
class Found:
    logits: torch.Tensor
    boxes: torch.Tensor
    features: torch.Tensor
    presence: float | None = None
    trace: dict[str, torch.Tensor] = field(default_factory=dict)


@dataclass
class Answer:
    boxes: torch.Tensor
    scores: torch.Tensor
    features: torch.Tensor
    presence: float | None
    trace: dict[str, torch.Tensor]


class OneCorner:
    """Sees what stands above the floor only where x > 0 and y < 0; elsewhere it believes a little in a box at 5, 5.

    What it says of presence is 0.8 where it sees something, and 0.2 where it does not.
    """

    def encode(self, xyz, rgb):
        return xyz

    def candidates(self, xyz, texts):
        raised = xyz[xyz[:, 2] > 0.1]
        low, high = (raised.amin(0), raised.amax(0)) if len(raised) else (xyz.new_zeros(3), xyz.new_zeros(3))
        middle = (low + high) / 2
        sees = bool((middle[0] > 0) & (middle[1] < 0))
        box = torch.cat([middle, high - low]) if sees else torch.tensor([5.0, 5.0, 0.5, 1.0, 1.0, 1.0])
        logit, presence = (3.0, 0.8) if sees else (-3.0, 0.2)
        for _ in texts:
            yield Found(torch.tensor([logit - 9, logit]), torch.stack([box + 9, box]), torch.zeros(2, 1), presence)

    def choose(self, found, top_k=1):
        rows = found.logits.argsort(descending=True)[:top_k]
        scores = found.logits[rows].sigmoid()
        return Answer(found.boxes[rows], scores, found.features[rows], found.presence, found.trace), rows

    def ground(self, xyz, texts, top_k=1):
        return [self.choose(found, top_k)[0] for found in self.candidates(xyz, texts)]

    def masks(self, xyz, raw, which):
        low, high = (raw.boxes[:, :3] + side * raw.boxes[:, 3:] / 2 for side in (-1.001, 1.001))
        return [((xyz >= low[row]) & (xyz <= high[row])).all(1).nonzero().squeeze(1) for row in which]


def floor_with_a_block(x: float, y: float, half: float = 3.0) -> np.ndarray:
    """Points (N, 3): a floor around the origin, then a block of ``SIZE`` whose middle is above x, y."""
    steps = np.arange(-half, half + 0.01, 0.2)
    floor = np.stack(np.meshgrid(steps, steps, [0.0]), -1).reshape(-1, 3)
    sides = [np.linspace(-size / 2, size / 2, 5) for size in SIZE]
    block = np.stack(np.meshgrid(*sides), -1).reshape(-1, 3) + (x, y, 0.5)
    return np.concatenate([floor, block]).astype(np.float32)


@pytest.mark.parametrize("quarters", [-3, -1, 0, 1, 2, 3])
def test_points_and_boxes_turn_together_and_back_exactly(quarters):
    points, boxes = torch.randn(20, 3), torch.randn(20, 6).abs()
    angle = np.deg2rad(90 * quarters)
    matrix = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    np.testing.assert_allclose(turn(points, quarters).numpy(), points.numpy() @ matrix.T, atol=1e-6)
    there = turn(boxes, quarters)
    corners = torch.stack([boxes[:, :3] - boxes[:, 3:] / 2, boxes[:, :3] + boxes[:, 3:] / 2])
    ends = torch.stack([turn(corner, quarters) for corner in corners])
    torch.testing.assert_close(there[:, 3:], ends.amax(0) - ends.amin(0))
    torch.testing.assert_close(there[:, :3], ends.mean(0))
    assert torch.equal(turn(there, -quarters), boxes)


@pytest.mark.parametrize("place", [(1.0, -2.0), (2.0, 1.0), (-1.0, 2.0), (-2.0, -1.0)])
@pytest.mark.parametrize("turns", [1, 2, 4])
def test_what_one_copy_shows_is_found_where_it_is(place, turns):
    scan = tsp3d.Scan(floor_with_a_block(*place))
    true = [*(scan.xyz[-125:].min(0) + scan.xyz[-125:].max(0)) / 2, *SIZE]
    answer = tsp3d.Grounder(OneCorner(), turns=turns).ground(scan, "the block")
    # The corner that the network sees is reached by some quarter turns of the copies, by none of the others.
    x, y = true[:2]
    seen = any((a > 0 and b < 0) for a, b in [(x, y), (-y, x), (-x, -y), (y, -x)][:: 4 // turns][:turns])
    assert np.allclose(answer.boxes_m[0], true, atol=1e-4) == seen
    if seen:
        assert answer.mask is not None and answer.mask.tolist() == list(range(len(scan) - 125, len(scan)))
        assert answer.presence == pytest.approx({1: 0.8, 2: 0.5, 4: 0.35}[turns])


def test_tiles_are_turned_each_about_its_own_middle():
    xyz = floor_with_a_block(-8.0, 7.0, half=15.0)
    raised = xyz[xyz[:, 2] > 0]
    others = (
        raised + np.array([[16.0, 0, 0]]),
        raised + np.array([[0, -14.0, 0]]),
        raised + np.array([[16.0, -14.0, 0]]),
    )
    scan = tsp3d.Scan(np.concatenate([xyz, *others]).astype(np.float32))
    grounder = tsp3d.Grounder(OneCorner(), turns=4)
    grounder._tiled.side = 16.0
    found = grounder.ground(scan, "the blocks", top_k=4, min_score=0.5)
    places = {tuple(box[:2].round(1).tolist()) for box in found.boxes_m}
    middle = scan.xyz[-125:].mean(0).round(1)
    assert len(found.boxes) == 4 and tuple(middle[:2].tolist()) in places
    np.testing.assert_allclose(found.boxes_m[:, 3:], [SIZE] * 4, atol=1e-4)
    assert all(len(mask) == 125 for mask in found.masks)


def test_one_turn_is_the_network_itself():
    network = OneCorner()
    assert turned(network, 1) is network
    assert tsp3d.Grounder(network)._tiled.network is network


@pytest.mark.parametrize("turns", [0, 3, 8, -1, 1.5, "4"])
def test_other_numbers_are_refused(turns):
    with pytest.raises(tsp3d.UserError, match="turns must be 1, 2 or 4"):
        tsp3d.Grounder(OneCorner(), turns=turns)


def test_a_network_without_candidates_is_refused():
    class Plain:
        def encode(self, xyz, rgb):
            return xyz

        def ground(self, xyz, texts, top_k=1):
            return []

    tsp3d.Grounder(Plain(), turns=1)
    with pytest.raises(tsp3d.UserError, match="Plain does not look at turned copies"):
        tsp3d.Grounder(Plain(), turns=2)


@pytest.fixture(scope="module")
def scan() -> tsp3d.Scan:
    whole = tsp3d.load_scan(DEMO, unit="mm")
    rows = np.random.default_rng(0).permutation(len(whole))[:8000]
    return tsp3d.Scan(whole.xyz[rows], None if whole.rgb is None else whole.rgb[rows])


TEXTS = ["the chair", "the table next to the sofa"]


@pytest.mark.parametrize("options", [{}, {"top_k": 3}, {"several": True}])
def test_four_copies_answer_alike_however_the_scan_is_turned(scan, options):
    """The copies of a turned scan are those of the scan, in another order."""
    net = tsp3d.Grounder.from_pretrained("tsp3d-tiny", "cpu").network
    both, answers = TurnedNetwork(net, 4), []
    xyz = torch.from_numpy(scan.xyz)
    rgb = None if scan.rgb is None else torch.from_numpy(scan.rgb).float() / 255
    for quarters in (0, 1):
        scene = both.encode(turn(xyz, quarters), rgb)
        raws = both.ground(scene, TEXTS, **options)
        answers.append(
            [(turn(raw.boxes, -quarters), raw.scores, raw.presence, both.masks(scene, raw, [0])) for raw in raws]
        )
    for one, other in zip(*answers, strict=True):
        # Sums over the pooled candidates go in another order: float32 rounding, some 1e-6 of a metre.
        torch.testing.assert_close(one[0], other[0], atol=1e-4, rtol=0)
        torch.testing.assert_close(one[1], other[1], atol=1e-4, rtol=0)
        assert one[2] == pytest.approx(other[2], abs=1e-5)
        assert len(one[3][0]) and torch.equal(one[3][0], other[3][0])


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_results_have_the_same_form(scan, precision):
    entries = []
    for turns in (1, 2):
        grounder = tsp3d.Grounder.from_pretrained("tsp3d-tiny", "cpu", precision, turns)
        (result,) = grounder.ground_many(scan, TEXTS[0], min_presence=0, min_score=0)
        entries.append(grounder.to_json(result))
    one, two = entries
    assert one.keys() == two.keys() and one["config_hash"] == two["config_hash"]
    assert one["queries"][0].keys() == two["queries"][0].keys()
    assert one["queries"][0]["boxes"][0].keys() == two["queries"][0]["boxes"][0].keys()
    assert one["queries"][0]["presence"] != two["queries"][0]["presence"]  # two copies have been asked
