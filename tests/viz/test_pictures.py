"""PNG and PLY of results: readable, in the input's frame, and never half written."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from plyfile import PlyData

from tsp3d.io import Scan, UserError, load_scan
from tsp3d.viz import png, write_annotated_ply, write_png
from tsp3d.viz.png import best_view, near_walls, scene_points

# Helpers beside the tests: nothing is on the path in pytest's importlib mode.
sys.path.insert(0, str(Path(__file__).parent))
from red_cube import CUBE, make_grounding, make_room


@pytest.mark.parametrize("text", ["the red cube", "costs $5 and $6_{x}", "红色的椅子", "word " * 150, "\\frac{a}"])
def test_png_of_any_sentence(text: str, tmp_path):
    scan = make_room()
    write_png(tmp_path / "a.png", scan, make_grounding(scan, CUBE, text))
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert picture.shape == (760, 1520, 3)
    red = (picture[..., 0] > 200) & (picture[..., 1] < 60) & (picture[..., 2] < 80)  # the box's lines
    assert red[:, :760].sum() > 200 and red[:, 760:].sum() > 200
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("count", [1, 2, 30])
def test_png_of_few_points_and_without_a_box(count: int, tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(png, "PANEL", (120, 100))
    scan = Scan(np.random.default_rng(0).random((count, 3)))
    write_png(tmp_path / "a.png", scan, make_grounding(scan, np.zeros((0, 6))))
    write_png(tmp_path / "b.png", scan, make_grounding(scan, np.array([[500.0, 0, 0, 1, 1, 1]])))
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_same_result_same_picture(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(png, "PANEL", (120, 100))
    scan = make_room(colour=False)
    for name in ("a.png", "b.png"):
        write_png(tmp_path / name, scan, make_grounding(scan, CUBE))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_ceiling_and_near_walls_leave_the_view_open():
    scan = make_room()
    xyz, colours = scene_points(scan, CUBE)
    assert xyz[:, 2].max() < 2.2 and len(xyz) == len(colours)
    camera = best_view(xyz, CUBE, xyz.min(0), xyz.max(0), scan)
    hidden = near_walls(xyz, camera)
    side = np.where(camera.rotation[2, :2] < 0, 1, -1) * xyz[hidden, :2]
    assert hidden.any() and (side > np.array([2.0, 1.5]) - 0.45).any(axis=1).all()
    inside = (np.abs(xyz - CUBE[0, :3]) < 0.4).all(axis=1)
    assert not hidden[inside].any()


@pytest.mark.parametrize(("up", "unit"), [("z", "m"), ("y", "mm")])
def test_annotated_ply_is_in_the_frame_of_the_input(up: str, unit: str, tmp_path):
    scan = make_room(up=up, unit=unit)
    result = make_grounding(scan, CUBE[:1], "the “red” cube\nnow")
    write_annotated_ply(tmp_path / "a.ply", scan, result)
    data = PlyData.read(str(tmp_path / "a.ply"))
    vertex = data["vertex"].data
    xyz = np.stack([vertex[axis] for axis in "xyz"], axis=1)
    np.testing.assert_allclose(xyz[: len(scan)], scan.input_frame.to_input(scan.xyz), rtol=1e-5, atol=1e-3)
    ends = xyz[data["edge"].data["vertex1"]], xyz[data["edge"].data["vertex2"]]
    corners = np.concatenate(ends)
    centre, size = np.array(result.boxes[0].center), np.array(result.boxes[0].size)
    np.testing.assert_allclose(corners.min(0), centre - size / 2, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(corners.max(0), centre + size / 2, rtol=1e-4, atol=1e-3)
    assert len(load_scan(tmp_path / "a.ply", up=up, unit=unit)) == len(vertex)


def test_survey_coordinates_are_written_in_full(tmp_path):
    scan = Scan(make_room().xyz + np.array([500_000.0, 5_400_000.0, 0.0]))
    grounding = make_grounding(scan, CUBE)
    write_annotated_ply(tmp_path / "a.ply", scan, grounding)
    comment = PlyData.read(str(tmp_path / "a.ply")).comments[1]
    assert "centre 500001.0" in comment and " 5400000.5" in comment and comment.endswith("m score 0.900")
    assert "(500001.0" in png._subtitle(scan, grounding)


def test_the_picture_says_why_nothing_was_found():
    scan = make_room()
    nothing = replace(make_grounding(scan, np.zeros((0, 6))), reason="nothing fits (presence 0.15, needed 0.30)")
    assert png._subtitle(scan, nothing) == "r.ply: nothing fits (presence 0.15, needed 0.30)"


def test_a_mask_is_tinted_in_both(tmp_path):
    scan = make_room()
    plain = make_grounding(scan, CUBE)
    masked = replace(plain, masks=(np.arange(10), np.arange(10, 20)))
    write_annotated_ply(tmp_path / "a.ply", scan, masked)
    red = PlyData.read(str(tmp_path / "a.ply"))["vertex"]["red"][: len(scan)].astype(int)
    assert scan.rgb is not None
    changed = np.flatnonzero(red != scan.rgb[:, 0])
    assert changed.tolist() == list(range(20)) and len(set(red[:10])) == 1 and red[12] != red[7]
    assert not np.array_equal(scene_points(scan, CUBE)[1], scene_points(scan, CUBE, masked.mask)[1])


def test_places_that_cannot_be_written(tmp_path):
    scan = make_room()
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match="cannot be written"):
        write_png(tmp_path / "file" / "a.png", scan, make_grounding(scan, CUBE))
    with pytest.raises(UserError, match="folder"):
        write_annotated_ply(tmp_path, scan, make_grounding(scan, CUBE))
    assert (tmp_path / "file").read_text() == "kept"
