"""The shuffled control: what a teacher says of another scene, put in the place of what it says of this one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from tsp3d.data.collate import GroundingBatch

NEEDS_TWO = (
    "distill.control=shuffled needs two scenes with sentences in each step of a process; set data.scenes_per_step=2"
)


def other_sentences(batch: GroundingBatch) -> Tensor:
    """For each sentence one of the next scene that has sentences, the same one for no two while there are enough.

    Returns:
        (Q,) int64.

    Raises:
        ValueError: only one scene has sentences.
    """
    scene = batch.text_scene
    spoken, place, counts = scene.unique(return_inverse=True, return_counts=True)
    if len(spoken) < 2:
        raise ValueError(NEEDS_TWO)
    starts = counts.cumsum(0) - counts
    within = torch.arange(len(scene), device=scene.device) - starts[place]
    donor = (place + 1) % len(spoken)
    return starts[donor] + within % counts[donor]


def other_scenes(batch: GroundingBatch) -> Tensor:
    """For each scene the next one of the batch, (B,) int64. Raises ValueError where there is only one."""
    if batch.num_scenes < 2:
        raise ValueError(NEEDS_TWO)
    return torch.arange(batch.num_scenes, device=batch.xyz.device).roll(-1)


def donor_rows(owner: Tensor, donor: Tensor) -> Tensor:
    """Which row gives its value to each row: row i of a group takes row i (from the start again, where there are fewer)
    of the group's donor.

    Args:
        owner: (N,) int64 group of each row (its sentence or scene), ascending.
        donor: (G,) int64 group that each group takes from.

    Returns:
        (N,) int64; a row whose donor has none keeps its own.
    """
    counts = torch.bincount(owner, minlength=len(donor))
    starts = counts.cumsum(0) - counts
    here = torch.arange(len(owner), device=owner.device)
    size = counts[donor][owner]
    taken = starts[donor][owner] + (here - starts[owner]) % size.clamp(min=1)
    return torch.where(size > 0, taken, here)
