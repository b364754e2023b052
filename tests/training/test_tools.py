"""tools/train.py and tools/evaluate.py with the real network, made small, on a toy dataset."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tsp3d.data.toy import write_toy_dataset

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
    args = evaluate.Args(data=data, out=tmp_path / "report", model=str(tmp_path / "runs/tiny/export"), timing=1)
    evaluate.main(args)
    report = json.loads((tmp_path / "report/report.json").read_text())
    assert report["groups"]["overall"]["queries"] == 6 and report["timings_ms"]["cold"] > 0
    assert "overall" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="no weights folder 'nothing'"):
        evaluate.main(evaluate.Args(data=data, out=tmp_path, model="nothing"))
