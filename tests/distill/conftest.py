"""A toy dataset, and a batch of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tsp3d.data import DataConfig, GroundingBatch, PreparedScenes, TrainingSamples, collate
from tsp3d.data.toy import write_toy_dataset


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_dataset(tmp_path_factory.mktemp("toy"), train=4, val=1, objects=4)


@pytest.fixture(scope="session")
def batch(data: Path) -> GroundingBatch:
    """Two scenes, three sentences each."""
    samples = TrainingSamples(PreparedScenes(data), DataConfig(sentences_per_scene=3, detection_probability=0))
    return collate([samples[0, 0], samples[0, 1]])
