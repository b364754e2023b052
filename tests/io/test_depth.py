"""Depth images: their points project back to the pixels, in the frame of the pose."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from tsp3d.io import Scan, ScanError

K = np.array([[60.0, 0, 31.5], [0, 66.0, 23.5], [0, 0, 1]])


def looking(yaw: float, pitch: float, place: tuple[float, float, float]) -> np.ndarray:
    """Camera to world (z up): turned to ``yaw`` and down by ``pitch``."""
    forward = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), -np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, 3] = place
    return pose


def room_depth(pose: np.ndarray) -> np.ndarray:
    """(48, 64) depth, metres, of a 5 × 4 × 2.5 m room seen from inside, by meeting each ray with the six planes."""
    v, u = np.mgrid[:48, :64]
    rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones_like(u)], -1) @ pose[:3, :3].T
    low, high = np.zeros(3), np.array([5.0, 4.0, 2.5])
    with np.errstate(divide="ignore"):
        return np.where(rays > 0, (high - pose[:3, 3]) / rays, (low - pose[:3, 3]) / rays).min(-1)


POSES = np.stack([looking(0.3, 0.4, (2, 2, 1.5)), looking(2.5, 0.2, (3, 1, 1.4)), looking(-1.9, 0.6, (2.5, 3, 1.6))])


@pytest.mark.parametrize("kind", [np.float32, np.uint16])
def test_several_images_make_one_room_in_the_frame_of_their_poses(kind):
    depth = np.stack([room_depth(pose) for pose in POSES])
    rgb = np.random.default_rng(0).integers(0, 255, (*depth.shape, 3), dtype=np.uint8)
    stored = depth.astype(np.float32) if kind == np.float32 else np.round(depth * 1000).astype(np.uint16)
    scan = Scan.from_depth(stored, K, rgb, POSES)
    points = scan.input_frame.to_input(scan.xyz)
    on_plane = np.minimum(np.abs(points), np.abs(points - (5, 4, 2.5))).min(1)
    assert len(points) == depth.size and on_plane.max() < (0.002 if kind == np.uint16 else 1e-4)
    assert scan.rgb is not None and (scan.rgb == rgb.reshape(-1, 3)).all()
    assert abs(float(scan.xyz[:, 2].min())) < 0.01 and scan.input_frame.up == "z"


def test_points_project_to_their_pixels_and_without_a_pose_stay_in_the_cameras_frame():
    depth = room_depth(POSES[0])
    scan = Scan.from_depth(depth, K)
    x, y, z = scan.input_frame.to_input(scan.xyz).T
    v, u = np.mgrid[:48, :64].reshape(2, -1)
    np.testing.assert_allclose(K[0, 0] * x / z + K[0, 2], u, atol=1e-3)
    np.testing.assert_allclose(K[1, 1] * y / z + K[1, 2], v, atol=1e-3)
    np.testing.assert_allclose(z, depth.ravel(), atol=1e-5)
    assert scan.input_frame.up == "-y"


@pytest.mark.parametrize("kind", [np.float32, np.uint16])
def test_pixels_without_measurement_are_left_out(kind, caplog):
    depth = (np.full((20, 30), 2.0) * (1000 if kind == np.uint16 else 1)).astype(kind)
    depth[:4], depth[4:8, :15] = 0, 65535 if kind == np.uint16 else np.nan
    rgb = np.zeros((20, 30, 3), np.uint8)
    rgb[8:] = (200, 10, 10)
    rgb[:8, 15:] = (10, 200, 10)
    with caplog.at_level(logging.ERROR):
        scan = Scan.from_depth(depth, K, rgb)
    assert len(scan) == 600 - 120 - 60 and scan.rgb is not None
    assert {tuple(c) for c in scan.rgb} == {(200, 10, 10), (10, 200, 10)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": np.ones((4, 4, 4, 1))}, "depth must be numbers of shape"),
        ({"depth": np.zeros((48, 64))}, "holds no points"),
        ({"intrinsics": [60, 60, 31.5, 23.5]}, r"intrinsics must be finite, of shape \(3, 3\)"),
        ({"depth": np.ones((4, 6, 1))}, "depth must be numbers of shape"),
        ({"depth": [[[1.0, 1.0]], [[1.0]]]}, "frame 7: no array can be made of it"),
        ({"depth": 1000 * room_depth(POSES[0])}, "give millimetres as integers"),
        ({"intrinsics": K * [[0], [1], [1]]}, "focal lengths above 0"),
        ({"intrinsics": K.T}, "transpose them"),
        ({"pose": POSES[0].T}, "transpose it"),
        ({"rgb": np.zeros((96, 128, 3), np.uint8)}, "register the colour image"),
        ({"pose": np.diag([2.0, 2, 2, 1])}, "a rotation and a shift"),
        ({"pose": np.diag([1.0, 1, -1, 1])}, "a rotation and a shift"),
        ({"pose": np.stack([np.eye(4)] * 2)}, "pose must be finite"),
        ({"up": "up"}, "unknown up axis"),
    ],
)
def test_what_does_not_belong_together_is_said(change, message):
    given = {"depth": room_depth(POSES[0]), "intrinsics": K} | change
    with pytest.raises((ScanError, ValueError), match=message):
        Scan.from_depth(**given, source="frame 7")
