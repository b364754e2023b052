"""The training loop and what it is configured by."""

try:
    import accelerate  # noqa: F401
except ImportError as error:
    raise ImportError("training needs the package accelerate: pip install 'tsp3d[train]', or `make setup`") from error

from tsp3d.training.config import LogConfig, OptimConfig, TrainConfig, load_train_config, overrides_last
from tsp3d.training.loop import ProcessLost, TrainResult, train

__all__ = [
    "LogConfig",
    "OptimConfig",
    "ProcessLost",
    "TrainConfig",
    "TrainResult",
    "load_train_config",
    "overrides_last",
    "train",
]
