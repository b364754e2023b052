"""The training loop and what it is configured by."""

from tsp3d.training.config import LogConfig, OptimConfig, TrainConfig, load_train_config
from tsp3d.training.loop import TrainResult, train

__all__ = ["LogConfig", "OptimConfig", "TrainConfig", "TrainResult", "load_train_config", "train"]
