"""The prepared-scene reader: contents, datasets that are being written, errors."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tsp3d.data import PreparedScenes
from tsp3d.data.scenes import _to_index
from tsp3d.data.toy import write_toy_dataset
from tsp3d.synth.types import CLASSES, COLORS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_toy_dataset(tmp_path / "toy", train=5, val=2)


def test_a_scene_has_what_was_written(folder: Path) -> None:
    scenes = PreparedScenes(folder, "train")
    assert len(scenes) == 5
    assert scenes.scene_ids == [f"train-{i:04d}" for i in range(5)]
    for index in range(5):
        sample = scenes[index]
        records = scenes.objects(index)
        assert sample.xyz.shape == sample.rgb.shape == (600, 3)
        assert sample.xyz.dtype == sample.rgb.dtype == np.float32
        assert sample.rgb.min() >= 0 and sample.rgb.max() <= 1
        assert [CLASSES[i] for i in sample.classes] == [item["name"] for item in records]
        assert [COLORS[i] for i in sample.colors] == [item["color"] for item in records]
        for place in range(len(records)):
            own = sample.xyz[sample.instance == place]
            assert len(own) == 60
            np.testing.assert_allclose(own.min(0), sample.boxes[place, :3] - sample.boxes[place, 3:] / 2, atol=1e-5)
            np.testing.assert_allclose(own.max(0), sample.boxes[place, :3] + sample.boxes[place, 3:] / 2, atol=1e-5)
        assert len(sample.queries) == 10
        for number, query in enumerate(sample.queries):
            assert query.targets == (number // 2,)  # ids 10, 11, … became indices
            assert query.meta["kind"] == "sentence"
            assert query.view_dependent == (number % 2 == 0)
        assert [q.text for q, _ in scenes.queries(index)] == [q.text for q in sample.queries]
        assert [c for _, c in scenes.queries(index)] == [sample.classes[q.targets[0]] for q in sample.queries]


def test_raw_ids_become_indices() -> None:
    raw = np.array([-1, 7, 3, 99, 3, -5], dtype=np.int16)
    assert _to_index(raw, np.array([3, 7])).tolist() == [-1, 1, 0, -1, 0, -1]
    assert _to_index(raw, np.array([], dtype=np.int64)).tolist() == [-1] * 6
    assert _to_index(np.array([], dtype=np.int16), np.array([3])).tolist() == []


def test_a_dataset_being_written_gives_its_complete_scenes(folder: Path) -> None:
    path = folder / "train"
    (path / "scenes-00001.safetensors").unlink()  # scenes 2 and 3
    with open(path / "scenes.jsonl", "a") as file:
        file.write('{"scene_id": "train-0005", "shard": "scenes-0')
    with open(path / "sentences.jsonl", "a") as file:
        file.write('{"scene_id": "tra')
    scenes = PreparedScenes(folder, "train")
    assert scenes.scene_ids == ["train-0000", "train-0001", "train-0004"]
    assert len(scenes[2].queries) == 10


def test_sentences_need_not_be_contiguous_and_may_be_missing(folder: Path) -> None:
    path = folder / "train" / "sentences.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["scene_id"] != "train-0001"]
    path.write_text("".join(kept[::2] + kept[1::2]))
    scenes = PreparedScenes(folder, "train")
    assert scenes.scene_ids == ["train-0000", "train-0002", "train-0003", "train-0004"]
    assert sorted(q.text for q in scenes[1].queries) == sorted(json.loads(line)["text"] for line in lines[20:30])
    assert len(PreparedScenes(folder, "train", require_sentences=False)) == 5


def test_several_targets_are_read(folder: Path) -> None:
    path = folder / "train" / "sentences.jsonl"
    path.write_text(json.dumps({"scene_id": "train-0000", "text": "all", "target": [10, 12]}) + "\n")
    assert PreparedScenes(folder, "train")[0].queries[0].targets == (0, 2)


def test_it_can_be_sent_to_another_process(folder: Path) -> None:
    scenes = PreparedScenes(folder, "train")
    scenes[0]
    again = pickle.loads(pickle.dumps(scenes))
    np.testing.assert_array_equal(again[3].xyz, scenes[3].xyz)


def test_errors_name_the_file_and_the_remedy(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"dataset\.json is missing.*make_synth"):
        PreparedScenes(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=r"\['train', 'val'\]"):
        PreparedScenes(folder, "test")
    shard = folder / "train" / "scenes-00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"scenes-00000.*again"):
        PreparedScenes(folder, "train")[0]
    with open(folder / "val" / "sentences.jsonl", "a") as file:
        file.write("{broken\n")
    with pytest.raises(ValueError, match="sentences.jsonl, line 21"):
        PreparedScenes(folder, "val")
    sentences = [{"scene_id": "val-0000", "text": "the chair"}, {"scene_id": "val-0000", "text": "", "target": 10}, [1]]
    for odd in sentences:
        (folder / "val" / "sentences.jsonl").write_text(json.dumps(odd) + "\n")
        with pytest.raises(ValueError, match=r"sentences\.jsonl, line 1: (a sentence needs a t|it is no object)"):
            PreparedScenes(folder, "val")
    (folder / "val" / "sentences.jsonl").unlink()
    with pytest.raises(ValueError, match=r"no sentences.*--dataset"):
        PreparedScenes(folder, "val")
    for odd in ("{", "[]"):
        (folder / "dataset.json").write_text(odd)
        with pytest.raises(ValueError, match=r"dataset\.json"):
            PreparedScenes(folder, "val")
    (folder / "dataset.json").write_text('{"format": "tsp3d-scenes", "version": 9}')
    with pytest.raises(ValueError, match="version 9"):
        PreparedScenes(folder, "val")


CHANGES: list[tuple[str, dict]] = [
    ("scene", {"scene_id": ["a"]}),
    ("scene", {"shard": 3}),
    ("scene", {"objects": "abc"}),
    ("object", {"id": -5}),
    ("object", {"id": 11}),  # another's
    ("object", {"name": ["chair"]}),
    ("object", {"color": ["red"]}),
    ("object", {"box": [1, 2, 3, 4, 5]}),
    ("object", {"box": [0.0, 0, 0, float("nan"), 1, 1]}),
    ("object", {"box": [0, 0, 0, -1, 1, 1]}),
    ("sentence", {"target": {"a": 1}}),
    ("sentence", {"target": [[1]]}),
    ("sentence", {"target": True}),
    ("sentence", {"text": 5}),
    ("sentence", {"text": "\ud800 chair"}),
    ("sentence", {"anchors": "10"}),
]


@pytest.mark.parametrize(("kind", "change"), CHANGES)
def test_a_wrong_record_is_named(folder: Path, kind: str, change: dict) -> None:
    path = folder / "val" / ("sentences.jsonl" if kind == "sentence" else "scenes.jsonl")
    first, *others = path.read_text().splitlines()
    record = json.loads(first)
    (record["objects"][0] if kind == "object" else record).update(change)
    path.write_text("\n".join([json.dumps(record), *others]) + "\n")
    with pytest.raises(ValueError, match=f"{path.name}, line 1: .*correct it"):
        PreparedScenes(folder, "val")


def test_written_by_hand(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No last newline, no anchors; a sentence whose scene is misspelt is told."""
    scenes, sentences = (folder / "val" / name for name in ("scenes.jsonl", "sentences.jsonl"))
    first, second, *others = sentences.read_text().splitlines()
    lines = [
        json.dumps(json.loads(first) | {"anchors": None}),
        json.dumps(json.loads(second) | {"scene_id": "vla"}),
        *others,
    ]
    sentences.write_text("\n".join(lines))
    scenes.write_text(scenes.read_text().rstrip("\n"))
    read = PreparedScenes(folder, "val")
    assert len(read) == 2 and sum(len(read[i].queries) for i in range(2)) == 19
    assert "no scene is called 'vla'" in caplog.text
    with open(scenes, "a") as file:
        file.write("\n" + scenes.read_text().splitlines()[0] + "\n")
    with pytest.raises(ValueError, match="scene 'val-0000' twice"):
        PreparedScenes(folder, "val")


def test_arrays_of_other_shapes_and_kinds_are_named(folder: Path) -> None:
    shard = folder / "val" / "scenes-00000.safetensors"
    arrays = load_file(shard)
    for part, change in (("rgb", lambda a: a[:9]), ("xyz_mm", lambda a: a / 1000.0), ("instance", lambda a: a[:9])):
        save_file(arrays | {f"val-0000.{part}": change(arrays[f"val-0000.{part}"])}, shard)
        with pytest.raises(ValueError, match=r"scenes-00000\.safetensors: scene 'val-0000' needs"):
            PreparedScenes(folder, "val")[0]


def test_a_sentence_about_an_unknown_object_is_an_error(folder: Path) -> None:
    with open(folder / "train" / "sentences.jsonl", "a") as file:
        file.write(json.dumps({"scene_id": "train-0000", "text": "the ghost", "target": 77}) + "\n")
    with pytest.raises(ValueError, match="the ghost.*77"):  # at once, not when the scene's turn comes
        PreparedScenes(folder, "train")
