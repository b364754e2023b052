"""Rooms: nothing overlaps, things stand where they are supported, seats face tables."""

from __future__ import annotations

import numpy as np
import pytest

from tsp3d.synth.assets import AssetLibrary
from tsp3d.synth.room import Room, build_room
from tsp3d.synth.room_geometry import Footprint, Outline, overlap
from tsp3d.synth.room_recipes import RECIPES


@pytest.fixture(scope="module")
def rooms() -> list[Room]:
    """One room of each kind, and some more."""
    library = AssetLibrary("train")
    kinds = [*RECIPES, "living room", "office"]
    return [build_room(library, np.random.default_rng(seed), kind) for seed, kind in enumerate(kinds)]


def test_same_seed_same_room() -> None:
    library = AssetLibrary("val")
    first, second = (build_room(library, np.random.default_rng(5)) for _ in range(2))
    assert [p.asset.model for p in first.placed] == [p.asset.model for p in second.placed]
    np.testing.assert_array_equal(first.mesh()[0].vertices, second.mesh()[0].vertices)


def test_everything_is_inside(rooms: list[Room]) -> None:
    for room in rooms:
        for piece in room.placed:
            assert room.outline.contains(piece.footprint.corners(), -0.01).all(), (room.kind, piece.asset.key)
            assert piece.z + piece.asset.mesh.size[2] <= room.outline.height + 1e-6
            low = piece.asset.mesh.placed(piece.x, piece.y, piece.z, piece.yaw).bounds[0, 2]
            assert low >= -1e-4


def test_nothing_overlaps(rooms: list[Room]) -> None:
    for room in rooms:
        for i, a in enumerate(room.placed):
            for j in range(i):
                b = room.placed[j]
                if "rug" in (a.asset.name, b.asset.name) or i == b.parent or j == a.parent:
                    continue
                # A chair may be pushed a little under its table.
                margin = -0.16 if i == b.neighbour or j == a.neighbour else -0.002
                assert not overlap(a.footprint.grown(margin), b.footprint), (room.kind, a.asset.key, b.asset.key)


def test_supports(rooms: list[Room]) -> None:
    supported = 0
    for room in rooms:
        for piece in room.placed:
            if piece.support == "object":
                parent = room.placed[piece.parent]
                levels = [parent.z + shelf.z for shelf in parent.asset.shelves]
                assert min(abs(piece.z - level) for level in levels) < 0.01
                reach = Footprint(
                    parent.x, parent.y, parent.footprint.half_x, parent.footprint.half_y, parent.yaw, 0, 9
                )
                assert overlap(Footprint(piece.x, piece.y, 0.01, 0.01, 0, 0, 9), reach.grown(0.03))
                supported += 1
            elif piece.support == "floor":
                assert piece.z == 0.0
            elif piece.support == "ceiling":
                assert piece.z + piece.asset.mesh.size[2] > room.outline.height - 0.05
    assert supported > 10


def test_seats_look_at_their_table(rooms: list[Room]) -> None:
    seats = 0
    for room in rooms:
        for piece in room.placed:
            if piece.asset.name in ("chair", "office chair") and piece.neighbour >= 0:
                table = room.placed[piece.neighbour]
                front = piece.yaw - np.pi / 2
                ahead = np.array([np.cos(front), np.sin(front)])
                nearest = np.clip(_local(table, piece.x, piece.y), -0.95, 0.95)
                assert ahead @ (_world(table, nearest) - (piece.x, piece.y)) > 0
                seats += 1
    assert seats > 4


def _local(piece, x: float, y: float) -> np.ndarray:
    f = piece.footprint
    dx, dy = x - f.x, y - f.y
    cos, sin = np.cos(f.yaw), np.sin(f.yaw)
    return np.array([(cos * dx + sin * dy) / f.half_x, (-sin * dx + cos * dy) / f.half_y])


def _world(piece, share: np.ndarray) -> np.ndarray:
    f = piece.footprint
    lx, ly = share[0] * f.half_x, share[1] * f.half_y
    cos, sin = np.cos(f.yaw), np.sin(f.yaw)
    return np.array([f.x + cos * lx - sin * ly, f.y + sin * lx + cos * ly])


def test_furniture_at_walls_faces_the_room(rooms: list[Room]) -> None:
    for room in rooms:
        for piece in room.placed:
            if piece.asset.name in ("wardrobe", "sofa", "bed", "picture", "window", "door"):
                front = piece.yaw - np.pi / 2
                step = np.array([[np.cos(front), np.sin(front)]]) * (piece.footprint.half_y + 0.15)
                assert room.outline.contains(step + (piece.x, piece.y)).all()
                assert not room.outline.contains((piece.x, piece.y) - step).all()


def test_door_gives_the_entrance(rooms: list[Room]) -> None:
    for room in rooms:
        doors = [piece for piece in room.placed if piece.asset.name == "door"]
        assert (room.entrance is None) == (not doors)
        if room.entrance:
            x, y, yaw = room.entrance
            assert room.outline.contains(np.array([[x + np.cos(yaw) * 0.3, y + np.sin(yaw) * 0.3]])).all()


def test_unknown_kind() -> None:
    with pytest.raises(KeyError, match="ballroom"):
        build_room(AssetLibrary("train"), np.random.default_rng(0), "ballroom")


def test_overlap_of_footprints() -> None:
    a = Footprint(0, 0, 1, 0.5, 0.0, 0.0, 1.0)
    assert overlap(a, Footprint(1.5, 0, 0.6, 0.6, 0.0, 0.5, 2.0))
    assert not overlap(a, Footprint(1.5, 0, 0.6, 0.6, 0.0, 1.0, 2.0))
    assert not overlap(a, Footprint(1.7, 0, 0.6, 0.6, 0.0, 0.0, 1.0))
    assert not overlap(a, Footprint(1.4, 1.2, 0.6, 0.2, np.pi / 4, 0.0, 1.0))
    assert overlap(a, Footprint(1.3, 0.4, 0.6, 0.2, np.pi / 4, 0.0, 1.0))


def test_l_shaped_outline() -> None:
    outline = Outline(4.0, 3.0, 2.5, (1.0, 1.0))
    assert len(outline.walls) == 6
    inside = outline.contains(np.array([[0, 0], [1.9, 1.4], [1.9, 0.4], [0.9, 1.4]]))
    assert inside.tolist() == [True, False, True, True]
    for wall in outline.walls:
        assert outline.contains(np.array([wall.point(wall.length / 2, 0.05)])).all()
        assert not outline.contains(np.array([wall.point(wall.length / 2, -0.05)])).all()
