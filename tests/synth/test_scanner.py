"""The virtual scanner: rays, noise, missing depth, and clouds that lie on the room's surfaces."""

from __future__ import annotations

import numpy as np
import pytest

from tsp3d.synth.assets import AssetLibrary
from tsp3d.synth.mesh import Mesh, MeshBuilder
from tsp3d.synth.palette import dominant_color
from tsp3d.synth.preview import save_preview
from tsp3d.synth.room import Room, build_room
from tsp3d.synth.scanner import RawScan, ScannerConfig, cast, scan_room
from tsp3d.synth.scene import label_scan, without_strays

QUICK = ScannerConfig(frames=(14, 14), width=64, height=48)


@pytest.fixture(scope="module")
def room() -> Room:
    """A furnished room."""
    return build_room(AssetLibrary("train"), np.random.default_rng(2), "bedroom")


@pytest.fixture(scope="module")
def scan(room: Room) -> RawScan:
    """Its scan."""
    return scan_room(room, np.random.default_rng(3), QUICK)


def test_cast_against_a_box() -> None:
    b = MeshBuilder()
    b.box((0, 0, 0.5), (1, 1, 1), (9, 9, 9))
    mesh = b.build()
    origins = np.array([[-3.0, 0.1, 0.4], [-3.0, 2.0, 0.4]])
    distance, face = cast(mesh, origins, np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
    assert distance[0] == pytest.approx(2.5, abs=1e-5) and face[0] >= 0
    assert np.isinf(distance[1]) and face[1] < 0


def test_scan_is_reproducible(room: Room, scan: RawScan) -> None:
    again = scan_room(room, np.random.default_rng(3), QUICK)
    np.testing.assert_array_equal(scan.xyz, again.xyz)
    np.testing.assert_array_equal(scan.rgb, again.rgb)
    np.testing.assert_array_equal(scan.owner, again.owner)


def test_points_lie_near_their_piece(room: Room, scan: RawScan) -> None:
    assert len(scan.xyz) > 5000 and scan.xyz.dtype == np.float32 and scan.rgb.dtype == np.uint8
    outline = room.outline
    assert outline.contains(scan.xyz[:, :2], -0.3).all()
    assert scan.xyz[:, 2].min() > -0.3 and scan.xyz[:, 2].max() < outline.height + 0.3
    seen = 0
    for index, piece in enumerate(room.placed):
        points = scan.xyz[scan.owner == index]
        if len(points) < 50:
            continue
        low, high = piece.asset.mesh.placed(piece.x, piece.y, piece.z, piece.yaw).bounds
        off = np.maximum(np.maximum(low - points, points - high), 0).max(axis=1)
        assert np.median(off) < 0.03 and np.percentile(off, 98) < 0.12
        seen += 1
    assert seen >= 5


def test_floor_is_level_and_noise_grows_with_depth() -> None:
    empty = build_room(AssetLibrary("train"), np.random.default_rng(0), "bathroom")
    bare = Room(empty.kind, empty.outline, empty.finish, (), None)
    exact = ScannerConfig(frames=(10, 10), width=64, height=48, noise=0.0, drift=0.0)
    cloud = scan_room(bare, np.random.default_rng(1), exact)
    inner = bare.outline.contains(cloud.xyz[:, :2], 0.1)  # the skirting board is left out
    floor = cloud.xyz[inner & (np.abs(cloud.xyz[:, 2]) < 0.03)]
    assert len(floor) > 500 and np.abs(floor[:, 2]).max() < 1e-3
    spread = []
    for noise in (0.001, 0.004):
        rough = ScannerConfig(frames=(10, 10), width=64, height=48, noise=noise, drift=0.0)
        cloud = scan_room(bare, np.random.default_rng(1), rough)
        inner = bare.outline.contains(cloud.xyz[:, :2], 0.1)
        spread.append(cloud.xyz[inner & (np.abs(cloud.xyz[:, 2]) < 0.03), 2].std())
    assert 0.0003 < spread[0] < spread[1]


def test_dark_surfaces_return_less(room: Room) -> None:
    counts = []
    for tone in (12, 200):
        pieces = []
        for piece in room.placed:
            mesh = piece.asset.mesh
            painted = Mesh(mesh.vertices, mesh.faces, np.full_like(mesh.colors, tone), np.zeros_like(mesh.surfaces))
            asset = type(piece.asset)(**{**vars(piece.asset), "mesh": painted})
            pieces.append(type(piece)(**{**vars(piece), "asset": asset}))
        repainted = Room(room.kind, room.outline, room.finish, tuple(pieces), None)
        counts.append(int((scan_room(repainted, np.random.default_rng(0), QUICK).owner >= 0).sum()))
    assert counts[0] < 0.95 * counts[1]


def test_labels_boxes_and_ids(room: Room, scan: RawScan) -> None:
    scene = label_scan("s", room, scan, None, np.random.default_rng(0))
    objects = scene.description.objects
    assert [item.id for item in objects] == list(range(len(objects))) and len(objects) >= 5
    assert set(np.unique(scene.instance)) == {-1, *range(len(objects))}
    for item in objects:
        points = np.round(scene.xyz[scene.instance == item.id] * 1000) / 1000
        low, high = points.min(axis=0), points.max(axis=0)
        np.testing.assert_allclose(item.box[:3], (low + high) / 2, atol=2e-4)
        np.testing.assert_allclose(item.box[3:], high - low, atol=2e-4)
        if item.color is not None and item.name not in ("window", "mirror"):
            assert dominant_color(scene.rgb[scene.instance == item.id], item.color) == item.color
        if item.support_id >= 0:
            assert item.support == "object"


def test_thinning_keeps_the_boxes(room: Room, scan: RawScan) -> None:
    whole = label_scan("s", room, scan, None, np.random.default_rng(0))
    thin = label_scan("s", room, scan, 4000, np.random.default_rng(0))
    assert len(thin.xyz) == 4000 and thin.scanned == len(whole.xyz)
    boxes = {item.model + str(item.box) for item in whole.description.objects}
    for item in thin.description.objects:
        assert item.model + str(item.box) in boxes
        points = thin.xyz[thin.instance == item.id]
        half = np.array(item.box[3:]) / 2 + 1e-3
        assert len(points) > 0 and (np.abs(points - item.box[:3]) <= half).all()


def test_strays_are_found() -> None:
    points = np.random.default_rng(0).uniform(0, 1, (2000, 3))
    points[7] = (0.5, 0.5, 1.4)
    keep = without_strays(points)
    assert not keep[7] and keep.sum() == 1999


def test_preview(tmp_path, scan: RawScan) -> None:
    save_preview(tmp_path / "room.png", scan.xyz, scan.rgb, scan.owner)
    assert (tmp_path / "room.png").stat().st_size > 10000
