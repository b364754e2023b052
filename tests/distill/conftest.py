"""A toy dataset, a batch of it, a vision model, and a network that was trained to detect the set's objects."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import ConvNextConfig, ConvNextModel

from tsp3d.data import DataConfig, GroundingBatch, PreparedScenes, TrainingSamples, collate
from tsp3d.data.toy import write_toy_dataset
from tsp3d.models.config import model_config
from tsp3d.models.net import GroundingNet
from tsp3d.synth.types import CLASSES, COLORS
from tsp3d.training import load_train_config, train

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four scenes of four objects; in "vision" a tiny vision model of random weights, whose images are 16 pixels."""
    folder = write_toy_dataset(tmp_path_factory.mktemp("toy"), train=4, val=1, objects=4)
    torch.manual_seed(7)  # not the random twin's
    config = ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, patch_size=4)
    ConvNextModel(config).save_pretrained(folder / "vision")
    settings = {"size": 16, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    (folder / "vision/preprocessor_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="session")
def batch(data: Path) -> GroundingBatch:
    """Two scenes, three sentences each."""
    samples = TrainingSamples(PreparedScenes(data), DataConfig(sentences_per_scene=3, detection_probability=0))
    return collate([samples[0, 0], samples[0, 1]])


@pytest.fixture(scope="session")
def detector(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a short run of stage=detection."""
    options = [
        f"data.folder={data}", f"out={tmp_path_factory.mktemp('detector')}", "data.workers=0", "optim.steps=30",
        "optim.lr=1e-2", "optim.warmup_steps=1", "optim.ema=0", "log.validate_every=0",
    ]  # fmt: skip
    torch.manual_seed(0)
    net = GroundingNet(model_config({
        "voxel_size": 0.05, "voxel_reduce": "mean", "text": {"kind": "small", "name": "text-small"},
        "backbone": {"stem_channels": 8, "stem_pool": False, "channels": [8, 16, 16, 16], "blocks": [1, 1, 1, 1]},
        "fusion": {"dim": 16, "heads": 2, "layers": 1, "feedforward": 16},
        "auxiliary": {"enabled": True, "classes": list(CLASSES), "colors": list(COLORS), "dim": 16},
    }))  # fmt: skip
    config = load_train_config(ROOT / "configs/train/tiny-detection.yaml", options)
    train(config, net, PreparedScenes(data))
    return config.folder
