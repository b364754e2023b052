"""Open3D's clouds and meshes; with Open3D where it is installed, and by objects of the same fields."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from tsp3d.io import Scan, ScanError


def cloud(xyz: np.ndarray, rgb: np.ndarray | None) -> SimpleNamespace:
    return SimpleNamespace(points=xyz, colors=np.empty((0, 3)) if rgb is None else rgb / 255)


@pytest.mark.parametrize("colour", [True, False])
def test_a_cloud_is_what_its_arrays_are(room, colour: bool):
    xyz, rgb = room[0], room[1] if colour else None
    scan, wanted = Scan.from_open3d(cloud(xyz * 1000, rgb), unit="mm"), Scan.from_arrays(xyz * 1000, rgb, unit="mm")
    np.testing.assert_array_equal(scan.xyz, wanted.xyz)
    assert (scan.rgb is None) != colour
    if colour:
        np.testing.assert_array_equal(scan.rgb, wanted.rgb)


def test_a_mesh_gives_its_surface():
    corners = np.array([[0.0, 0, 0], [4, 0, 0], [4, 3, 0], [0, 3, 0], [0, 0, 2.5], [4, 0, 2.5]])
    faces = np.array([[0, 1, 2], [0, 2, 3], [0, 1, 5], [0, 5, 4]])
    rgb = np.array([[1.0, 0, 0]] * 4 + [[0, 0, 1.0]] * 2)
    scan = Scan.from_open3d(SimpleNamespace(vertices=corners, triangles=faces, vertex_colors=rgb))
    points = scan.input_frame.to_input(scan.xyz)
    assert (np.minimum(np.abs(points[:, 1]), np.abs(points[:, 2])) < 1e-5).all() and len(scan) > 10_000
    top = points[:, 2] > 2.0
    assert (
        scan.rgb is not None
        and (scan.rgb[top, 2] > 100).all()
        and (scan.rgb[~top & (points[:, 1] > 1), 0] == 255).all()
    )


def test_what_is_neither_is_said():
    with pytest.raises(ScanError, match="LineSet is no Open3D"):
        Scan.from_open3d(type("LineSet", (), {})())
    with pytest.raises(ScanError, match="holds no points"):
        Scan.from_open3d(cloud(np.empty((0, 3)), None))


def test_open3d_itself(room):
    try:
        import open3d
    except (ImportError, OSError) as error:  # it needs system libraries beside its wheel
        pytest.skip(f"open3d: {error}")
    xyz, rgb = room
    legacy = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(xyz))
    legacy.colors = open3d.utility.Vector3dVector(rgb / 255)
    for geometry in (legacy, open3d.t.geometry.PointCloud.from_legacy(legacy)):
        scan = Scan.from_open3d(geometry)
        np.testing.assert_allclose(scan.xyz, Scan(xyz, rgb).xyz, atol=1e-5)
        assert scan.rgb is not None and np.abs(scan.rgb.astype(int) - rgb).max() <= 1
    box = open3d.geometry.TriangleMesh.create_box(4, 3, 2)
    for geometry in (box, open3d.t.geometry.TriangleMesh.from_legacy(box)):
        np.testing.assert_allclose(np.ptp(Scan.from_open3d(geometry).xyz, axis=0), (4, 3, 2), atol=0.01)
