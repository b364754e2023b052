"""Scans that are tilted and turned: found out, undone, and boxes given back as the scan lies."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import tsp3d
from tsp3d.io import Scan
from tsp3d.io.align import LEVEL, STRAIGHT, alignment, cell_normals, turn_upright
from tsp3d.io.frame import UP_ROTATIONS

LOW, HIGH = np.array([0.6, 0.2, 0.0]), np.array([1.4, 0.7, 0.9])
"""Of a red box in the room."""


def furnished(noise: float = 0.004) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 3) of the floor, three walls, a table and a red box, with a sensor's noise, and colours."""
    rng = np.random.default_rng(5)
    faces = [
        rng.random((6000, 3)) * [4, 3, 0] - [2, 1.5, 0],
        rng.random((4000, 3)) * [4, 0, 2.4] - [2, 1.5, 0],
        rng.random((4000, 3)) * [4, 0, 2.4] + [-2, 1.5, 0],
        rng.random((3000, 3)) * [0, 3, 2.4] - [2, 1.5, 0],
        rng.random((1500, 3)) * [1.2, 0.7, 0] + [-1.5, 0.5, 0.74],
    ]
    box = LOW + rng.random((3000, 3)) * (HIGH - LOW)
    side = np.arange(3000) % 5
    for axis, end in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 1)):
        box[side == axis * 2 + end - (axis == 2), axis] = (LOW, HIGH)[end][axis]
    xyz = np.concatenate([*faces, box]) + rng.normal(0, noise, (21500, 3))
    rgb = np.full((len(xyz), 3), 150, dtype=np.uint8)
    rgb[-3000:] = (230, 20, 20)
    return xyz, rgb


def rotation(yaw: float, tilt: float = 0.0, toward: float = 0.0) -> np.ndarray:
    """(3, 3): turned by ``yaw``, then leaning by ``tilt`` toward a direction; degrees."""

    def about_z(degrees: float) -> np.ndarray:
        c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])

    c, s = np.cos(np.deg2rad(tilt)), np.sin(np.deg2rad(tilt))
    lean = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    return about_z(toward) @ lean @ about_z(-toward) @ about_z(yaw)


class RedNetwork:
    """Answers with the bounds of the red points."""

    config = SimpleNamespace(hash=lambda: "0")

    def encode(self, xyz, rgb):
        return xyz if rgb is None else xyz[(rgb[:, 0] > 0.7) & (rgb[:, 1] < 0.3)]

    def ground(self, red, texts, top_k=1):
        low, high = red.min(0).values, red.max(0).values
        box = torch.cat([(low + high) / 2, high - low])[None]
        return [SimpleNamespace(boxes=box, scores=torch.ones(1)) for _ in texts]


@pytest.mark.parametrize(("yaw", "tilt"), [(20, 0), (-43, 0), (70, 0), (0, 12), (0, 38), (33, 25), (160, 40)])
@pytest.mark.parametrize("up", ["z", "-y", "x"])
def test_the_box_comes_back_as_the_scan_lies(yaw: float, tilt: float, up: str, caplog):
    xyz, rgb = furnished()
    # The room as its scanner had it: turned and tilted, then with another axis up, in millimetres, far from the origin.
    way = np.array(UP_ROTATIONS[up], dtype=float).T @ rotation(yaw, tilt, 50)
    scan = Scan.from_arrays((xyz @ way.T + [3, 40, -7]) * 1000, rgb, up=up, unit="mm", source="room.ply")
    assert ("its floor is tilted by" in caplog.text) == (tilt > 0) and "room.ply: its " in caplog.text
    assert ("its walls are off" in caplog.text) == (yaw != 0) and "--no-align" in caplog.text
    box = tsp3d.Grounder(RedNetwork(), name="red").ground(scan, "the red box").boxes[0]
    signs = (np.arange(8)[:, None] >> np.arange(3)) & 1
    true = ((LOW + signs * (HIGH - LOW)) @ way.T + [3, 40, -7]) * 1000
    found = box.corners
    nearest = np.linalg.norm(found[:, None] - true[None], axis=2)
    assert nearest.min(1).max() < 45 and nearest.min(0).max() < 45  # millimetres
    # What is written says the same: the rotation turns the input's axes into the box's.
    entry = box.to_json()
    corners = np.array(entry["center"]) + (signs - 0.5) * entry["size"] @ np.array(entry["rotation"]).T
    np.testing.assert_allclose(corners, found, atol=1e-3)
    if tilt == 0:  # yaw alone says it
        axis = {"z": 2, "-y": 1, "x": 0}[up]
        vector = np.zeros(3)
        vector[axis] = -1 if up.startswith("-") else 1
        np.testing.assert_allclose(Rotation.from_rotvec(box.yaw * vector).as_matrix(), entry["rotation"], atol=1e-6)
    xyz_back = scan.input_frame.to_input(scan.xyz)
    np.testing.assert_allclose(xyz_back, (xyz @ way.T + [3, 40, -7]) * 1000, atol=0.5)


def test_the_tilt_of_a_scan_on_its_side_is_told_as_the_other_case(caplog):
    camera = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])  # x right, y down, z forward
    down = np.array([[1, 0, 0], [0, c := np.cos(0.9), -np.sin(0.9)], [0, np.sin(0.9), c]])
    Scan((furnished()[0] - [0, -2.5, 2.2]) @ (down @ camera).T, source="a")
    up, tilt = caplog.messages
    assert "pass --up -y" in up and tilt.startswith("a: otherwise its floor is tilted by 38 degrees")


def test_a_floor_of_many_rooms_is_set_right_too():
    room = furnished()[0][::2]
    floor = np.concatenate([room + [4 * i, 3 * k, 0] for i in range(5) for k in range(6)])  # 20 × 18 m
    found = alignment(floor @ rotation(20, 10, 50).T)
    assert found is not None
    assert np.rad2deg([found.tilt, found.walls]) == pytest.approx([10, 20], abs=1.5)
    assert alignment(floor) is None


def test_what_lies_straight_stays_as_it_is(caplog):
    xyz, rgb = furnished()
    for yaw, tilt in ((0, 0), (90, 0), (3, 1)):
        scan = Scan(xyz @ rotation(yaw, tilt).T, rgb)
        np.testing.assert_array_equal(scan.input_frame.transform[:3, :3], np.eye(3))
        box = tsp3d.Grounder(RedNetwork(), name="red").ground(scan, "the red box").boxes[0]
        assert box.yaw == 0 and box.rotation is None and "rotation" not in box.to_json()
    assert not caplog.text


def test_it_can_be_kept_as_it_lies(tmp_path, caplog):
    xyz = furnished()[0] @ rotation(30, 20).T
    np.save(tmp_path / "a.npy", xyz)
    for scan in (Scan.from_arrays(xyz, align=False), tsp3d.load_scan(tmp_path / "a.npy", align=False)):
        np.testing.assert_array_equal(scan.input_frame.transform[:3, :3], np.eye(3))
    assert not caplog.text
    result = next(tsp3d.Grounder(RedNetwork(), name="red").ground_many(tmp_path / "a.npy", [], align=False))
    assert result.scan is not None and result.scan.input_frame.yaw == 0


def test_what_tells_no_directions_is_left_alone():
    rng = np.random.default_rng(0)
    ball = rng.normal(size=(30_000, 3))
    ball /= np.linalg.norm(ball, axis=1, keepdims=True)
    one_wall = rng.random((20_000, 3)) * [4, 0, 2.5] @ rotation(0).T
    for xyz in (ball * 1.5, rng.random((5000, 3)) * 4, one_wall, rng.random((3, 3)), np.zeros((500, 3))):
        assert alignment(xyz) is None
    walls = alignment(one_wall @ rotation(30).T)  # of a single wall, the plan; what is up it cannot tell, and keeps
    assert walls is not None and walls.tilt == 0 and walls.walls == pytest.approx(np.deg2rad(30), abs=1e-3)
    round_room = np.stack([2 * np.cos(t := rng.random(40_000) * 2 * np.pi), 2 * np.sin(t), 2.4 * rng.random(40_000)], 1)
    floor = np.stack([ball[:, 0], ball[:, 1], 0 * ball[:, 0]], 1) * 2
    level = alignment(np.concatenate([round_room, floor]) @ rotation(10, 20, 30).T)
    assert level is not None and level.walls == 0
    np.testing.assert_allclose(level.turn @ rotation(10, 20, 30) @ [0, 0, 1], [0, 0, 1], atol=0.02)
    np.testing.assert_allclose(level.turn, turn_upright(level.turn[2]), atol=1e-12)


def test_normals_are_those_of_the_planes():
    rng = np.random.default_rng(0)
    floor = np.c_[rng.random((12_000, 2)) * 3, rng.normal(0, 0.003, 12_000)]
    normals = cell_normals(floor)
    assert len(normals) > 400 and np.abs(normals[:, 2]).min() > np.cos(np.deg2rad(10))
    assert len(cell_normals(rng.random((5000, 3)))) < 40  # a cloud has hardly a plane


def test_the_bounds_are_met():
    xyz = furnished(noise=0.0)[0]
    assert alignment(xyz @ rotation(np.rad2deg(STRAIGHT) + 1).T) is not None
    assert alignment(xyz @ rotation(np.rad2deg(STRAIGHT) - 1).T) is None
    assert alignment(xyz @ rotation(0, np.rad2deg(LEVEL) + 1).T) is not None
    assert alignment(xyz @ rotation(0, np.rad2deg(LEVEL) - 1).T) is None


def test_a_turned_box_is_told_where_it_is_shown(tmp_path, caplog):
    from tsp3d.results import turned
    from tsp3d.viz import write_annotated_ply

    xyz, rgb = furnished()
    with caplog.at_level(logging.ERROR):
        scan = Scan(xyz @ rotation(30).T, rgb, source="a.ply")
    result = tsp3d.Grounder(RedNetwork(), name="red").ground(scan, "the red box")
    assert turned(result.boxes[0]) == ", turned by 30°"
    write_annotated_ply(tmp_path / "a.tsp3d.ply", scan, result)
    assert b"turned by 30 degrees" in (tmp_path / "a.tsp3d.ply").read_bytes()[:1000]
