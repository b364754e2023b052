"""Attention among voxels that knows where they are.

A sentence about an object among its like ("the chair to the left of the desk") is settled by offsets between voxels,
which attention over position embeddings has to learn anew for every pair of places. Here each voxel i asks for a
direction u and a reach a, both read from its features, and the logit towards voxel j gains

    u . (p_j - p_i) - a . (p_j - p_i)^2        (p in metres, one u and a per head and axis, a > 0)

which is a Gaussian around a place the voxel chooses, or the furthest voxel in a direction. Up to a constant of i, which
softmax does not see, it is a product of terms of i and of j, so that it costs six more channels of query and key and no
matrix of pairs. The attended mean offset and spread come back through six more channels of the values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsp3d.sparse import ops
from tsp3d.sparse.kept import native
from tsp3d.sparse.linear import attention_layer, layers_of, linear, packed

from .ragged import RaggedAttention, RaggedPlan

REACHES = (4.0, 1.6, 0.8, 0.4)
"""Initial widths (m) of the heads' Gaussians, in turn."""
MOMENTS = 7


@dataclass(frozen=True)
class Place:
    """Where voxels are."""

    xyz: Tensor
    """(N, 3) metres."""
    embedding: Tensor
    """(N, C)"""


class SpatialAttention(RaggedAttention):
    """Self-attention with the logits and the moments described above; begins close to attention without them."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__(dim, heads)
        self.ask = nn.Linear(dim, heads * 6)
        self.tell = nn.Linear(heads * MOMENTS, dim)
        nn.init.normal_(self.ask.weight, std=0.01)
        precision = torch.tensor([0.5 / REACHES[h % len(REACHES)] ** 2 for h in range(heads)])
        bias = torch.zeros(heads, 6)
        bias[:, 3:] = torch.log(torch.expm1(precision))[:, None]  # softplus gives the precision back
        with torch.no_grad():
            self.ask.bias.copy_(bias.flatten())
        nn.init.zeros_(self.tell.weight)
        nn.init.zeros_(self.tell.bias)

    def forward(  # type: ignore[override]
        self,
        qk: Tensor,
        value: Tensor,
        xyz: Tensor,
        plan: RaggedPlan,
        dropout: nn.Dropout | None = None,
        residual: Tensor | None = None,
        after: nn.LayerNorm | None = None,
    ) -> Tensor:
        """qk and value (N, C), xyz (N, 3) metres -> (N, C); what follows is that of ``linear``."""
        layers = layers_of(self, value, self._parts(), self._layers)
        if packed(layers, dropout):
            return attention_layer(layers, qk, value, plan.splits, self.heads, None, residual, after, xyz)
        (first, second, last), dim = layers, value.shape[1]
        qk, ask = first(qk).split([2 * dim, 6 * self.heads], 1)
        q, k = qk.unflatten(1, (2, self.heads, -1)).unbind(1)
        v, ask = second(value).unflatten(1, (self.heads, -1)), ask.unflatten(1, (self.heads, 6))
        if native(value):
            out = ops.spatial_attention(q, k, v, ask, xyz, plan.splits[0])
        else:
            out = self._attend(q, k, v, ask, xyz, plan)
        return linear(out.flatten(1), last, dropout=dropout, residual=residual, after=after)

    def _parts(self) -> list[Tensor]:
        layers = (self.out_proj, self.ask, self.tell)
        return [self.in_proj_weight, self.in_proj_bias, *(p for layer in layers for p in (layer.weight, layer.bias))]

    def _layers(self) -> list[tuple[Tensor, Tensor]]:
        """Weight and bias: to query, key and what they ask; to the value; from what the heads attended to, with the
        moments of each after its values."""
        wqk, wv = self.in_proj_weight.tensor_split([2 * len(self.in_proj_weight) // 3])
        bqk, bv = self.in_proj_bias.tensor_split([2 * len(self.in_proj_bias) // 3])
        heads = [weight.unflatten(1, (self.heads, -1)) for weight in (self.out_proj.weight, self.tell.weight)]
        return [
            (torch.cat([wqk, self.ask.weight]), torch.cat([bqk, self.ask.bias])),
            (wv, bv),
            (torch.cat(heads, 2).flatten(1), self.out_proj.bias + self.tell.bias),
        ]

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, ask: Tensor, xyz: Tensor, plan: RaggedPlan) -> Tensor:
        """As ``ops.spatial_attention``, in terms of attention with six channels more."""
        width, at = q.shape[2], xyz[:, None]
        u, a = ask[:, :, :3], F.softplus(ask[:, :, 3:])  # (N, H, 3) each
        moments = torch.cat([xyz, xyz.square()], 1)[:, None].expand(-1, self.heads, -1)
        q = torch.cat([q / math.sqrt(width), u + 2 * a * at, -a], 2)
        out = plan.attend(q, torch.cat([k, moments], 2), torch.cat([v, moments], 2), scale=1.0)
        mean, square = out[:, :, width : width + 3], out[:, :, width + 3 :]
        offset = mean - at
        spread = (square - mean.square()).clamp(min=0)
        return torch.cat([out[:, :, :width], offset, offset.norm(dim=2, keepdim=True), spread], 2)
