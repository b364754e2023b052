"""tools/train.py and tools/evaluate.py with the real network, made small, on a toy dataset."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from fake_scannet import write_scene

from tsp3d.data.scannet_prepare import PrepareSettings, prepare
from tsp3d.data.toy import write_toy_dataset
from tsp3d.training import TrainResult

ROOT = Path(__file__).parents[2]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tool_{name}", ROOT / "tools" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


SMALL = (
    "model.voxel_size=0.1", "model.backbone.channels=[8,8,8,8]", "model.backbone.blocks=[1,1,1,1]",
    "model.backbone.stem_channels=8", "model.fusion.dim=8", "model.fusion.heads=2", "model.fusion.feedforward=8",
    "model.fusion.layers=1", "model.auxiliary.dim=8",
)  # fmt: skip


def test_train_then_evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(ROOT)
    data = write_toy_dataset(tmp_path / "toy", train=2, val=1, objects=3, points=300)
    common = (
        f"data.folder={data}", f"out={tmp_path}/runs", "data.scenes_per_step=1", "data.sentences_per_scene=2",
        "data.workers=0", "optim.steps=2", "log.validate_every=2", "log.validate_queries=1", *SMALL,
    )  # fmt: skip
    train, evaluate = load("train"), load("evaluate")
    train.main(common, config=Path("configs/train/tiny-detection.yaml"))
    train.main((*common, f"init_from={tmp_path}/runs/tiny-detection"), config=Path("configs/train/tiny.yaml"))
    assert "finished at step 2" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="--resume"):
        train.main(common, config=Path("configs/train/tiny.yaml"))
    for wrong in ("model.pruning.enabld=false", "model.auxiliary.classes=[table,chair]"):
        with pytest.raises(SystemExit, match=r"train: .*(enabld|auxiliary\.classes)"):
            train.main((*common, wrong, "name=wrong"), config=Path("configs/train/tiny.yaml"))
    for stage, heads in (("detection", ["auxiliary"]), ("answers", ["mask", "presence"])):
        off = [f"model.{head}.enabled=false" for head in heads]
        with pytest.raises(SystemExit, match=rf"train: this model has no .*model\.{heads[0]}\.enabled=true"):
            train.main((*common, *off, f"stage={stage}", "name=wrong"), config=Path("configs/train/tiny.yaml"))
    monkeypatch.setattr(train, "train", lambda *_, **__: TrainResult(1, False, tmp_path))  # as a signal ends it
    with pytest.raises(SystemExit) as stopped:
        train.main((*common, "name=stopped"), config=Path("configs/train/tiny.yaml"))
    assert stopped.value.code == 143 and "stopped at step 1" in capsys.readouterr().out
    args = evaluate.Args(data=data, out=tmp_path / "report", model=str(tmp_path / "runs/tiny/export"), timing=1)
    evaluate.main(args)
    report = json.loads((tmp_path / "report/report.json").read_text())
    assert report["groups"]["overall"]["queries"] == 6 and report["timings_ms"]["cold"] > 0
    assert "overall" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="'nothing': no such model"):
        evaluate.main(evaluate.Args(data=data, out=tmp_path, model="nothing"))


def test_training_on_an_annotation_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(ROOT)
    folders = [write_scene(tmp_path / "scans", f"scene000{i}_00", seed=i) for i in range(2)]
    prepare(tmp_path / "scannet", {"train": folders[:1], "val": folders[1:]}, PrepareSettings())
    for i, split in enumerate(("train", "val")):
        row = {"scene_id": f"scene000{i}_00", "object_name": "chair", "ann_id": "0", "description": "the chair"}
        (tmp_path / f"{split}.json").write_text(json.dumps([{**row, "object_id": "0"}, {**row, "object_id": "1"}]))
    files = (f"data.annotations={tmp_path}/train.json", f"data.val_annotations={tmp_path}/val.json")
    common = (
        f"data.folder={tmp_path}/scannet", "data.dataset=scanrefer", f"out={tmp_path}/runs", "optim.steps=1",
        "data.scenes_per_step=1", "data.workers=0", "log.validate_every=1", *SMALL,
    )  # fmt: skip
    train = load("train")
    train.main((*common, *files), config=Path("configs/train/tiny.yaml"))
    assert "finished at step 1" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"data\.annotations=FILE"):
        train.main((*common, "name=none"), config=Path("configs/train/tiny.yaml"))
