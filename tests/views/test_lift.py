"""Visibility against brute force, and lifting on cases with known answers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tsp3d.views.cameras import Cameras, look_at
from tsp3d.views.lift import Visibility, lift, visibility
from tsp3d.views.render import rasterise


def ring(count: int = 4, height: int = 24, width: int = 32) -> Cameras:
    turn = torch.arange(count) * (2 * math.pi / count)
    eye = torch.stack([3 * turn.cos(), 3 * turn.sin(), torch.full_like(turn, 0.5)], 1)
    return look_at(eye, torch.zeros(3), 30.0, height, width)


def test_agrees_with_looking_at_each_point() -> None:
    points = torch.rand(300, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    cameras = ring()
    _, depth = rasterise(points, cameras, 0.05)
    seen = visibility(points, cameras, depth, 0.1)
    for v in range(4):
        for p in range(300):
            x, y, z = ((points[p] - cameras.eye[v]) @ cameras.rotation[v].T).tolist()
            u, w = 15.5 + 30 * x / z, 11.5 + 30 * y / z
            assert seen.pixels[v, p].tolist() == pytest.approx([u, w], abs=1e-3)
            inside = -0.5 <= u < 31.5 and -0.5 <= w < 23.5
            expected = inside and abs(z - float(depth[v, math.floor(w + 0.5), math.floor(u + 0.5)])) <= 0.1
            assert bool(seen.visible[v, p]) == expected
    assert 0.1 < seen.visible.float().mean() < 0.9


def test_a_wall_hides_what_is_behind_it_from_its_side_only() -> None:
    grid = torch.linspace(-1, 1, 41)
    wall = torch.stack([torch.zeros(41 * 41), *(g.flatten() for g in torch.meshgrid(grid, grid, indexing="ij"))], 1)
    behind = torch.tensor([[-0.5, 0.0, 0.0], [0.5, 0.0, 0.0]])
    cameras = look_at(torch.tensor([[3.0, 0, 0], [-3.0, 0, 0]]), torch.zeros(3), 30.0, 24, 24)
    _, depth = rasterise(torch.cat([wall, behind]), cameras, 0.03)
    assert visibility(behind, cameras, depth).visible.tolist() == [[False, True], [True, False]]


def test_free_space_behind_the_camera_and_nan_are_not_visible() -> None:
    camera = look_at(torch.tensor([[3.0, 0, 0]]), torch.zeros(3), 30.0, 9, 9)
    _, depth = rasterise(torch.zeros(1, 3), camera, 0.0)
    asked = torch.tensor([[0.0, 0, 0], [0.5, 0, 0], [0, 0.3, 0], [4.0, 0, 0], [0, 9.0, 0], [math.nan, 0, 0]])
    assert visibility(asked, camera, depth).visible.tolist() == [[True, False, False, False, False, False]]
    with pytest.raises(ValueError, match="cameras make"):
        visibility(asked, camera, depth[:, :5])


def seen_at(
    pixels: Sequence[Sequence[Sequence[float]]], visible: list[list[bool]], height: int = 4, width: int = 8
) -> Visibility:
    return Visibility(torch.tensor(pixels), torch.tensor(visible), height, width)


def test_the_mean_is_over_the_views_that_see_the_point() -> None:
    seen = seen_at([[[0, 0], [5, 3], [7, 1]]] * 3, [[True, True, False], [True, False, False], [False, True, False]])
    maps = torch.tensor([1.0, 2.0, 6.0])[:, None, None, None] * torch.tensor([1.0, -1.0])[:, None, None]
    values, count = lift(maps.expand(3, 2, 2, 2), seen)
    assert values.tolist() == [[1.5, -1.5], [3.5, -3.5], [0, 0]] and count.tolist() == [2, 2, 0]


def test_nearest_takes_the_cell_under_the_pixel() -> None:
    places = [[u, v] for v in range(4) for u in range(8)]
    maps = torch.arange(8.0).view(1, 1, 2, 4)  # cells of 2 x 2 pixels
    values, _ = lift(maps, seen_at([places], [[True] * 32]), mode="nearest")
    assert values[:, 0].tolist() == [v // 2 * 4 + u // 2 for u, v in places]


def test_bilinear_follows_a_ramp() -> None:
    # A map whose value is the column of its cell's centre, in pixels of the image.
    maps = (torch.arange(4.0) * 2 + 0.5).expand(1, 1, 2, 4)
    places = [[0.5, 0.0], [1.0, 1.0], [3.25, 2.0], [6.5, 3.0], [7.4, 3.0]]
    values, _ = lift(maps, seen_at([places], [[True] * 5]))
    torch.testing.assert_close(values[:, 0], torch.tensor([0.5, 1.0, 3.25, 6.5, 6.5]))


@pytest.mark.parametrize("maps", [torch.zeros(1, 2, 2), torch.zeros(2, 1, 2, 2)])
def test_a_map_for_each_view_is_needed(maps: Tensor) -> None:
    with pytest.raises(ValueError, match="each view"):
        lift(maps, seen_at([[[0, 0]]], [[True]]))
