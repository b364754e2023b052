"""The dataset writer: files hold what was generated, whatever the number of processes, and splits share no model."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tsp3d.synth import dataset
from tsp3d.synth.assets import AssetLibrary
from tsp3d.synth.dataset import SynthConfig, read_scene_line, rewrite_sentences, scene_line, write_dataset
from tsp3d.synth.scene import generate_scene
from tsp3d.synth.types import CLASSES

CONFIG = SynthConfig(train=3, val=1, seed=4, max_points=5000, sentences=4, parametric_only=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset, written with two scenes a shard."""
    out = tmp_path_factory.mktemp("synth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "SHARD_SCENES", 2)
        assert write_dataset(out, CONFIG) == {"val": 1, "train": 3}
    return out


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_files_agree(made: Path) -> None:
    header = json.loads((made / "dataset.json").read_text())
    assert header["format"] == "tsp3d-scenes" and header["splits"] == {"train": 3, "val": 1}
    assert header["classes"] == list(CLASSES)
    assert "| train | 3 |" in (made / "README.md").read_text()
    for split, count in (("train", 3), ("val", 1)):
        scenes = _lines(made / split / "scenes.jsonl")
        assert len(scenes) == count
        for scene in scenes:
            tensors = load_file(made / split / scene["shard"])
            name = scene["scene_id"]
            xyz, instance = tensors[f"{name}.xyz_mm"], tensors[f"{name}.instance"]
            assert xyz.dtype == np.int16 and xyz.shape == (scene["num_points"], 3) and len(xyz) <= 5000
            assert tensors[f"{name}.rgb"].dtype == np.uint8 and instance.dtype == np.int16
            assert {item["id"] for item in scene["objects"]} == set(np.unique(instance)) - {-1}
            for item in scene["objects"]:
                points = xyz[instance == item["id"]] / 1000.0
                half = np.array(item["box"][3:]) / 2 + 1e-3
                assert item["name"] in CLASSES and (np.abs(points - item["box"][:3]) <= half).all()
        known = {scene["scene_id"]: {item["id"] for item in scene["objects"]} for scene in scenes}
        sentences = _lines(made / split / "sentences.jsonl")
        assert sentences and {s["scene_id"] for s in sentences} <= set(known)
        assert all({s["target"], *s["anchors"]} <= known[s["scene_id"]] for s in sentences)


def test_a_scene_is_read_as_it_was_generated(made: Path) -> None:
    scene = generate_scene(AssetLibrary("train"), 4, 1, 5000)
    line = _lines(made / "train" / "scenes.jsonl")[1]
    assert read_scene_line(line) == scene.description
    assert read_scene_line(json.loads(json.dumps(scene_line(scene, "x")))) == scene.description
    tensors = load_file(made / "train" / line["shard"])
    np.testing.assert_array_equal(tensors[f"{line['scene_id']}.xyz_mm"], np.round(scene.xyz * 1000).astype(np.int16))


def test_splits_share_no_model(made: Path) -> None:
    models = {
        split: {item["model"] for scene in _lines(made / split / "scenes.jsonl") for item in scene["objects"]}
        for split in ("train", "val")
    }
    assert models["train"] and models["val"] and not models["train"] & models["val"]


def test_goes_on_where_it_stopped(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "SHARD_SCENES", 2)
    whole = {path.name: path.read_bytes() for path in (made / "train").iterdir()}
    out = tmp_path / "again"
    small = SynthConfig(**{**vars(CONFIG), "train": 2})
    write_dataset(out, small)
    seen: list[tuple[str, int]] = []
    write_dataset(out, CONFIG, progress=lambda split, count: seen.append((split, count)))
    assert seen == [("val", 1), ("train", 2), ("train", 1)]
    assert {path.name: path.read_bytes() for path in (out / "train").iterdir()} == whole
    with pytest.raises(ValueError, match="other settings"):
        write_dataset(out, SynthConfig(**{**vars(CONFIG), "max_points": 99}))


@pytest.mark.parametrize("name", ["sentences.jsonl", "scenes.jsonl"])
def test_goes_on_where_a_line_was_cut_off(
    name: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a full disk leaves it, within the last scene of a shard."""
    monkeypatch.setattr(dataset, "SHARD_SCENES", 2)
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    whole = {path.name: path.read_bytes() for path in (made / "train").iterdir()}
    lines = (tmp_path / "train/scenes.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "train/scenes.jsonl").write_text("".join(lines[:2]))
    file = tmp_path / "train" / name
    file.write_text(file.read_text()[:-9])
    write_dataset(tmp_path, CONFIG)
    assert {path.name: path.read_bytes() for path in (tmp_path / "train").iterdir()} == whole


def test_number_of_processes_does_not_matter(made: Path, tmp_path: Path) -> None:
    config = SynthConfig(**{**vars(CONFIG), "train": 1, "val": 1})
    write_dataset(tmp_path, config, workers=2)
    assert _lines(tmp_path / "val" / "scenes.jsonl") == _lines(made / "val" / "scenes.jsonl")
    assert _lines(tmp_path / "train" / "sentences.jsonl") == [
        line for line in _lines(made / "train" / "sentences.jsonl") if line["scene_id"].endswith("00000")
    ]


def test_sentences_can_be_made_anew(made: Path, tmp_path: Path) -> None:
    before = (made / "train" / "sentences.jsonl").read_text()
    counts = rewrite_sentences(made, 2)
    assert counts["train"] == len(_lines(made / "train" / "sentences.jsonl")) < len(before.splitlines())
    rewrite_sentences(made, 4)
    assert (made / "train" / "sentences.jsonl").read_text() == before
    with pytest.raises(FileNotFoundError, match="dataset.json"):
        rewrite_sentences(tmp_path, 2)


def test_the_tool_says_what_cannot_be_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("tool_make_synth", Path(__file__).parents[2] / "tools/make_synth.py")
    assert spec and spec.loader
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    (tmp_path / "file").write_text("")
    assert tool.main(["--out", str(tmp_path / "file/synth"), "--parametric-only", "--workers", "1"]) == 2
    assert "make_synth: [Errno 20] Not a directory" in capsys.readouterr().err
    with pytest.raises(SystemExit):  # one task a call: the other would be left out without a word
        tool.main(["--out", str(tmp_path), "--sets", str(tmp_path)])
    assert "not allowed with" in capsys.readouterr().err
