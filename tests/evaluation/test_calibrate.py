"""Fitting a calibration on answers with a known truth, and the tool on a small network."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit

from tsp3d.data.toy import write_toy_dataset
from tsp3d.evaluation.calibrate import Answered, answers, fit, measures
from tsp3d.models.config import CalibrationConfig, model_config
from tsp3d.models.net import GroundingNet
from tsp3d.pretrained import read_ranges
from tsp3d.sparse import ops
from tsp3d.synth.dataset import write_sets

ROOT = Path(__file__).parents[2]
SMALL = {
    "voxel_size": 0.1, "voxel_reduce": "mean",
    "backbone": {"stem_channels": 8, "stem_pool": False, "channels": [8, 8, 8, 8], "blocks": [1, 1, 1, 1]},
    "text": {"kind": "small", "name": "text-small"},
    "fusion": {"dim": 8, "heads": 2, "layers": 1, "feedforward": 8},
    "mask": {"enabled": True}, "presence": {"enabled": True},
}  # fmt: skip


def made(count: int, seed: int) -> list[Answered]:
    """Logits that are off by a factor of 3 and an offset of 1; two boxes are right where scores are above 0.6 of the
    best."""
    rng = np.random.default_rng(seed)
    unit = np.array([[0, 0, 0, 1, 1, 1], [3, 0, 0, 1, 1, 1], [6, 0, 0, 1, 1, 1]], dtype=np.float64)
    result = []
    for _ in range(count):
        z = rng.normal(0, 3)
        true = rng.random() < expit(z)
        scores = np.array([0.9, rng.uniform(0.6, 0.9), rng.uniform(0.0, 0.4)])
        result.append(Answered("mt" if true else "zt_w_d", z / 3 + 1, unit, scores, unit[:2] if true else unit[:0]))
    return result


def test_what_was_distorted_is_put_right() -> None:
    calibration = fit(made(1200, 0))
    assert calibration.scale == pytest.approx(3, rel=0.15) and calibration.bias == pytest.approx(-3, rel=0.2)
    assert 0.45 < calibration.several_share < 0.67
    assert 0.35 < calibration.min_presence < 0.65  # either mistake costs the same
    held_out = made(1200, 1)
    before, after = measures(held_out, CalibrationConfig()), measures(held_out, calibration)
    assert before["presence_calibration_error"] > 0.15 and after["presence_calibration_error"] < 0.04
    assert after["presence_auc"] == pytest.approx(before["presence_auc"]) and after["presence_auc"] > 0.85
    assert before["groups"]["zt_w_d"]["f1@0.5"] == 0 and after["groups"]["zt_w_d"]["f1@0.5"] > 70
    assert after["groups"]["overall"]["f1@0.5"] > before["groups"]["overall"]["f1@0.5"] + 20


def test_both_kinds_of_sentences_are_needed() -> None:
    with pytest.raises(ValueError, match="needs both kinds"):
        fit([a for a in made(50, 0) if a.present])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("calibrate")
    write_sets(write_toy_dataset(root / "toy", train=1, val=4), 8)
    torch.manual_seed(0)
    GroundingNet(model_config(SMALL)).save_pretrained(root / "model")
    return root


def load_tool(name: str):
    spec = importlib.util.spec_from_file_location(f"tool_{name}_sets", ROOT / "tools" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_answers_are_those_of_the_network_before_calibration(folder: Path) -> None:
    from tsp3d.data.datasets import open_dataset

    net = GroundingNet.from_pretrained(folder / "model")
    scenes = open_dataset("synth-multi", folder / "toy", "val")
    plain = answers(net, scenes, [0], 4)
    net.config.calibration = CalibrationConfig(2.0, 1.0, 0.9)
    again = answers(net, scenes, [0], 4)
    assert len(plain) == 4 and [a.logit for a in plain] == [a.logit for a in again]
    assert net.config.calibration.scale == 2.0


def test_the_tool_writes_weights_that_evaluation_goes_by(folder: Path, tmp_path: Path) -> None:
    calibrate, evaluate = load_tool("calibrate"), load_tool("evaluate")
    calibrate.main(calibrate.Args(folder / "toy", tmp_path / "out", str(folder / "model"), device="cpu"))
    stored = json.loads((tmp_path / "out/config.json").read_text())["calibration"]
    report = json.loads((tmp_path / "out/calibration.json").read_text())
    assert stored == report["calibration"] and stored["fitted_on"].startswith("synth-multi")
    assert report["before"]["groups"].keys() == report["after"]["groups"].keys() and "mt" in report["after"]["groups"]
    assert "area under the ROC curve" in (tmp_path / "out/calibration.md").read_text()
    args = evaluate.Args(
        folder / "toy", tmp_path / "report", str(tmp_path / "out"), "synth-multi", timing=1, device="cpu"
    )
    evaluate.main(args)
    found = json.loads((tmp_path / "report/report.json").read_text())
    assert found["several"] and found["min_presence"] == stored["min_presence"]
    assert {"overall", "mt", "zt_w_d"} <= found["groups"].keys()
    text = (tmp_path / "report/report.md").read_text()
    assert "| method | ZT w/o D | ZT w/ D |" in text and "| **ours** |" in text
    (folder / "model").chmod(0o555)  # as an installed package may be
    (tmp_path / "out").chmod(0o700)
    calibrate.main(calibrate.Args(folder / "toy", tmp_path / "out", str(folder / "model"), device="cpu"))
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700
    (folder / "model").chmod(0o755)
    with pytest.raises(SystemExit, match="calibrate: .*lies in"):
        calibrate.main(calibrate.Args(folder / "toy", folder / "model" / "out", str(folder / "model"), device="cpu"))
    with pytest.raises(SystemExit, match="calibrate: .*two scenes"):
        calibrate.main(calibrate.Args(folder / "toy", tmp_path / "out", str(folder / "model"), device="cpu", limit=1))
    with pytest.raises(SystemExit, match="calibrate: .*missing"):
        (folder / "toy/val/sets.jsonl").rename(folder / "toy/val/gone.jsonl")
        calibrate.main(calibrate.Args(folder / "toy", tmp_path / "out", str(folder / "model"), device="cpu"))


def test_the_tool_for_int8_writes_ranges_that_evaluation_goes_by(folder: Path, tmp_path: Path) -> None:
    calibrate, evaluate = load_tool("calibrate_int8"), load_tool("evaluate")
    model = shutil.copytree(folder / "model", tmp_path / "model")
    calibrate.main(calibrate.Args(folder / "toy", str(model), queries=2, device="cpu"))
    ranges = read_ranges(model)
    assert "vision_backbone.conv1" not in ranges and "vision_backbone.layer1.0.conv2" in ranges
    assert "1 scenes, 2 sentences" in (model / "int8.json").read_text()
    if "conv_int8" not in ops.ON_REFERENCE:
        evaluate.main(evaluate.Args(folder / "toy", tmp_path, str(model), timing=0, device="cpu", precision="int8"))
        assert json.loads((tmp_path / "report.json").read_text())["precision"] == "int8"
    with pytest.raises(SystemExit, match="calibrate_int8: .*nowhere"):
        calibrate.main(calibrate.Args(folder / "nowhere", str(model)))
