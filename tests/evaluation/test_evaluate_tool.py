"""tools/evaluate.py on annotation files in the formats of ScanRefer, Nr3D and Multi3DRefer, with a small network."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tsp3d.data.scannet_prepare import PrepareSettings, prepare
from tsp3d.models.config import model_config
from tsp3d.models.net import GroundingNet

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from fake_scannet import write_scene

ROOT = Path(__file__).parents[2]
SMALL = {
    "voxel_size": 0.1, "voxel_reduce": "mean",
    "backbone": {"stem_channels": 8, "stem_pool": False, "channels": [8, 8, 8, 8], "blocks": [1, 1, 1, 1]},
    "text": {"kind": "small", "name": "text-small"},
    "fusion": {"dim": 8, "heads": 2, "layers": 1, "feedforward": 8},
    "head": {"min_score": 0.0},
}  # fmt: skip


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tool_{name}_scannet", ROOT / "tools" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def evaluate() -> ModuleType:
    return load("evaluate")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared scenes in ``scannet``, weights in ``model``."""
    root = tmp_path_factory.mktemp("evaluate")
    scene = write_scene(root / "scans", "scene0011_00")
    prepare(root / "scannet", {"val": [scene]}, PrepareSettings(), listed={"val": ["scene0011_00"]})
    torch.manual_seed(0)
    GroundingNet(model_config(SMALL)).save_pretrained(root / "model")
    row = {"scene_id": "scene0011_00", "ann_id": "0", "object_name": "chair", "description": "the chair on the left"}
    (root / "scanrefer.json").write_text(json.dumps([{**row, "object_id": "0"}, {**row, "object_id": "1"}]))
    multi = [{**row, "object_ids": [0, 1], "eval_type": "mt"}, {**row, "object_ids": [], "eval_type": "zt_w_d"}]
    (root / "multi3drefer.json").write_text(json.dumps(multi))
    (root / "nr3d.csv").write_text(
        "scan_id,target_id,instance_type,utterance,correct_guess,mentions_target_class,tokens,stimulus_id\n"
        "scene0011_00,0,chair,chair facing the table,True,True,\"['chair','facing','the','table']\","
        "scene0011_00-chair-2-0-1\n"
        "scene0011_00,1,chair,chair on the left-hand side,True,True,\"['chair','on','the','left-hand','side']\","
        "scene0011_00-chair-2-1-0\n"
    )
    return root


@pytest.mark.parametrize(
    ("dataset", "file", "groups"),
    [
        ("scanrefer", "scanrefer.json", {"overall": 2, "multiple": 2, "multiple (official)": 2}),
        ("nr3d", "nr3d.csv", {"overall": 2, "easy": 2, "view-dependent": 1, "view-independent": 1}),
        ("multi3drefer", "multi3drefer.json", {"overall": 2, "mt": 1, "zt_w_d": 1}),
    ],
)
def test_the_report_has_the_groups_of_the_dataset(
    evaluate: ModuleType, folder: Path, tmp_path: Path, dataset: str, file: str, groups: dict[str, int]
) -> None:
    args = evaluate.Args(
        folder / "scannet", tmp_path, str(folder / "model"), dataset, annotations=folder / file, timing=1, device="cpu",
        tokens=dataset == "nr3d",
    )  # fmt: skip
    evaluate.main(args)
    report = json.loads((tmp_path / "report.json").read_text())
    found = {name: row["queries"] for name, row in report["groups"].items()}
    assert groups.items() <= found.items() and 0 <= report["calibration_error"] <= 1
    text = (tmp_path / "report.md").read_text()
    assert "| **ours** |" in text and f"dataset: {dataset}" in text
    options = "--queries 0 --points 0 --top-k 5" + " --tokens" * args.tokens  # all that changes the figures
    assert f"options: {options}\n" in text and f"annotations: {folder / file}\n" in text
    assert len((tmp_path / "queries.jsonl").read_text().splitlines()) == groups["overall"]


def test_a_folder_that_cannot_be_made_is_told_before_the_work(
    evaluate: ModuleType, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "evaluate_dataset", lambda *args, **kwargs: pytest.fail("the work began"))
    (tmp_path / "file").touch()
    (tmp_path / "out" / "report.md").mkdir(parents=True)
    for out in (tmp_path / "file" / "out", tmp_path / "out"):
        with pytest.raises(SystemExit, match=f"evaluate: .*{out.name}"):
            evaluate.main(
                evaluate.Args(
                    folder / "scannet", out, model=str(folder / "model"), dataset="scanrefer",
                    annotations=folder / "scanrefer.json", timing=0,
                )
            )  # fmt: skip


def test_errors_say_what_to_do(evaluate: ModuleType, folder: Path, tmp_path: Path) -> None:
    args = (folder / "scannet", tmp_path, str(folder / "model"))
    with pytest.raises(SystemExit, match="--annotations FILE"):
        evaluate.main(evaluate.Args(*args, "scanrefer", device="cpu"))
    with pytest.raises(SystemExit, match="does not know which scenes 'test' has"):
        evaluate.main(evaluate.Args(*args, "nr3d", "test", folder / "nr3d.csv", device="cpu"))
    wrong = {"limit": -1, "queries": -1, "points": -5, "timing": -3, "top_k": 0, "batch": 0, "min_score": 7.0}
    for name, value in wrong.items():
        with pytest.raises(SystemExit, match=f"evaluate: .*{value:g}"):
            evaluate.main(
                evaluate.Args(*args, "scanrefer", annotations=folder / "scanrefer.json", device="cpu", **{name: value})
            )


def test_what_the_message_on_missing_scenes_advises_works_in_every_tool(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = json.loads((folder / "multi3drefer.json").read_text())
    (tmp_path / "multi.json").write_text(json.dumps([*rows, {**rows[0], "scene_id": "scene0700_00"}]))
    model, data = shutil.copytree(folder / "model", tmp_path / "model"), folder / "scannet"
    common: dict[str, Any] = {
        "dataset": "multi3drefer", "annotations": tmp_path / "multi.json", "device": "cpu", "split": "val"
    }  # fmt: skip
    calibrate, int8, proposals = load("calibrate"), load("calibrate_int8"), load("evaluate_proposals")
    monkeypatch.setattr(proposals, "load_proposer", lambda run: torch.nn.Identity())
    monkeypatch.setattr(proposals, "evaluate_proposals", lambda net, scenes, *_: {"sentences": scenes.num_sentences})
    tries = (
        (calibrate, calibrate.Args(data, tmp_path / "out", str(model), **common)),
        (int8, int8.Args(data, str(model), **common)),
        (proposals, proposals.Args(data, tmp_path, **common)),
    )
    for tool, args in tries:
        with pytest.raises(SystemExit, match=r"scene0700_00.*--skip-missing"):
            tool.main(args)
    with pytest.raises(SystemExit, match="two scenes"):  # of which one is left
        calibrate.main(replace(tries[0][1], skip_missing=True))
    for tool, args in tries[1:]:
        tool.main(replace(args, skip_missing=True))
