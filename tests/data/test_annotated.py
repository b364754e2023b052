"""ScanRefer, Nr3D, Sr3D and Multi3DRefer over prepared scenes: rows, groups, errors."""

from __future__ import annotations

import csv
import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fake_scannet import LAYOUT, aligned_box, write_scene

from tsp3d.data import AugmentConfig, DataConfig, PreparedScenes, TrainingSamples, collate
from tsp3d.data.annotated import is_view_dependent, plain_words
from tsp3d.data.datasets import open_dataset
from tsp3d.data.multi3drefer import Multi3DRefer
from tsp3d.data.nr3d import Nr3D
from tsp3d.data.referit3d import id_list, same_class_objects
from tsp3d.data.scannet_prepare import PrepareSettings, prepare
from tsp3d.data.scanrefer import ScanRefer, butd_class, official_class
from tsp3d.data.sr3d import Sr3D
from tsp3d.evaluation.metrics import groups_of

TRAIN, VAL = ["scene0000_00", "scene0001_00"], ["scene0002_00"]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared scenes of two splits; a third training scene, scene0009_00, is listed but was never downloaded."""
    root = tmp_path_factory.mktemp("scannet")
    folders = {name: write_scene(root / "scans", name, seed=i) for i, name in enumerate(TRAIN + VAL)}
    splits = {"train": [folders[name] for name in TRAIN], "val": [folders[name] for name in VAL]}
    listed = {"train": [*TRAIN, "scene0009_00"], "val": VAL}
    prepare(root / "out", splits, PrepareSettings(), listed=listed)
    return root / "out"


def scanrefer(scene: str, object_id: int, text: str, ann: int = 0) -> dict[str, Any]:
    return {
        "scene_id": scene, "object_id": str(object_id), "object_name": LAYOUT[object_id][0].replace(" ", "_"),
        "ann_id": str(ann), "description": text, "token": text.lower().replace(".", " .").split(),
    }  # fmt: skip


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


def test_scanrefer(scenes: Path, tmp_path: Path) -> None:
    rows = [
        scanrefer("scene0002_00", 0, "the chair on the left."),
        scanrefer("scene0002_00", 0, "a chair near the door.", ann=1),
        scanrefer("scene0002_00", 3, "the table"),
        scanrefer("scene0000_00", 2, "an office chair"),
        scanrefer("scene0000_00", 0, "the chair"),
        scanrefer("scene0000_00", 4, "the tall fridge"),
        scanrefer("scene0000_00", 5, "the lamp"),
    ]
    data = ScanRefer(scenes, write(tmp_path / "ScanRefer_filtered_val.json", rows))
    assert data.scene_ids == ["scene0000_00", "scene0002_00"] and data.num_sentences == 7 and len(data) == 2
    first, last = data[0], data[1]
    assert [q.text for q in last.queries] == [row["description"] for row in rows[:3]]
    assert [q.targets for q in last.queries] == [(0,), (0,), (3,)]
    np.testing.assert_allclose(last.boxes[3], aligned_box(3), atol=1e-5)
    assert [q.view_dependent for q in last.queries] == [True, False, False]
    # TSP3D: two chairs in the scene. Official: only one chair is described in scene0002_00.
    assert [q.meta["unique"] for q in last.queries] == [False, False, True]
    assert [q.meta["unique_official"] for q in last.queries] == [True, True, True]
    # The office chair has a label of its own but is a chair among the 18; fridge and lamp are both "others".
    assert [q.meta["unique"] for q in first.queries] == [False, False, False, False]
    assert [q.meta["unique_official"] for q in first.queries] == [False, False, False, False]
    assert [q.text for q, _ in data.queries(0)] == [q.text for q in first.queries]
    assert last.names()[4] == "refrigerator"
    tokens = ScanRefer(scenes, tmp_path / "ScanRefer_filtered_val.json", tokens=True)
    assert tokens[1].queries[0].text == "the chair on the left ."
    # A sentence that does not name its object is not told the name: the answer's class is part of the answer.
    unnamed = {"object_name": "office_chair", "token": "this seat is brown . it is small .".split()}
    one = write(tmp_path / "unnamed.json", [scanrefer("scene0002_00", 0, "This seat is brown. It is small.") | unnamed])
    (query,) = ScanRefer(scenes, one, tokens=True)[0].queries
    assert query.text == "this seat is brown . it is small ."
    assert ScanRefer(scenes, one)[0].queries[0].text == "This seat is brown. It is small."


def test_scanrefer_has_two_lists_of_classes() -> None:
    """Of NYU40's spellings, ScanRefer's list lacks that of the refrigerator, and BUTD-DETR's that of the sofa too."""
    for label, official, butd in (
        ("chair", "chair", "chair"), ("sofa", "sofa", "others"), ("refridgerator", "others", "others"),
        ("lamp", "others", "others"), ("", "", ""),
    ):  # fmt: skip
        assert (official_class({"nyu40": label}), butd_class({"nyu40": label})) == (official, butd)


def nr3d(scene: str, target: int, text: str, stimulus: str, right: bool = True, **more: Any) -> dict[str, Any]:
    return {
        "assignmentid": 1, "stimulus_id": f"{scene}-{stimulus}", "utterance": text, "correct_guess": str(right),
        "speaker_id": 3, "scan_id": scene, "target_id": target, "instance_type": LAYOUT[target][0],
        "mentions_target_class": "True", "tokens": str(text.split()), "dataset": "nr3d", **more,
    }  # fmt: skip


NR3D = [
    nr3d("scene0002_00", 0, "chair facing the table", "chair-2-0-1"),
    nr3d("scene0002_00", 1, "the other one", "chair-2-1-0", right=False),
    nr3d("scene0002_00", 1, "chair near lamp", "chair-3-1-0-2", mentions_target_class="False"),
    nr3d("scene0000_00", 1, "a, \"quoted\", chair", "chair-2-1-0", right=False),
    nr3d("scene0001_00", 0, "chair left-most", "chair-2-0-1", tokens="['chair', 'leftmost']"),
]  # fmt: skip


def test_nr3d_tests_on_what_was_guessed_right_and_trains_on_all(scenes: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "nr3d.csv", NR3D)
    val = Nr3D(scenes, path, "val")
    assert val.scene_ids == VAL
    queries = val[0].queries
    assert [q.text for q in queries] == ["chair facing the table", "chair near lamp"]
    assert [q.meta["distractors"] for q in queries] == [1, 2]
    assert [q.view_dependent for q in queries] == [True, False]
    train = Nr3D(scenes, path, "train")  # scene0009_00 is not prepared, but has no row either
    assert [q.text for i in range(2) for q in train[i].queries] == ['a, "quoted", chair', "chair left-most"]
    assert train[1].queries[0].view_dependent
    release = Nr3D(scenes, path, "train", tokens=True)
    assert release[0].queries[0].text == 'a , "quoted" , chair'
    # The report goes by whole tokens, as ReferIt3D does; augmentation also by what hyphens join in them.
    row = nr3d("scene0002_00", 0, "chair on the left-hand side", "chair-2-0-1")
    (query,) = Nr3D(scenes, write(tmp_path / "hand.csv", [row]))[0].queries
    assert query.view_dependent and "view-independent" in groups_of(query.meta)
    assert "view-dependent" in groups_of(queries[0].meta)
    with pytest.raises(ValueError, match="no column .*'correct_guess'"):
        rows = [{k: v for k, v in row.items() if k != "correct_guess"} for row in NR3D]
        Nr3D(scenes, write(tmp_path / "short.csv", rows))
    with pytest.raises(ValueError, match="line 2: target_id is 'x'"):
        Nr3D(scenes, write(tmp_path / "odd.csv", [{**NR3D[0], "target_id": "x"}]))
    with pytest.raises(ValueError, match="line 2: correct_guess is 'maybe'"):
        Nr3D(scenes, write(tmp_path / "odd.csv", [{**NR3D[0], "correct_guess": "maybe"}]))
    with pytest.raises(ValueError, match="does not know which scenes 'test' has.*--lists"):
        Nr3D(scenes, path, "test")


def test_stimulus_ids() -> None:
    assert same_class_objects("scene0525_00-plant-5-9-10-11-12-13", 9, "") == 5
    assert same_class_objects("scene0525_00-t-shirt-2-9-10", 9, "") == 2
    assert same_class_objects("scene0001_00-chair-3-3-4-5", 3, "") == 3
    assert same_class_objects("scene0001_00-chair-4-4", 4, "") == 4  # Sr3D may leave the distractors out
    for stimulus in ("scene0001_00-chair-3-4-5-6", "scene0001_00-chair-3-²"):
        with pytest.raises(ValueError, match="row 7: stimulus_id"):
            same_class_objects(stimulus, 9, "row 7")
    with pytest.raises(ValueError, match="row 7: anchors is"):
        id_list("[1e999]", "row 7", "anchors")


def test_sr3d_keeps_rows_that_mention_the_class(scenes: Path, tmp_path: Path) -> None:
    anchored: dict[str, Any] = {"distractor_ids": "[1]", "anchor_ids": "[3, 5]", "anchors_types": "['table', 'lamp']"}
    rows = [
        nr3d("scene0002_00", 0, "chair between table and lamp", "chair-2-0-1", reference_type="between", **anchored),
        nr3d("scene0002_00", 0, "it", "chair-2-0-1", reference_type="closest", **anchored)
        | {"mentions_target_class": "False"},
    ]
    data = Sr3D(scenes, write(tmp_path / "sr3d.csv", rows))
    (query,) = data[0].queries
    assert query.targets == (0,) and query.anchors == (3, 5) and query.meta["distractors"] == 1
    assert query.meta["reference_type"] == "between"
    (query,) = open_dataset(
        "sr3d", scenes, "val", write(tmp_path / "c.csv", [{**rows[0], "utterance": "a, b"}]), tokens=True
    )[0].queries
    assert query.text == "a , b"
    # Sr3D+ is of the same form, and has objects without another one of their class.
    plus = rows[0] | {"stimulus_id": "scene0002_00-table-1-3", "target_id": "3", "distractor_ids": "[]"}
    (query,) = Sr3D(scenes, write(tmp_path / "sr3d+.csv", [plus]))[0].queries
    assert query.meta["distractors"] == 0 and not {"easy", "hard"} & set(groups_of(query.meta))
    with pytest.raises(ValueError, match="anchor_ids is '3;5'"):
        Sr3D(scenes, write(tmp_path / "odd.csv", [{**rows[0], "anchor_ids": "3;5"}]))


def multi(targets: list[int], kind: str, name: str = "chair") -> dict[str, Any]:
    return {
        "scene_id": "scene0002_00", "object_ids": targets, "object_name": name, "ann_id": 0,
        "description": f"the {name}s on the right", "eval_type": kind, "spatial": True,
    }  # fmt: skip


def test_multi3drefer(scenes: Path, tmp_path: Path) -> None:
    rows = [multi([], "zt_w_d"), multi([4], "st_wo_d", "refrigerator"), multi([1, 0], "mt")]
    data = Multi3DRefer(scenes, write(tmp_path / "multi3drefer_val.json", rows))
    queries = data[0].queries
    assert [q.targets for q in queries] == [(), (4,), (1, 0)]
    assert [q.meta["eval_type"] for q in queries] == ["zt_w_d", "st_wo_d", "mt"]
    assert [q.meta["kind"] for q in queries] == ["absent", "sentence", "sentence"]
    assert len(data.queries(0)) == 2
    for row, match in (
        (multi([0], "zt_w_d"), "1 objects"),
        (multi([0], "mt"), "row 0.*1 objects"),
        (multi([], "none"), "eval_type is 'none'"),
        (multi(3, "mt"), "object_ids is 3"),  # type: ignore[arg-type]
    ):
        with pytest.raises(ValueError, match=match):
            Multi3DRefer(scenes, write(tmp_path / "odd.json", [row]))


def test_missing_scenes_and_objects_are_errors_or_left_out(
    scenes: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [scanrefer("scene0002_00", 0, "a chair"), scanrefer("scene0700_00", 0, "another")]
    path = write(tmp_path / "val.json", rows)
    with pytest.raises(
        ValueError, match=r"1 of 2 scenes of .*val\.json .*scene0700_00.*prepare_scannet.*--skip-missing"
    ):
        ScanRefer(scenes, path)
    with caplog.at_level(logging.WARNING):
        assert ScanRefer(scenes, path, skip_missing=True).num_sentences == 1
    assert "1 sentences are left out" in caplog.text
    path = write(tmp_path / "val.json", [rows[0], {**rows[0], "object_id": "77"}])
    with pytest.raises(ValueError, match="row 1: scene0002_00 has no object 77"):
        ScanRefer(scenes, path)
    assert ScanRefer(scenes, path, skip_missing=True).num_sentences == 1
    path = write(tmp_path / "val.json", [rows[0], {**rows[0], "description": " "}])
    with pytest.raises(ValueError, match=r"row 1: .*no text.*data\.skip_missing=true"):
        ScanRefer(scenes, path)
    assert ScanRefer(scenes, path, skip_missing=True).num_sentences == 1
    with pytest.raises(ValueError, match="has no sentence"):
        ScanRefer(scenes, write(tmp_path / "none.json", rows[1:]), skip_missing=True)
    caplog.clear()
    with caplog.at_level(logging.WARNING):  # object ids from 1 instead of 0
        ScanRefer(scenes, write(tmp_path / "off.json", [{**scanrefer("scene0002_00", 3, "x"), "object_id": 4}]))
    assert "'table' is 'refrigerator'" in caplog.text and "another version" in caplog.text


def test_words_for_sides_are_found_within_others() -> None:
    """A mirrored scene would make them false."""
    for text in ("the chair on the left-hand side", "the right-most of them", "the desk, left."):
        assert is_view_dependent(plain_words(text))
    assert not is_view_dependent(plain_words("the bright l-shaped desk"))


def test_errors_about_files(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no annotations"):
        ScanRefer(scenes, tmp_path / "none.json")
    (tmp_path / "odd.json").write_text("[{]")
    with pytest.raises(ValueError, match="not JSON"):
        ScanRefer(scenes, tmp_path / "odd.json")
    with pytest.raises(ValueError, match="not a list"):
        ScanRefer(scenes, write(tmp_path / "odd.json", {"a": 1}))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"row 0: no field \['ann_id', 'description'\]"):
        ScanRefer(scenes, write(tmp_path / "odd.json", [{"scene_id": "", "object_id": 1, "object_name": ""}]))
    row = scanrefer("scene0002_00", 0, "x")
    for field, value in (("description", None), ("scene_id", 2)):
        with pytest.raises(ValueError, match=rf"odd\.json, row 1: {field} is .*, not a text; download ScanRefer"):
            ScanRefer(scenes, write(tmp_path / "odd.json", [row, {**row, field: value}]))
    with pytest.raises(ValueError, match=r"row 0: eval_type is \['mt'\], not a text"):
        Multi3DRefer(scenes, write(tmp_path / "odd.json", [multi([0, 1], ["mt"])]))  # type: ignore[arg-type]
    assert len(ScanRefer(scenes, write(tmp_path / "unnamed.json", [{**row, "object_name": None}]))) == 1
    header = ",".join(NR3D[0]).encode()
    for content in (header + b"\n\xe4", header + b'\n"' + b"x" * 200_000):  # another encoding; a quote without its end
        (tmp_path / "odd.csv").write_bytes(content)
        with pytest.raises(ValueError, match=r"odd\.csv is not CSV in UTF-8 .*download Nr3D again"):
            Nr3D(scenes, tmp_path / "odd.csv")
    path = write(tmp_path / "ok.json", [row])
    with pytest.raises(FileNotFoundError, match="prepare_scannet"):
        ScanRefer(tmp_path, path)
    with pytest.raises(ValueError, match=r"--annotations FILE.*data\.val_annotations=FILE"):
        open_dataset("scanrefer", scenes, "val")
    with pytest.raises(ValueError, match="--dataset"):
        open_dataset("synth", scenes, "val", path)
    with pytest.raises(ValueError, match="must be one of synth, synth-multi, scanrefer"):
        open_dataset("referit", scenes, "val", path)
    assert isinstance(open_dataset("scanrefer", scenes, "val", path), ScanRefer)
    with pytest.raises(ValueError, match=r"ok\.json describes scenes of val, not only of 'train'"):
        open_dataset("scanrefer", scenes, "train", path)
    with pytest.raises(ValueError, match=r"row 0: description is '.ud800', not a text"):
        ScanRefer(scenes, write(tmp_path / "odd.json", [{**row, "description": "\ud800"}]))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # a byte order mark
    assert isinstance(open_dataset("scanrefer", scenes, "val", path), ScanRefer)
    assert isinstance(open_dataset("nr3d", scenes, "val", write(tmp_path / "n.csv", NR3D)), Nr3D)
    with pytest.raises(ValueError, match="no sentences"):
        assert PreparedScenes(scenes, "val")  # without annotations there is no sentence


def test_training_reads_them_like_any_other_dataset(scenes: Path, tmp_path: Path) -> None:
    data = Nr3D(scenes, write(tmp_path / "nr3d.csv", NR3D), "train")
    samples = TrainingSamples(data, DataConfig(augment=AugmentConfig(), points_per_scene=100))
    batch = collate([samples[0, 0], samples[0, 1]])
    assert batch.num_scenes == 2 and len(batch.texts) >= 2 and batch.xyz.shape == (200, 3)
