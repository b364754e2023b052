"""ScanNet's files into prepared scenes: contents, resuming, broken scenes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

sys.path.insert(0, str(Path(__file__).parent))
from fake_scannet import LAYOUT, aligned_box, write_scene

from tsp3d.data import PreparedScenes
from tsp3d.data.scannet import SceneError, find_scenes, read_scene
from tsp3d.data.scannet_prepare import PrepareSettings, prepare, to_arrays


def test_a_scene_is_read_aligned_with_its_objects(tmp_path: Path) -> None:
    scene = read_scene(write_scene(tmp_path, "scene0000_00"))
    assert scene.xyz.shape == (300, 3) and scene.rgb.dtype == np.uint8 and scene.notes == ()
    assert [(item.id, item.label) for item in scene.objects] == [(i, row[0]) for i, row in enumerate(LAYOUT)]
    assert [item.nyu40 for item in scene.objects] == ["chair", "chair", "chair", "table", "refridgerator", "lamp"]
    for item in scene.objects:
        own = scene.xyz[item.vertices]
        box = np.concatenate([(own.min(0) + own.max(0)) / 2, own.max(0) - own.min(0)])
        np.testing.assert_allclose(box, aligned_box(item.id), atol=1e-5)


def test_prepared_scenes_hold_the_same(tmp_path: Path) -> None:
    folders = [write_scene(tmp_path / "scans", f"scene000{i}_00", seed=i) for i in range(3)]
    assert find_scenes(tmp_path) == find_scenes(tmp_path / "scans") == folders
    seen: list[str] = []
    splits = {"train": folders[:2], "val": folders[2:]}
    result = prepare(tmp_path / "out", splits, PrepareSettings(points=0), workers=2, progress=seen.append)
    assert result.done == {"train": 2, "val": 1} and result.skipped == {} and result.kept == 0
    assert sorted(seen) == [path.name for path in folders]
    scenes = PreparedScenes(tmp_path / "out", "train", require_sentences=False)
    assert scenes.scene_ids == ["scene0000_00", "scene0001_00"]
    sample, original = scenes[1], read_scene(folders[1])
    np.testing.assert_allclose(sample.xyz, original.xyz, atol=6e-4)
    np.testing.assert_allclose(sample.rgb * 255, original.rgb, atol=1e-3)
    np.testing.assert_allclose(sample.boxes, [aligned_box(i) for i in range(6)], atol=1e-5)
    assert sample.names() == ["chair", "chair", "office chair", "table", "refrigerator", "lamp"]
    for item in original.objects:
        assert np.array_equal(np.flatnonzero(sample.instance == item.id), item.vertices)
    assert scenes.objects(0)[4]["nyu40"] == "refridgerator"


def test_the_subsample_is_always_the_same_and_boxes_may_follow_it(tmp_path: Path) -> None:
    scene = read_scene(write_scene(tmp_path, "scene0000_00"))
    arrays, record = to_arrays(scene, PrepareSettings(points=100))
    again, _ = to_arrays(scene, PrepareSettings(points=100))
    assert all(np.array_equal(arrays[name], again[name]) for name in arrays)
    assert arrays["xyz_mm"].shape == (100, 3) and record["num_points"] == 100
    _, full = to_arrays(scene, PrepareSettings(points=0))
    other, part = to_arrays(scene, PrepareSettings(points=100, boxes="subsample"))
    assert np.array_equal(arrays["xyz_mm"], other["xyz_mm"])
    for i in range(6):
        a, b, c = record["objects"][i], full["objects"][i], part["objects"][i]
        assert a["box"] == b["box"] == c["box_full"] and c["box"] == a["box_subsample"]
        own = arrays["xyz_mm"][arrays["instance"] == i] / 1000
        np.testing.assert_allclose(c["box"][3:], np.ptp(own, axis=0), atol=2e-3)
        assert a["kept"] == len(own) < a["vertices"] == 40
    with pytest.raises(ValueError, match="points is -1"):
        PrepareSettings(points=-1)
    with pytest.raises(ValueError, match="boxes is 'tight'"):
        PrepareSettings(boxes="tight")


def test_shared_vertices_go_to_the_smaller_object_but_count_for_both_boxes(tmp_path: Path) -> None:
    folder = write_scene(tmp_path, "scene0000_00")
    path = folder / "scene0000_00.aggregation.json"
    content = json.loads(path.read_text())
    content["segGroups"][3]["segments"] += content["segGroups"][5]["segments"]  # the lamp is of the table too
    path.write_text(json.dumps(content))
    arrays, record = to_arrays(read_scene(folder), PrepareSettings(points=0))
    assert (arrays["instance"] == 5).sum() == 40 and (arrays["instance"] == 3).sum() == 40
    assert record["objects"][3]["vertices"] == 80


def test_a_stopped_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [write_scene(tmp_path / "scans", f"scene000{i}_00", seed=i) for i in range(3)]
    settings, out = PrepareSettings(points=50), tmp_path / "out"

    def stop(scene_id: str) -> None:
        if scene_id == "scene0001_00":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(out, {"all": folders}, settings, progress=stop)
    assert not (out / "dataset.json").exists()
    stamps = {path.name: path.stat().st_mtime_ns for path in (out / "all").glob("*.safetensors")}
    assert sorted(stamps) == ["scene0000_00.safetensors", "scene0001_00.safetensors"]
    (out / "all" / "scene0001_00.safetensors").write_bytes(b"cut off")
    result = prepare(out, {"all": folders}, settings)
    assert result.done == {"all": 3} and result.kept == 1
    assert (out / "all" / "scene0000_00.safetensors").stat().st_mtime_ns == stamps["scene0000_00.safetensors"]
    assert prepare(out, {"all": folders}, settings).kept == 3
    assert prepare(out, {"all": folders}, PrepareSettings(points=60)).kept == 0  # other settings: all anew
    assert len(load_file(out / "all" / "scene0002_00.safetensors")["scene0002_00.rgb"]) == 60
    (out / "dataset.json").write_text('{"generator": {"name": "synth"}}')
    with pytest.raises(ValueError, match="made by 'synth'"):
        prepare(out, {"all": folders}, settings)


def edit(path: Path, change) -> None:  # type: ignore[no-untyped-def]
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


BREAKS = {
    "_vh_clean_2.ply is missing": lambda f, s: (f / f"{s}_vh_clean_2.ply").unlink(),
    "_vh_clean_2.ply cannot be read": lambda f, s: (f / f"{s}_vh_clean_2.ply").write_bytes(
        (f / f"{s}_vh_clean_2.ply").read_bytes()[:900]
    ),
    "aggregation.json is missing": lambda f, s: (f / f"{s}.aggregation.json").unlink(),
    "aggregation.json is not JSON": lambda f, s: (f / f"{s}.aggregation.json").write_text('{"segGroups": ['),
    "no list 'segGroups'": lambda f, s: edit(f / f"{s}.aggregation.json", lambda c: c.pop("segGroups")),
    r"segGroups\[1\] has no \['label'\]": lambda f, s: edit(
        f / f"{s}.aggregation.json", lambda c: c["segGroups"][1].pop("label")
    ),
    r"objectId \[0\] is given to several": lambda f, s: edit(
        f / f"{s}.aggregation.json", lambda c: c["segGroups"][1].update(objectId=0)
    ),
    "invalid literal.*check the scene's files": lambda f, s: edit(
        f / f"{s}.aggregation.json", lambda c: c["segGroups"][1].update(segments=["a"])
    ),
    "no annotated object has a vertex": lambda f, s: edit(
        f / f"{s}.aggregation.json", lambda c: [g.update(segments=[99999]) for g in c["segGroups"]]
    ),
    "has 299 segIndices, but the mesh has 300": lambda f, s: edit(
        f / f"{s}_vh_clean_2.0.010000.segs.json", lambda c: c["segIndices"].pop()
    ),
    "segs.json is missing": lambda f, s: (f / f"{s}_vh_clean_2.0.010000.segs.json").unlink(),
    "axis alignment": lambda f, s: (f / f"{s}.txt").unlink(),
    "not 16 numbers": lambda f, s: (f / f"{s}.txt").write_text("axisAlignment = 1 0 0\n"),
    "not a rigid motion": lambda f, s: (f / f"{s}.txt").write_text("axisAlignment = " + "2 " * 16),
    "reaches 10[0-9.]+ m": lambda f, s: (f / f"{s}.txt").write_text(
        "axisAlignment = 1 0 0 100 0 1 0 0 0 0 1 0 0 0 0 1"
    ),
}


@pytest.mark.parametrize("reason", BREAKS)
def test_a_broken_scene_is_skipped_with_the_reason(tmp_path: Path, reason: str) -> None:
    good, bad = (write_scene(tmp_path / "scans", name) for name in ("scene0000_00", "scene0001_00"))
    BREAKS[reason](bad, bad.name)
    result = prepare(tmp_path / "out", {"val": [good, bad]}, PrepareSettings())
    assert result.done == {"val": 1} and list(result.skipped) == ["scene0001_00"]
    with pytest.raises(SceneError, match=reason):
        raise SceneError(result.skipped["scene0001_00"])
    assert json.loads((tmp_path / "out" / "skipped.json").read_text()) == result.skipped


def test_odd_but_usable_scenes_are_noted(tmp_path: Path) -> None:
    folder = write_scene(tmp_path, "scene0000_00")
    (folder / "scene0000_00.txt").write_text("colorHeight = 968\n")
    (folder / "scene0000_00_vh_clean_2.labels.ply").unlink()
    edit(folder / "scene0000_00.aggregation.json", lambda c: c["segGroups"][2].update(segments=[]))
    result = prepare(tmp_path / "out", {"all": [folder]}, PrepareSettings(), workers=1)
    assert [note.split(":")[0] for note in result.notes["scene0000_00"]] == [
        "no axisAlignment", "no labels.ply", "objects without vertices are left out",
    ]  # fmt: skip
    sample = PreparedScenes(tmp_path / "out", "all", require_sentences=False)[0]
    assert len(sample.boxes) == 5
    np.testing.assert_allclose(sample.boxes[0], [*LAYOUT[0][2], *LAYOUT[0][3]], atol=1e-5)
    with pytest.raises(FileNotFoundError, match="scene0000_00"):
        find_scenes(tmp_path / "out")


def test_the_tool(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location(
        "tool_prepare", Path(__file__).parents[2] / "tools" / "prepare_scannet.py"
    )
    assert spec and spec.loader
    tool = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = tool
    spec.loader.exec_module(tool)
    for i in range(3):
        write_scene(tmp_path / "scans", f"scene000{i}_00", seed=i)
    (tmp_path / "scans" / "scene0001_00" / "scene0001_00.txt").unlink()
    (tmp_path / "scannetv2_train.txt").write_text("scene0000_00\nscene0001_00\n")
    (tmp_path / "scannetv2_val.txt").write_text("scene0002_00\nscene0707_00\n")
    tool.main(tool.Options(tmp_path / "scans", tmp_path / "out", lists=tmp_path, workers=1))
    out = " ".join(capsys.readouterr().out.split())
    assert "skipped scene0001_00: scene0001_00.txt is missing" in out and "scene0707_00" in out
    assert "1 train, 1 val scenes (0 from earlier runs, 1 skipped)" in out
    with pytest.raises(SystemExit, match="scannetv2_train.txt"):
        tool.main(tool.Options(tmp_path / "scans", tmp_path / "out", lists=tmp_path / "scans"))
    (tmp_path / "scannetv2_train.txt").write_text("scene0001_00\n")
    (tmp_path / "scannetv2_val.txt").unlink()
    with pytest.raises(SystemExit, match="no scene could be prepared"):
        tool.main(tool.Options(tmp_path / "scans", tmp_path / "none", lists=tmp_path, workers=1))
    (tmp_path / "scannetv2_train.txt").write_bytes(b"scene\xff")
    with pytest.raises(SystemExit, match=r"scannetv2_train\.txt: no list of scene ids in UTF-8"):
        tool.main(tool.Options(tmp_path / "scans", tmp_path / "none", lists=tmp_path))
