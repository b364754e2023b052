"""The point renderer: what is nearer hides what is farther, and cameras show all that they should."""

from __future__ import annotations

import numpy as np
import pytest

from tsp3d.viz import render

LOW, HIGH = np.array([-2.0, -1.5, 0.0]), np.array([2.0, 1.5, 2.4])


def test_nearest_point_wins_whatever_the_order():
    camera = render.top_camera(LOW, HIGH, 64, 48)
    points = np.array([[0.0, 0.0, 0.2], [0.0, 0.0, 2.0], [0.0, 0.0, 1.0]])
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        index, depth = render.splat(camera, points[order], 0.02)
        row, column = np.argwhere(index >= 0)[0]
        assert order[index[row, column]] == 1
        assert depth[row, column] == pytest.approx(HIGH[2] + 1.0 - 2.0)


def test_from_above_x_goes_right_and_y_up():
    camera = render.top_camera(LOW, HIGH, 400, 300)
    (origin, east, north), _ = camera.project(np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]))
    np.testing.assert_allclose(origin, (200, 150))
    assert east[0] > origin[0] and east[1] == pytest.approx(origin[1])
    assert north[1] < origin[1] and north[0] == pytest.approx(origin[0])
    assert east[0] - origin[0] == pytest.approx(camera.focal)


@pytest.mark.parametrize("azimuth", np.linspace(0, 2 * np.pi, 7))
def test_perspective_shows_the_whole_extents_upright(azimuth: float):
    camera = render.orbit_camera(LOW, HIGH, azimuth, 0.6, 320, 240)
    np.testing.assert_allclose(camera.rotation @ camera.rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(camera.rotation) == pytest.approx(1.0)
    corners = render.box_corners(np.concatenate([(LOW + HIGH) / 2, HIGH - LOW]))
    pixels, depth = camera.project(corners)
    assert (depth > 0).all() and (pixels >= 0).all() and (pixels <= (320, 240)).all()
    assert pixels[4:, 1].mean() < pixels[:4, 1].mean()  # high corners are higher in the picture
    closer = render.fitted(camera, corners)
    pixels, _ = closer.project(corners)
    assert (pixels >= 0).all() and (pixels <= (320, 240)).all() and closer.focal >= camera.focal


def test_box_edges_join_corners_along_one_axis():
    corners = render.box_corners(np.array([1.0, 2, 3, 2, 4, 6]))
    np.testing.assert_allclose([corners.min(0), corners.max(0)], [[0, 0, 0], [2, 4, 6]])
    assert len(set(render.BOX_EDGES)) == 12
    assert all((corners[a] != corners[b]).sum() == 1 for a, b in render.BOX_EDGES)


def test_pinholes_are_filled_and_gaps_are_not():
    index = np.full((9, 9), -1, dtype=np.int64)
    index[1:6, 1:6] = 7
    index[3, 3] = -1
    depth = np.where(index >= 0, 2.0, np.inf).astype(np.float32)
    render.fill_pinholes(index, depth)
    assert index[3, 3] == 7 and depth[3, 3] == 2.0
    assert (index >= 0).sum() == 25


def test_splats_are_as_wide_as_the_spacing():
    grid = np.stack(np.meshgrid(np.arange(0, 2, 0.02), np.arange(0, 2, 0.02), [0.0]), -1).reshape(-1, 3)
    radius = render.point_radius(grid)
    assert len(radius) == len(grid) and 0.008 < np.median(radius) < 0.03
    assert len(render.point_radius(grid[:3])) == 3


def test_edges_in_depth_are_darkened():
    depth = np.full((20, 20), 2.0, dtype=np.float32)
    depth[:, :10] = 1.0
    bright = render.shade(depth)
    assert bright[10, 10] < 0.8 and bright[10, 5] == pytest.approx(1.0) and bright[10, 15] == pytest.approx(1.0)
