"""The mean of several trainings' weights (Wortsman et al., "Model soups", ICML 2022).

Where one training began with the weights of the other, the mean is often better than either, above all on scans unlike
those of the training (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

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
    total = _weights(net)
    for folder, other in zip(folders, others, strict=False):
        theirs = _weights(other)
        if {name: value.shape for name, value in theirs.items()} != {n: value.shape for n, value in total.items()}:
            raise ValueError(f"{folder} and {folders[-1]} hold networks of different shape; their mean has no meaning")
        for name, value in total.items():
            value += theirs[name]
    for value in total.values():
        value /= len(folders)
    return net


def _weights(net: GroundingNet) -> dict[str, Tensor]:
    """All that can be averaged: counters stay the last one's."""
    return {name: value for name, value in net.state_dict().items() if value.is_floating_point()}
