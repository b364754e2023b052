"""The renderer against drawing every square pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tsp3d.views import render as module
from tsp3d.views.cameras import Cameras, look_at
from tsp3d.views.render import LOW_BITS, NEAR, rasterise, render


def cameras(count: int = 3, height: int = 20, width: int = 26, focal: float = 25.0) -> Cameras:
    turn = torch.arange(count) * 2.0
    eye = 2.5 * torch.stack([turn.cos(), turn.sin(), torch.full_like(turn, 0.3)], 1)
    return look_at(eye, torch.zeros(3), focal, height, width)


def cloud(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, generator=generator) * 2 - 1, torch.rand(count, 3, generator=generator)


def drawn_by_hand(points: Tensor, views: Cameras, radius: Tensor) -> Tensor:
    """Index (V, H, W): every square in full, the least of (leading bits of depth, distance, depth, index) seen."""
    pixels, depth = views.project(points)
    best = np.full((len(views), views.height, views.width), -1)
    for v in range(len(views)):
        shown: dict[tuple[int, int], tuple] = {}
        for p in range(len(points)):
            z = depth[v, p]
            if not z > NEAR:
                continue
            reach = int(torch.round(radius[p] * (views.focal[v] / z)))
            bits = int(np.float32(z).view(np.int32))
            c, r = (math.floor(value + 0.5) for value in pixels[v, p].tolist())
            for y in range(max(r - reach, 0), min(r + reach, views.height - 1) + 1):
                for x in range(max(c - reach, 0), min(c + reach, views.width - 1) + 1):
                    key = (bits >> LOW_BITS, max(abs(x - c), abs(y - r)), bits, p)
                    shown[y, x] = min(shown.get((y, x), key), key)
        for (y, x), key in shown.items():
            best[v, y, x] = key[3]
    return torch.from_numpy(best)


@pytest.mark.parametrize("count", [1, 12, 150])
@pytest.mark.parametrize("largest", [0.0, 0.1, 0.4])
def test_agrees_with_squares_drawn_one_by_one(count: int, largest: float) -> None:
    points, _ = cloud(count, count)
    radius = torch.rand(count) * largest
    views = cameras()
    index, depth = rasterise(points, views, radius)
    assert index.equal(drawn_by_hand(points, views, radius))
    assert depth.isinf().equal(index < 0)
    view, row, column = (index >= 0).nonzero(as_tuple=True)
    assert depth[view, row, column].equal(views.project(points)[1][view, index[view, row, column]])


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    points, rgb = cloud(80)
    whole = render(points, rgb, cameras(), 0.1)
    monkeypatch.setattr(module, "_CHUNK", 1)
    assert render(points, rgb, cameras(), 0.1).images.equal(whole.images)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1], [1, 2, 0]])
def test_the_nearest_is_seen_whatever_the_order(order: list[int]) -> None:
    points = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [-1.0, 0, 0]])[order]
    camera = look_at(torch.tensor([[3.0, 0, 0]]), torch.zeros(3), 20.0, 9, 9)
    seen = render(points, torch.eye(3)[order], camera, 0.0)
    assert seen.index[0, 4, 4] == order.index(1) and seen.depth[0, 4, 4] == 2.0
    assert seen.images[0, :, 4, 4].tolist() == [0, 1, 0]
    assert (seen.index >= 0).sum() == 1 and seen.images[0, :, 0, 0].tolist() == [1, 1, 1]


def test_squares_grow_as_they_come_near() -> None:
    camera = look_at(torch.tensor([[0.0, 0, 0]]), torch.tensor([1.0, 0, 0]), 100.0, 101, 101)
    for distance, side in ((10.0, 3), (2.0, 11), (1.0, 21)):
        index, _ = rasterise(torch.tensor([[distance, 0.0, 0.0]]), camera, 0.1)
        rows, columns = (index[0] >= 0).nonzero(as_tuple=True)
        assert len(rows) == side * side and (rows.min(), columns.max()) == (50 - side // 2, 50 + side // 2)


@pytest.mark.parametrize("distance", [0.5, 1.0, 4.0])
def test_a_surface_has_no_holes_from_near_or_far(distance: float) -> None:
    points = torch.rand(20_000, 3, generator=torch.Generator().manual_seed(0)) * 4 - 2
    points[:, 0] = 0.0
    camera = look_at(torch.tensor([[distance, 0.0, 0.0]]), torch.zeros(3), 60.0, 48, 48)
    index, _ = rasterise(points, camera)
    assert (index >= 0).float().mean() > 0.99


def test_a_point_at_the_edge_reaches_into_the_image() -> None:
    camera = look_at(torch.tensor([[0.0, 0, 0]]), torch.tensor([1.0, 0, 0]), 10.0, 11, 11)
    index, _ = rasterise(torch.tensor([[1.0, 0.8, 0.0]]), camera, 0.4)  # centre 3 pixels left of column 0, reach 4
    assert (index[0] >= 0).any(0).tolist() == [True] * 2 + [False] * 9


def test_what_is_behind_or_not_finite_is_not_drawn() -> None:
    points = torch.tensor([[0.0, 0, 0], [math.nan, 0, 0], [math.inf, 0, 0], [0, -math.inf, 0], [9.0, 0, 0]])
    camera = look_at(torch.tensor([[3.0, 0, 0]]), torch.zeros(3), 20.0, 9, 9)
    for radius in (0.05, None):
        index, depth = rasterise(points, camera, radius)
        assert index.unique().tolist() == [-1, 0] and depth[index == 0].unique().tolist() == [3.0]


def test_nothing_to_draw() -> None:
    blank = render(torch.zeros(0, 3), torch.zeros(0, 3), cameras(), background=0.5)
    assert blank.images.shape == (3, 3, 20, 26) and (blank.images == 0.5).all() and blank.depth.isinf().all()
    assert render(*cloud(5), cameras()[:0], 0.1).images.shape == (0, 3, 20, 26)


def test_bytes_and_floats_are_the_same_colours() -> None:
    points, _ = cloud(30)
    rgb = torch.randint(0, 256, (30, 3), dtype=torch.uint8)
    assert render(points, rgb, cameras(), 0.1).images.equal(render(points, rgb / 255, cameras(), 0.1).images)


@pytest.mark.parametrize(
    ("points", "rgb", "match"),
    [
        (torch.zeros(4, 2), torch.zeros(4, 2), r"\(P, 3\)"),
        (torch.zeros(4, 3, dtype=torch.int64), torch.zeros(4, 3), "floating-point"),
        (torch.zeros(4, 3), None, "no colour"),
        (torch.zeros(4, 3), torch.zeros(3, 3), "as many colours"),
        (torch.zeros(4, 3), torch.full((4, 3), math.nan), "0 to 1"),
        (torch.zeros(4, 3), torch.full((4, 3), 200.0), "0 to 1"),
    ],
)
def test_bad_clouds_are_refused(points: Tensor, rgb: Tensor | None, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        render(points, rgb, cameras(), 0.1)


@pytest.mark.gpu
def test_cuda_draws_the_same() -> None:
    points, _ = cloud(500)
    on_gpu = cameras()
    on_gpu = Cameras(on_gpu.eye.cuda(), on_gpu.rotation.cuda(), on_gpu.focal.cuda(), on_gpu.height, on_gpu.width)
    index, _ = rasterise(points.cuda(), on_gpu, 0.05)
    assert (index.cpu() == rasterise(points, cameras(), 0.05)[0]).float().mean() > 0.999  # pixels' edges may round
