"""Datasets of scenes with objects and sentences, and the batches that training reads."""

from tsp3d.data.augment import AugmentConfig, augment
from tsp3d.data.collate import GroundingBatch, collate
from tsp3d.data.loader import DataConfig, StepSampler, TrainingSamples, training_loader
from tsp3d.data.sample import Query, SceneSample, subsample
from tsp3d.data.scenes import PreparedScenes

__all__ = [
    "AugmentConfig",
    "DataConfig",
    "GroundingBatch",
    "PreparedScenes",
    "Query",
    "SceneSample",
    "StepSampler",
    "TrainingSamples",
    "augment",
    "collate",
    "subsample",
    "training_loader",
]
