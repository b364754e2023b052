"""The mean of several trainings' weights."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tsp3d.models.net import GroundingNet
from tsp3d.pretrained import find_weights
from tsp3d.training.soup import mean_of

ROOT = Path(__file__).resolve().parents[2]
TINY = find_weights("tsp3d-tiny")


def test_the_mean_lies_between(tmp_path: Path) -> None:
    other = GroundingNet.from_pretrained(TINY)
    with torch.no_grad():
        for value in other.parameters():
            value *= 3
    other.save_pretrained(tmp_path / "other")
    once, mean = GroundingNet.from_pretrained(TINY).state_dict(), mean_of([TINY, TINY, tmp_path / "other", TINY])
    learnt = {name for name, _ in other.named_parameters()}
    for name, value in mean.state_dict().items():
        torch.testing.assert_close(value, once[name] * (1.5 if name in learnt else 1), rtol=1e-5, atol=1e-6)


def test_networks_of_different_shape_have_no_mean(tmp_path: Path) -> None:
    net = GroundingNet.from_pretrained(TINY)
    net.presence = None
    net.config.presence.enabled = False
    net.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="different shape"):
        mean_of([TINY, tmp_path])
    with pytest.raises(ValueError, match="at least one"):
        mean_of([])


def test_weights_that_are_cut_off_are_named(tmp_path: Path) -> None:
    folder = shutil.copytree(TINY, tmp_path / "cut")
    (folder / "model.safetensors").write_bytes((TINY / "model.safetensors").read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"cut/model\.safetensors is no whole safetensors file"):
        mean_of([folder])


def test_the_tool_writes_weights(tmp_path: Path) -> None:
    tool = [sys.executable, ROOT / "tools/average_weights.py"]
    twice = [*tool, "tsp3d-tiny", "tsp3d-tiny", "--out", tmp_path / "mean"]
    subprocess.run(twice, check=True, capture_output=True, cwd=ROOT)
    assert json.loads((tmp_path / "mean/config.json").read_text())["name"] == "tsp3d-tiny"
    lost = subprocess.run([*tool, "none", "--out", tmp_path / "b"], capture_output=True, text=True, cwd=ROOT)
    assert lost.returncode == 1 and lost.stderr.startswith("average_weights: 'none'")
