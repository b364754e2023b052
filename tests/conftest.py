"""Every test starts from the same seed, on few threads, without network; GPU tests are skipped where there is none."""

from __future__ import annotations

import os
import random

# Before numpy and torch are imported: their thread pools read these once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TSP3D_TUNE"] = "0"  # on a GPU, kernels are chosen without a clock, and the user's cache stays as it is

import hypothesis
import numpy as np
import pytest
import torch

# The machine's speed and an earlier run's finds must not decide whether a test passes.
hypothesis.settings.register_profile("tsp3d", deadline=None, derandomize=True, database=None, max_examples=30)
hypothesis.settings.load_profile("tsp3d")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked ``gpu`` where torch sees no CUDA device."""
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason=f"no CUDA device (torch {torch.__version__})")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def _same_start() -> None:
    """Seed every generator and limit threads, whatever ran before."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> None:
    """End the run after an error that CUDA does not come back from, which all later tests would fail with."""
    if call.excinfo is None or "gpu" not in item.keywords or not torch.cuda.is_available():
        return
    try:
        torch.cuda.synchronize()
    except RuntimeError as error:
        item.session.shouldstop = f"the GPU is lost after {item.nodeid} ({str(error).splitlines()[0]})"
