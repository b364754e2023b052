"""Every format gives the same room; meshes give their surface with its colours."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import trimesh
from PIL import Image
from plyfile import PlyData, PlyElement
from trimesh.visual import TextureVisuals
from trimesh.visual.material import SimpleMaterial

from tsp3d.io import Scan, ScanError, load_scan
from tsp3d.io.surface import spread_over_faces


def test_points_come_back(point_format, room, tmp_path):
    suffix, write = point_format
    xyz, rgb = room
    write(tmp_path / f"room{suffix}", xyz, rgb)
    scan = load_scan(tmp_path / f"room{suffix}")
    assert len(scan) == len(xyz)
    np.testing.assert_allclose(scan.input_frame.to_input(scan.xyz), xyz, atol=2e-4)  # LAS keeps tenths of a millimetre
    assert scan.rgb is not None
    np.testing.assert_array_equal(scan.rgb, rgb)


def test_points_without_colour(point_format, room, tmp_path):
    suffix, write = point_format
    write(tmp_path / f"room{suffix}", room[0], None)
    assert load_scan(tmp_path / f"room{suffix}").rgb is None


def test_unit_and_axis_give_the_same_scan(room, tmp_path, write_scan):
    xyz, rgb = room
    straight = load_scan(write_scan(tmp_path / "a.npz", xyz, rgb))
    turned = np.stack([xyz[:, 0], xyz[:, 2], -xyz[:, 1]], axis=1) * 1000  # y up, mm
    other = load_scan(write_scan(tmp_path / "b.npz", turned, rgb), up="y", unit="mm")
    np.testing.assert_allclose(other.xyz, straight.xyz, atol=1e-5)
    np.testing.assert_allclose(other.input_frame.to_input(other.xyz), turned, atol=1e-2)


def test_ascii_ply(room, tmp_path):
    xyz, rgb = room
    table = np.empty(
        len(xyz), dtype=[("x", "f4"), ("y", "f4"), ("z", "f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")]
    )
    for name, column in zip(table.dtype.names or (), [*xyz.T, *rgb.T], strict=True):
        table[name] = column
    PlyData([PlyElement.describe(table, "vertex")], text=True).write(str(tmp_path / "a.ply"))
    scan = load_scan(tmp_path / "a.ply")
    assert len(scan) == len(xyz) and scan.rgb is not None


def test_fractions_a_little_beyond_one_are_no_black_scan(room):
    xyz, rgb = room
    for most in (1.01, 257.5):
        loaded = Scan(xyz, rgb / rgb.max() * most).rgb
        assert loaded is not None and loaded.max() == 255 and loaded.mean() > 100


def test_negative_colours_are_told(room, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        Scan(room[0], room[1] / 127.5 - 1)
    assert "colours begin at -0.686" in caplog.text


@pytest.mark.parametrize("scale", [1 / 255, 1, 257])
def test_one_absurd_colour_does_not_darken_the_others(room, scale: float, caplog: pytest.LogCaptureFixture):
    rgb = room[1].astype(float) * scale
    rgb[7] = 1e6
    with caplog.at_level(logging.WARNING):
        loaded = Scan(room[0], rgb).rgb
    assert loaded is not None and (loaded[7] == 255).all() and "but some go to 1e+06" in caplog.text
    np.testing.assert_array_equal(np.delete(loaded, 7, 0), np.delete(room[1], 7, 0))


@pytest.mark.parametrize(("scale", "kind"), [(1 / 255, float), (1, float), (257, np.uint16)])
def test_colour_ranges(room, tmp_path, scale: float, kind: type):
    xyz, rgb = room
    np.savez(tmp_path / "a.npz", points=xyz, colors=(rgb.astype(float) * scale).astype(kind))
    loaded = load_scan(tmp_path / "a.npz").rgb
    assert loaded is not None
    np.testing.assert_array_equal(loaded, rgb)


@pytest.mark.parametrize("kind", ["f4", "u4", ">f4", ">u4", "3u1", None])
def test_fields_of_an_array_may_hold_packed_colours(room, tmp_path, kind: str | None):
    xyz, rgb = room
    colours = [("rgb", kind)] if kind else [("Red", "u1"), ("Green", "u1"), ("Blue", "u1")]
    table = np.empty(len(xyz), dtype=[("x", "f8"), ("y", "f8"), ("z", "f8"), ("intensity", "f4"), *colours])
    for column, axis in enumerate("xyz"):
        table[axis] = xyz[:, column]
    if kind == "3u1":
        table["rgb"] = rgb
    elif kind:
        packed = rgb.astype(np.uint32) @ np.array([65536, 256, 1], dtype=np.uint32)
        table["rgb"] = packed.view(np.float32) if "f" in kind else packed
    else:
        for column, (name, _) in enumerate(colours):
            table[name] = rgb[:, column]
    np.save(tmp_path / "a.npy", table)
    np.savez(tmp_path / "a.npz", points=table)
    for name in ("a.npy", "a.npz"):
        loaded = load_scan(tmp_path / name).rgb
        assert loaded is not None
        np.testing.assert_array_equal(loaded, rgb)


def test_one_colour_everywhere_is_no_colour(room, tmp_path, write_scan):
    path = write_scan(tmp_path / "white.ply", room[0], np.full_like(room[1], 255))
    assert load_scan(path).rgb is None


@pytest.mark.parametrize(
    ("text", "coloured"),
    [
        ("# comment\nx,y,z,r,g,b\n0,0,0,1,2,3\n1,1,1,4,5,6\n", True),
        ("r;g;b;x;y;z\n1;2;3;0;0;0\n4;5;6;1;1;1\n", True),
        ("2\n0 0 0 900 1 2 3\n1 1 1 900 4 5 6\n", True),  # PTS: a count, then x y z intensity r g b
        ("//X Y Z R G B Range\n2\n0 0 0 1 2 3 9\n1 1 1 4 5 6 9\n", True),  # CloudCompare: names, then a count
        ("//X Y Z Nx Ny Nz\n2\n0 0 0 1 0 0\n1 1 1 0 1 0\n", False),
        ("0\t0\t0\n\n1\t1\t1\n", False),
        ("0, 0, 0, \n1, 1, 1, \n", False),
        ("x y z intensity\n0 0 0 9\n1 1 1 9\n", False),
        ("# x y z\n0 0 0 # floor, left\n1 1 1 # ceiling; right\n.5 .5 .5\n", False),
    ],
)
def test_text_variants(tmp_path, text: str, coloured: bool):
    (tmp_path / "a.txt").write_text(text)
    scan = load_scan(tmp_path / "a.txt")
    np.testing.assert_allclose(np.ptp(scan.xyz, axis=0), 1.0, atol=1e-6)
    if coloured:
        assert scan.rgb is not None
        np.testing.assert_array_equal(scan.rgb, [[1, 2, 3], [4, 5, 6]])
    else:
        assert scan.rgb is None


@pytest.mark.parametrize("suffix", [".txt", ".pts"])
@pytest.mark.parametrize("label", [True, False])
def test_seven_columns_without_names(room, tmp_path, label: bool, suffix: str, caplog: pytest.LogCaptureFixture):
    rng = np.random.default_rng(0)
    xyz, rgb = room[0], rng.integers(0, 256, room[1].shape)
    more = (np.arange(len(xyz)) % 13)[:, None] if label else rng.integers(0, 99, (len(xyz), 1))
    path = tmp_path / f"a{suffix}"
    np.savetxt(path, np.hstack([xyz, rgb, more] if label else [xyz, more, rgb]), fmt="%.6g")
    with caplog.at_level(logging.WARNING):
        loaded = load_scan(path).rgb
    assert loaded is not None
    assert np.array_equal(loaded, rgb) is (not label or suffix == ".txt")  # PTS has no label
    assert (("r g b label" if label else "intensity r g b") in caplog.text) is (suffix == ".txt")


def test_bad_row_is_named(tmp_path):
    (tmp_path / "a.xyz").write_text("0 0 0\n1 1 1\n2 two 2\n")
    with pytest.raises(ScanError, match=r"a\.xyz: line 3 \('2 two 2'\)"):
        load_scan(tmp_path / "a.xyz")


def test_mesh_surface(mesh_suffix, table_mesh, tmp_path):
    path = tmp_path / f"table{mesh_suffix}"
    table_mesh.export(str(path))
    scan = load_scan(path, up="z")
    assert len(scan) == 200_000
    np.testing.assert_allclose(np.ptp(scan.xyz, axis=0), (2.0, 1.0, 0.8), atol=0.01)
    back = scan.input_frame.to_input(scan.xyz)
    np.testing.assert_allclose((back.min(0) + back.max(0)) / 2, (5.0, 3.0, 0.4), atol=0.01)
    np.testing.assert_array_equal(scan.xyz, load_scan(path, up="z").xyz)


def test_gltf_is_y_up_by_its_specification(table_mesh, tmp_path):
    table_mesh.export(str(tmp_path / "t.glb"))
    assert load_scan(tmp_path / "t.glb").input_frame.up == "y"


def test_vertex_colours_of_a_mesh(table_mesh, tmp_path):
    mesh = table_mesh.copy()
    mesh.visual.vertex_colors = np.where(np.arange(8)[:, None] < 4, [200, 30, 30, 255], [30, 30, 200, 255])
    mesh.export(str(tmp_path / "t.ply"))
    rgb = load_scan(tmp_path / "t.ply").rgb
    assert rgb is not None and (rgb[:, 1] == 30).all() and rgb[:, 0].min() < 60 and rgb[:, 0].max() > 170


def test_texture_of_a_mesh(tmp_path):
    picture = np.zeros((8, 8, 3), dtype=np.uint8)
    picture[:, :4], picture[:, 4:] = (250, 0, 0), (0, 250, 0)  # left red, right green
    vertices = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=float)
    material = SimpleMaterial(image=Image.fromarray(picture))
    visual = TextureVisuals(uv=vertices[:, :2], material=material)
    mesh = trimesh.Trimesh(vertices, [[0, 1, 2], [0, 2, 3]], visual=visual, process=False)
    mesh.export(str(tmp_path / "quad.glb"))
    scan = load_scan(tmp_path / "quad.glb", up="z")
    assert scan.rgb is not None
    x = scan.input_frame.to_input(scan.xyz)[:, 0]
    assert (scan.rgb[x < 0.45] == (250, 0, 0)).all() and (scan.rgb[x > 0.55] == (0, 250, 0)).all()


def test_parts_of_a_scene_in_their_places_and_colours(tmp_path):
    scene = trimesh.Scene()
    for place, colour in ((0.0, [220, 20, 20, 255]), (4.0, [20, 20, 220, 255])):
        part = trimesh.creation.box(extents=(1, 1, 1))
        part.visual.face_colors = colour  # type: ignore[union-attr]
        scene.add_geometry(part, transform=trimesh.transformations.translation_matrix((place, 0, 0)))
    scene.export(str(tmp_path / "two.glb"))
    scan = load_scan(tmp_path / "two.glb", up="z")
    assert scan.rgb is not None
    x = scan.input_frame.to_input(scan.xyz)[:, 0]
    assert (scan.rgb[x < 1, 0] > 150).all() and (scan.rgb[x > 3, 2] > 150).all()
    assert np.ptp(x) == pytest.approx(5.0, abs=0.02)


def test_pcd_without_count(room, tmp_path, write_scan):
    write_scan(tmp_path / "a.pcd", *room)
    (tmp_path / "b.pcd").write_text((tmp_path / "a.pcd").read_text().replace("COUNT 1 1 1 1\n", ""))
    first, second = load_scan(tmp_path / "a.pcd"), load_scan(tmp_path / "b.pcd")
    np.testing.assert_array_equal(first.xyz, second.xyz)
    assert first.rgb is not None and second.rgb is not None and (first.rgb == second.rgb).all()


@pytest.mark.parametrize("header", ["", "x,y,z,nx,ny,nz\n"])
def test_byte_order_mark_is_no_part_of_a_table(header: str, tmp_path):
    rows = "\n".join(f"{x},{y},{z},{x},{y},{z}" for x in range(3) for y in range(3) for z in range(2))
    (tmp_path / "plain.csv").write_text(header + rows)
    (tmp_path / "marked.csv").write_text(header + rows, encoding="utf-8-sig")
    plain, marked = load_scan(tmp_path / "plain.csv"), load_scan(tmp_path / "marked.csv")
    np.testing.assert_array_equal(plain.xyz, marked.xyz)
    assert (plain.rgb is None) == (marked.rgb is None) == bool(header)


@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_ply_comments_may_have_any_letters(tmp_path, kind):
    header = f"ply\nformat {kind} 1.0\ncomment écrit à Zürich\nelement vertex 3\n"
    header += "".join(f"property float {axis}\n" for axis in "xyz") + "end_header\n"
    xyz = np.array([[0, 0, 0], [1.5, 0, 0], [0, 2.25, 0.5]], dtype=np.float32)
    order = ">f4" if "big" in kind else "<f4"
    body = b"0 0 0\n1.5 0 0\n0 2.25 0.5\n" if kind == "ascii" else xyz.astype(order).tobytes()
    for encoding in ("utf-8", "latin-1"):
        (tmp_path / "a.ply").write_bytes(header.encode(encoding) + body)
        np.testing.assert_allclose(np.ptp(load_scan(tmp_path / "a.ply").xyz, axis=0), (1.5, 2.25, 0.5), atol=0.02)


def test_places_on_a_mesh_are_spread_evenly_over_its_area():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 0, 0], [8, 0, 0], [5, 1, 0], [np.nan, 0, 0]])
    triangles = np.array([[0, 1, 2], [3, 4, 5], [0, 1, 6]])  # the second is three times the first; the third has none
    face, weights, points = spread_over_faces(vertices, triangles, 20_000, "mesh")
    assert np.bincount(face, minlength=3).tolist() == [5000, 15_000, 0]
    np.testing.assert_allclose(weights.mean(0), 1 / 3, atol=0.01)
    np.testing.assert_allclose((weights**2).mean(0), 1 / 6, atol=0.01)  # as of an even cover
    np.testing.assert_allclose(points[face == 1].mean(0), [6, 1 / 3, 0], atol=0.03)
