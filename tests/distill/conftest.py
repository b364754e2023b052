"""A toy dataset, a batch of it, and a vision model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import ConvNextConfig, ConvNextModel

from tsp3d.data import DataConfig, GroundingBatch, PreparedScenes, TrainingSamples, collate
from tsp3d.data.toy import write_toy_dataset


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
