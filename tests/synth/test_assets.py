"""Furniture models: every class is there, stands on the floor, and no model serves both splits."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from tsp3d.synth.assets import AssetLibrary, load_assets, repaint, top_shelf
from tsp3d.synth.mesh import MeshBuilder, Surface
from tsp3d.synth.palette import SHADES, dominant_color, sample_shade
from tsp3d.synth.parametric import (
    Paint,
    Params,
    build_parametric,
    choose_paint,
    parametric_classes,
    style_combinations,
    style_name,
)
from tsp3d.synth.sweethome import classify, decimate, is_validation, load_libraries, read_library
from tsp3d.synth.types import CLASSES, COLORS

CUBE = """mtllib cube.mtl
v 0 0 0
v 2 0 0
v 2 1 0
v 0 1 0
v 0 0 4
v 2 0 4
v 2 1 4
v 0 1 4
usemtl red
f 1 4 3 2
f 5 6 7 8
f 1 2 6 5
f 3 4 8 7
f 2 3 7 6
usemtl steel
f 1 5 8 4
"""
CATALOGUE = """id=test
name#1=Armchair
category#1=Living room
model#1=/lib/chair1.obj
width#1=80
depth#1=70
height#1=90
doorOrWindow#1=false
name#2=Truck
category#2=Vehicles
model#2=/lib/truck.obj
width#2=300
depth#2=900
height#2=300
"""


@pytest.fixture
def library_file(tmp_path: Path) -> Path:
    """A furniture library with one useful model."""
    path = tmp_path / "Test.sh3f"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("PluginFurnitureCatalog.properties", CATALOGUE)
        archive.writestr("lib/chair1.obj", CUBE)
        archive.writestr("lib/cube.mtl", "newmtl red\nKd 0.8 0.1 0.1\nnewmtl steel\nKd 0.5 0.5 0.5\n")
    return path


def test_every_class_has_a_parametric_model() -> None:
    assert {key.split(":")[0] for key in parametric_classes()} == set(CLASSES)


@pytest.mark.parametrize("key", parametric_classes())
@pytest.mark.parametrize("split", ["train", "val"])
def test_parametric_models_are_sound(key: str, split: str) -> None:
    rng = np.random.default_rng(3)
    paint = choose_paint(key, rng)
    built = build_parametric(key, 11, split, paint)
    again = build_parametric(key, 11, split, paint)
    mesh = built.mesh
    np.testing.assert_array_equal(mesh.vertices, again.mesh.vertices)
    assert np.isfinite(mesh.vertices).all() and mesh.faces.max() < len(mesh.vertices) and mesh.faces.min() >= 0
    assert len(mesh.colors) == len(mesh.surfaces) == len(mesh.faces) < 8000
    low, high = mesh.bounds
    np.testing.assert_allclose([low[0] + high[0], low[1] + high[1], low[2]], 0.0, atol=1e-4)
    assert 0.01 < max(mesh.size) < 3.5
    for shelf in built.shelves:
        assert low[0] - 0.01 <= shelf.x0 < shelf.x1 <= high[0] + 0.01
        assert low[1] - 0.01 <= shelf.y0 < shelf.y1 <= high[1] + 0.01
        assert 0.0 <= shelf.z <= high[2] + 0.05


@pytest.mark.parametrize("key", parametric_classes())
def test_styles_of_the_splits_are_disjoint(key: str) -> None:
    names = {split: {style_name(c) for c in style_combinations(key, split)} for split in ("train", "val")}
    assert names["train"] and names["val"] and not names["train"] & names["val"]


def test_size_bands_of_the_splits_are_disjoint() -> None:
    paint = Paint("red", (200, 30, 30), None, Surface.PLAIN)
    bands = {}
    for split in ("train", "val"):
        params = Params(np.random.default_rng(0), split, paint, {})
        bands[split] = {int(params.uniform(0.0, 10.0)) for _ in range(400)}
    assert bands["train"] | bands["val"] == set(range(10)) and not bands["train"] & bands["val"]


def test_same_design_keeps_its_shape_in_another_paint() -> None:
    library = AssetLibrary("train")
    rng = np.random.default_rng(0)
    design = library.design("chair", rng)
    first = library.make(design, rng)
    second = library.make(design, rng, avoid=first.color)
    np.testing.assert_array_equal(first.mesh.vertices, second.mesh.vertices)
    assert first.color != second.color and first.model == second.model


def test_unknown_split_and_class_are_refused() -> None:
    with pytest.raises(ValueError, match="split"):
        AssetLibrary("test")
    with pytest.raises(KeyError, match="spaceship"):
        AssetLibrary("train").design("spaceship", np.random.default_rng(0))


@pytest.mark.parametrize("name", COLORS)
def test_shades_are_named_as_they_were_chosen(name: str) -> None:
    rng = np.random.default_rng(1)
    for factor in (0.85, 1.0):
        shade = np.array([sample_shade(name, rng) for _ in range(8)])
        for rgb in shade:
            points = np.clip(rgb * factor + rng.normal(0, 5, (200, 3)), 0, 255)
            assert dominant_color(points, name) == name


def test_no_color_where_none_dominates() -> None:
    halves = np.concatenate([np.tile(SHADES["red"][0], (50, 1)), np.tile(SHADES["blue"][0], (50, 1))])
    assert dominant_color(halves) is None
    assert dominant_color(halves, "red") is None
    assert dominant_color(np.zeros((0, 3))) is None
    assert dominant_color(np.tile(SHADES["green"][0], (9, 1)), "red") == "green"


def test_library_model_is_read_at_the_size_of_its_catalogue(library_file: Path, tmp_path: Path) -> None:
    (model,) = read_library(library_file)
    assert model.key == "armchair" and model.name == "Test/chair1"
    np.testing.assert_allclose(model.mesh.size, (0.8, 0.7, 0.9), atol=1e-5)
    red = model.groups == 0
    assert red.sum() == 10 and (model.mesh.colors[red] == (204, 25, 25)).all()
    # The OBJ's +z is the front, which is -y here: the face that lies at z = 4 in the file.
    corners = model.mesh.vertices[model.mesh.faces[2:4]]
    np.testing.assert_allclose(corners[..., 1], -0.35, atol=1e-5)
    (cached,) = load_libraries([library_file], tmp_path / "cache")
    (again,) = load_assets(tmp_path, tmp_path / "cache")
    np.testing.assert_array_equal(cached.mesh.vertices, again.mesh.vertices)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_library_models_serve_one_split_only(library_file: Path, tmp_path: Path) -> None:
    models = load_libraries([library_file], tmp_path)
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        drawn = {AssetLibrary(split, models, 1.0).design("armchair", rng).library for _ in range(5)}
        assert drawn == ({0} if is_validation("Test/chair1") == (split == "val") else {-1})


def test_missing_library_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="sh3f"):
        load_assets(tmp_path)


def test_classes_of_catalogue_names() -> None:
    assert classify("Office", "Armchair") == "office chair"
    assert classify("Living room", "Winchester sofa") == "sofa"
    assert classify("Bedroom", "Bedside table") == "nightstand"
    assert classify("Vehicles", "Truck") == ""
    assert classify("Bedroom", "Bunk bed") == ""


def test_decimation_and_repainting() -> None:
    b = MeshBuilder()
    for k in range(40):
        b.cushion((k * 0.1, 0, 0.5), (0.1, 0.4, 1.0), (200, 200, 200))
    b.box((2, 0, 1.2), (1.5, 0.4, 0.1), (20, 20, 20))
    mesh = b.build()
    groups = (mesh.colors[:, 0] < 100).astype(np.uint8)
    slim, slim_groups = decimate(mesh, groups, 2000)
    assert len(slim.faces) <= 2500 and len(slim_groups) == len(slim.faces)
    np.testing.assert_allclose(slim.size, mesh.size, atol=0.03)
    painted = repaint(slim, slim_groups, Paint("blue", (44, 80, 164), "fabric", Surface.FABRIC))
    assert dominant_color(painted.colors[slim_groups == 0], "blue") == "blue"
    assert (painted.colors[slim_groups == 1] == slim.colors[slim_groups == 1]).all()


def test_top_of_a_table_is_found_and_of_a_ball_not() -> None:
    b = MeshBuilder()
    b.box((0, 0, 0.71), (1.2, 0.7, 0.04), (100, 80, 60))
    b.legs(1.2, 0.7, 0.7, 0.05, (100, 80, 60), Surface.WOOD)
    shelf = top_shelf(b.build())
    assert shelf is not None and shelf.z == pytest.approx(0.73, abs=1e-3)
    ball = MeshBuilder()
    ball.cushion((0, 0, 0.5), (1, 1, 1), (100, 80, 60), power=2.0)
    assert top_shelf(ball.build()) is None
