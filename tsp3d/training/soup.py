"""The mean of several trainings' weights (Wortsman et al., "Model soups", ICML 2022).

Where one training began with the weights of the other, the mean is often better than either, above all on scans unlike
those of the training (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tsp3d.models.net import GroundingNet


def mean_of(folders: Sequence[str | Path]) -> GroundingNet:
    """A network with the mean of the weights that ``save_pretrained`` wrote into each folder, which counts as often as
    it is named; configuration and calibration are the last one's.

    Raises:
        ValueError: no folder, or networks of different shape.
    """
    if not folders:
        raise ValueError("the mean of no weights at all: name at least one folder")
    *others, net = [GroundingNet.from_pretrained(folder) for folder in folders]
    state = net.state_dict()
    for folder, other in zip(folders, others, strict=False):
        theirs = other.state_dict()
        if {name: value.shape for name, value in theirs.items()} != {n: value.shape for n, value in state.items()}:
            raise ValueError(f"{folder} and {folders[-1]} hold networks of different shape; their mean has no meaning")
        for name, value in state.items():
            if value.is_floating_point():  # counters stay the last one's
                value += theirs[name]
    for value in state.values():
        if value.is_floating_point():
            value /= len(folders)
    return net
