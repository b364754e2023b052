"""Does anything in the scene fit the sentence? One logit a sentence, from what the head's voxels hold.

Scores of boxes compete within a sentence, so that the best of a sentence that nothing fits may be as high as any other.
Here the voxels are pooled, by their greatest values and by the share that each has in the softmax of scores, and
multiplied with the sentence.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tsp3d.sparse.linear import linear

STATISTICS = 2


class PresenceHead(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.voxels = nn.Linear(2 * dim + STATISTICS, hidden)
        self.sentence = nn.Linear(2 * dim, hidden)
        self.mix = nn.Linear(3 * hidden, hidden)
        self.out = nn.Linear(hidden, 1)

    def forward(self, fused: Tensor, logits: Tensor, query: Tensor, said: Tensor) -> Tensor:
        """fused (N, C), logits (N,) and the sentence (N,) int64 of each of the head's voxels, said (Q, 2C) -> (Q,)."""
        size = len(said)
        index = query[:, None].expand_as(fused)
        most = fused.new_zeros(size, fused.shape[1]).scatter_reduce(0, index, fused, "amax", include_self=False)
        top = logits.new_zeros(size).scatter_reduce(0, query, logits.detach(), "amax", include_self=False)
        mass = (logits - top[query]).exp()
        total = mass.new_zeros(size).index_add(0, query, mass).clamp(min=1e-12)
        share = (mass / total[query])[:, None]
        mean = torch.zeros_like(most).index_add(0, query, share * fused)
        found = linear(torch.cat([most, mean, top[:, None], total.log()[:, None]], 1), self.voxels, activation="relu")
        asked = linear(said, self.sentence, activation="relu")
        return linear(linear(torch.cat([found, asked, found * asked], 1), self.mix, activation="relu"), self.out)[:, 0]
