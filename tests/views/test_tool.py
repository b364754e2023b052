"""tools/render_views.py from options to pictures."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from tsp3d.benchmark import views as benchmark
from tsp3d.data.toy import write_toy_dataset


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    path = Path(__file__).parents[2] / "tools" / "render_views.py"
    spec = importlib.util.spec_from_file_location("tool_render_views", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("source", ["val", "val/val-0001"])
def test_a_prepared_scene(tool: ModuleType, source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_toy_dataset(tmp_path / "toy", train=1, val=2, objects=3, points=900)
    assert tool.main(tool.Options(data / source, tmp_path / "out", views=2, fit=True, seed=1)) == 0
    name = "val-0001" if source.endswith("1") else "val-0000"
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == [f"{name}.objects.png", f"{name}.scene.png"]
    out = capsys.readouterr().out
    assert all(name in out for name in written)
    sheet = np.asarray(Image.open(tmp_path / "out" / f"{name}.objects.png"))
    colourful = np.ptp(sheet.astype(int), axis=2) > 60
    white = (sheet == 255).all(axis=2)
    assert colourful.mean() > 0.01 and white.mean() > 0.3


def test_a_scan_without_colour(tool: ModuleType, tmp_path: Path) -> None:
    np.save(tmp_path / "room.npy", np.random.default_rng(0).random((2000, 3)) * [4, 3, 2])
    assert tool.main(tool.Options(tmp_path / "room.npy", tmp_path / "out", views=3)) == 0
    sheet = Image.open(tmp_path / "out" / "room.scene.png")
    assert sheet.size[0] > 2 * 480 and sheet.size[1] > 2 * 360  # two rows of two
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["room.scene.png"]


def test_what_cannot_be_drawn_is_said(tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_toy_dataset(tmp_path / "toy", train=1, val=1)
    cases = {None: "name a scan file", tmp_path / "none.ply": "none.ply"}
    cases[data / "val" / "val-0009"] = "no scene 'val-0009'"
    for source, words in cases.items():
        assert tool.main(tool.Options(source, tmp_path / "out")) == 1
        assert words in capsys.readouterr().err
    (data / "dataset.json").unlink()
    assert tool.main(tool.Options(data / "val", tmp_path / "out")) == 1
    assert "dataset.json is missing" in capsys.readouterr().err


def test_timing(tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "SIZES", (16,))
    monkeypatch.setattr(tool, "time_views", lambda: benchmark.time_views(2000, 3, 1))
    assert tool.main(tool.Options(timing=tmp_path / "views.json")) == 0
    found = json.loads((tmp_path / "views.json").read_text())
    assert (found["kind"], found["points"], found["objects"], found["views"]) == ("views", 2000, 3, 5)
    assert set(found["times"]) == {"16 px", "spacing"} and found["machine"]["cores"]


def test_a_place_that_cannot_be_written_to_is_told_before_the_timing(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tool, "time_views", lambda: pytest.fail("the work began"))
    (tmp_path / "file").touch()
    assert tool.main(tool.Options(timing=tmp_path / "file" / "views.json")) == 1
    assert "cannot be written" in capsys.readouterr().err
