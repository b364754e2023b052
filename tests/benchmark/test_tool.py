"""tools/benchmark.py from options to files, on little; rooms, model and scale."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

from tsp3d.benchmark import model, rooms, scale
from tsp3d.sparse import ops

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool():
    """tools/benchmark.py as a module."""
    spec = importlib.util.spec_from_file_location("tool_benchmark", ROOT / "tools" / "benchmark.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_engine(tool, small_rooms, tmp_path, capsys):
    options = tool.Engine(
        peers="reference", voxels=(90,), channels=(4,), backbone=(4,), rounds=1, device="cpu", json=tmp_path / "e.json"
    )
    assert tool.main(options) == 0
    assert "backbone 4, with maps" in capsys.readouterr().out
    found = json.loads((tmp_path / "e.json").read_text())
    assert found["kind"] == "engine" and len(found["cases"]) == 6 and (tmp_path / "e.png").exists()
    assert tool.main(tool.Engine(peers="torchsparse")) == 1
    assert "no peer is called torchsparse" in capsys.readouterr().err


def test_engine_in_half_precision(tool, small_rooms, tmp_path, capsys):
    options = tool.Engine(
        peers="reference", voxels=(90,), channels=(4,), backbone=(4, 6), blocks=(1, 2), backward=True,
        precision="float16", rounds=1, device="cpu", json=tmp_path / "e.json",
    )  # fmt: skip
    assert tool.main(options) == 0
    cases = json.loads((tmp_path / "e.json").read_text())["cases"]
    assert [case["precision"] for case in cases] == ["float32"] * 2 + ["float16"] * 7  # maps have none
    assert {peer["status"] for case in cases for peer in case["peers"].values()} == {"ok"}
    assert any(1e-5 < case["peers"]["tsp3d"]["error"] < 3e-2 for case in cases)
    capsys.readouterr()
    assert tool.main(tool.Engine(precision="tf32", device="cpu")) == 1
    assert "set TSP3D_TF32=1" in capsys.readouterr().err
    assert tool.main(tool.Engine(precision="float8", device="cpu")) == 1
    assert "no precision is called float8" in capsys.readouterr().err


def test_model(tool, tmp_path, capsys):
    options = tool.Model(points=1500, rooms=1, rounds=1, device="cpu", json=tmp_path / "m.json")
    assert tool.main(options) == 0
    assert "another sentence" in capsys.readouterr().out
    found = json.loads((tmp_path / "m.json").read_text())
    assert found["model"] == "tsp3d-tiny" and found["points"] == 1500 and (tmp_path / "m.png").exists()
    stages = {name: stage["ms"] for name, stage in found["stages"].items()}
    assert {"backbone", "text encoder", "attention, level 2", "up-sampling", model.REST} <= set(stages)
    assert all(ms > 0 for ms in stages.values())
    assert tool.main(tool.Model(model="no-such-model")) == 1


def test_a_place_that_cannot_be_written_to_is_told_before_the_work(tool, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tool.model, "time_model", lambda *_: pytest.fail("the work began"))
    (tmp_path / "file").touch()
    for place in ({"json": tmp_path / "file" / "m.json"}, {"plot": tmp_path}):
        assert tool.main(tool.Model(points=1500, rooms=1, rounds=1, device="cpu", **place)) == 1
        assert "cannot" in capsys.readouterr().err


def test_sentences_differ():
    assert len({model.sentence(i) for i in range(24)}) == 24


def test_scale(small_rooms, tool, tmp_path, monkeypatch, capsys):
    def here(count, rounds, device, channels):
        return scale.measure(count, rounds, device, channels)

    monkeypatch.setattr(scale, "measure_apart", here)
    options = tool.Scale(voxels=(60, 120), backbone=(4, 6), rounds=1, device="cpu", json=tmp_path / "s.json")
    assert tool.main(options) == 0
    assert "exponent" in capsys.readouterr().out
    found = json.loads((tmp_path / "s.json").read_text())
    assert [size["voxels"] for size in found["sizes"]] == [60, 120]
    assert set(found["exponents"]) == {"map_ms", "conv_ms", "backbone_ms", "peak_bytes"}


def test_a_failed_size_says_why(monkeypatch):
    monkeypatch.setattr(scale.sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="1,000 voxels: exit code 1"):
        scale.measure_apart(1000, 1, torch.device("cpu"))


def test_peak_memory_of_a_call():
    size = 64 * 2**20
    assert scale.peak_bytes(lambda: torch.ones(size, dtype=torch.uint8).sum(), torch.device("cpu")) > 0.9 * size


def test_rooms_are_surfaces_in_any_size():
    coords = rooms.voxels(20_000)
    assert rooms.voxels(20_000) is coords and coords.shape == (20_000, 4) and coords.dtype == torch.int32
    assert bool(ops.is_coordinate_set(coords)) and int(coords.min()) >= 0
    pairs = len(ops.kernel_map(coords, coords, [3, 3, 3], 1)[0])
    assert 6 < pairs / len(coords) < 15  # a plane has 9 of 27
    levels = rooms.pyramid(coords, 3)
    assert len(levels[0]) > 2.5 * len(levels[1]) > 6 * len(levels[2])
    with pytest.raises(ValueError, match="at least 1"):
        rooms.voxels(0)
