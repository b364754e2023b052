"""Units, axes and the way back to the input's frame."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tsp3d.io import Frame, Scan, ScanError, UserError
from tsp3d.io.frame import UNITS, UP_ROTATIONS, leveling_shift, plausibility_warning

AXIS = {"x": (1, 0, 0), "y": (0, 1, 0), "z": (0, 0, 1), "-x": (-1, 0, 0), "-y": (0, -1, 0), "-z": (0, 0, -1)}


@pytest.mark.parametrize("up", sorted(UP_ROTATIONS))
def test_up_becomes_z_without_mirroring(up: str):
    rotation = Frame.make(up=up).transform[:3, :3]
    np.testing.assert_array_equal(rotation @ np.array(AXIS[up]), (0, 0, 1))
    assert np.linalg.det(rotation) == pytest.approx(1.0)


@given(st.sampled_from(sorted(UP_ROTATIONS)), st.sampled_from(sorted(UNITS)), st.integers(0, 2**32 - 1))
def test_boxes_return_to_the_points_they_hold(up: str, unit: str, seed: int):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(20, 3)) / UNITS[unit]
    frame = Frame.make(unit, up, shift=rng.normal(size=3))
    metres = frame.to_metres(points)
    low, high = metres.min(0), metres.max(0)
    box = frame.boxes_to_input(np.concatenate([(low + high) / 2, high - low])[None])[0]
    np.testing.assert_allclose(box[:3] - box[3:] / 2, points.min(0), rtol=0, atol=1e-9 / UNITS[unit])
    np.testing.assert_allclose(box[:3] + box[3:] / 2, points.max(0), rtol=0, atol=1e-9 / UNITS[unit])
    np.testing.assert_allclose(frame.to_input(metres), points, rtol=0, atol=1e-9 / UNITS[unit])


def test_frames_are_equal_by_value():
    one, two = Frame.make("cm", "y", np.array([1.0, 2, 3])), Frame.make("cm", "y", np.array([1.0, 2, 3]))
    assert one == two and len({one, two}) == 1
    assert one != Frame.make("cm", "y", np.array([1.0, 2, 4])) and one != "cm"


@pytest.mark.parametrize("matrix", [np.zeros((4, 4)), Frame.make(shift=np.array([1.0, 2, 3])).transform.T])
def test_a_transform_without_a_way_back_is_refused(matrix):
    with pytest.raises(UserError, match="the last row 0 0 0 1"):
        Frame(transform=matrix)


def test_a_scan_with_a_ready_frame_keeps_its_own_copy(room):
    xyz, rgb = room[0].astype(np.float32), room[1].copy()
    scan = Scan(xyz[::-1], rgb[::-1], frame=Frame())
    assert scan.rgb is not None and scan.rgb.flags.c_contiguous and scan.xyz.flags.c_contiguous
    scan = Scan(xyz, rgb, frame=Frame())
    before = scan.xyz.copy()
    xyz[:], rgb[:] = 0, 0
    assert (scan.xyz == before).all() and scan.rgb is not None and scan.rgb.any()


def test_no_points_at_most_is_refused(room):
    with pytest.raises(ScanError, match="max_points must be at least 1, got 0"):
        Scan.from_arrays(room[0], max_points=0)


@pytest.mark.parametrize("frame", [None, Frame()])
def test_colours_of_another_shape_are_told_the_right_one(room, frame):
    with pytest.raises(ScanError, match=r"colours of shape \(\d+, 4\); make them \(N, 3\)"):
        Scan(room[0], np.pad(room[1], ((0, 0), (0, 1))), frame=frame)


def test_unknown_unit_and_axis_name_the_choices():
    with pytest.raises(UserError, match="'inch'.*m, cm, mm"):
        Frame.make(unit="inch")
    with pytest.raises(UserError, match="'up'.*-y"):
        Frame.make(up="up")


def test_floor_is_the_full_slice_and_not_the_reflections_below(room):
    xyz, _ = room
    noisy = np.concatenate([xyz + [7.0, -3.0, 1.25], [[8.0, -2.0, -1.0]] * 5])  # a few points under the floor
    moved = noisy + leveling_shift(noisy)
    assert abs(float(np.median(moved[: len(xyz)][xyz[:, 2] == 0, 2]))) < 0.01
    np.testing.assert_allclose((moved[: len(xyz), :2].max(0) + moved[: len(xyz), :2].min(0)) / 2, 0, atol=0.1)


def test_scan_of_arrays_keeps_the_way_back(room):
    xyz, rgb = room
    scan = Scan(xyz + [100.0, 200.0, 5.0], rgb)
    assert scan.xyz.dtype == np.float32 and scan.rgb is not None and scan.rgb.dtype == np.uint8
    assert abs(float(np.percentile(scan.xyz[:, 2], 5))) < 0.02
    np.testing.assert_allclose(scan.input_frame.to_input(scan.xyz), xyz + [100.0, 200.0, 5.0], atol=1e-5)


@pytest.mark.parametrize(
    ("scale", "advice"), [(1000.0, "--unit mm"), (100.0, "--unit cm"), (1.0, None), (0.001, "--unit")]
)
def test_implausible_extents_name_the_flag(room, scale: float, advice: str | None):
    warning = plausibility_warning(room[0] * scale, "m", "z")
    assert (warning is None) if advice is None else (warning is not None and advice in warning)


def test_a_room_on_its_side_names_the_flag(room):
    lying = room[0][:, [1, 2, 0]]  # y is up
    warning = plausibility_warning(lying, "m", "z")
    assert warning is not None and "--up y" in warning


def test_a_narrow_room_is_not_taken_for_one_on_its_side(room):
    narrow = room[0] * [0.5, 0.4, 1.0]  # 2 × 1.2 × 2.4 m
    assert plausibility_warning(narrow, "m", "z") is None
    for up, axes in (("y", [1, 2, 0]), ("x", [2, 0, 1])):  # wider rooms that do lie on their side
        warning = plausibility_warning((room[0] * [0.9, 0.9, 0.75])[:, axes], "m", "z")
        assert warning is not None and f"--up {up}" in warning


def test_a_camera_frame_names_the_flag(room):
    xyz = room[0] * [0.5, 0.5, 0.5] + [-1.0, 1.0, -1.2]
    camera = np.stack([xyz[:, 0], -xyz[:, 2], xyz[:, 1]], 1)  # y down, z forward
    camera[:, 1] += -float(camera[:, 1].mean())
    warning = plausibility_warning(camera, "m", "z")
    assert warning is not None and "--up -y" in warning


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "gradient", "masked"])
def test_arrays_of_every_kind(room, kind: str):
    xyz, rgb = room[0].astype(np.float32), room[1]
    if kind == "masked":
        hidden = np.zeros(xyz.shape, dtype=bool)
        hidden[:5, 2] = True
        scan = Scan(np.ma.array(xyz, mask=hidden), np.ma.array(rgb))  # type: ignore[arg-type]
        assert len(scan) == len(xyz) - 5 and scan.rgb is not None
        np.testing.assert_array_equal(scan.rgb, rgb[5:])
        return
    tensor = torch.from_numpy(xyz).to(torch.bfloat16 if kind == "bfloat16" else torch.float32)
    scan = Scan(tensor.requires_grad_(kind == "gradient"), torch.from_numpy(rgb))  # type: ignore[arg-type]
    np.testing.assert_allclose(np.ptp(scan.xyz, 0), np.ptp(xyz, 0), atol=0.05)
    np.testing.assert_array_equal(scan.rgb, rgb)  # type: ignore[arg-type]


def test_warnings_reach_the_log_with_the_name(room, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        Scan.from_arrays(room[0] / 100, source="small.ply")
    assert "small.ply" in caplog.text and "--unit" in caplog.text


@pytest.mark.parametrize(("scale", "unit"), [(1000, "mm"), (100, "cm")])
def test_the_wrong_unit_is_refused_where_it_would_take_hours(room, scale: float, unit: str):
    with pytest.raises(ScanError, match=f"far.ply.*--unit {unit}.*parts of 60 m") as refused:
        Scan.from_arrays(room[0] * scale, source="far.ply")
    assert "nothing need be done" not in str(refused.value)
    assert len(Scan.from_arrays(room[0] * scale, unit=unit)) == len(room[0])
