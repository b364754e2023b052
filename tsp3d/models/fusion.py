"""The text-voxel attention stacks of TSP3D, over ragged batches of sentences."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsp3d.sparse.kept import native
from tsp3d.sparse.linear import layers_of, linear

from .config import FusionConfig
from .ragged import RaggedAttention, RaggedPlan
from .spatial import Place, SpatialAttention


class SelfAttention(nn.Module):
    """x + attention, then LayerNorm; no feed-forward."""

    def __init__(self, config: FusionConfig, spatial: bool = False) -> None:
        super().__init__()
        kind = SpatialAttention if spatial else RaggedAttention
        self.self_attn = kind(config.dim, config.heads)
        self.norm1 = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, place: Place | None, plan: RaggedPlan) -> Tensor:
        qk = x if place is None else x + place.embedding
        then = (self.dropout, x, self.norm1)
        if isinstance(self.self_attn, SpatialAttention):
            assert place is not None
            return self.self_attn(qk, x, place.xyz, plan, *then)
        return self.self_attn(qk, qk, x, plan, *then)


class Product(nn.Module):
    """Sums over products of two projected features, in ``width`` groups of ``group`` channels -> dim.

    Whether a voxel fits a word ("brown") is a product of the two, which layers that add them learn slowly. Begins as
    zero.
    """

    def __init__(self, left: int, right: int, width: int, dim: int, group: int = 1) -> None:
        super().__init__()
        self.group = group
        self.left, self.right = nn.Linear(left, width * group), nn.Linear(right, width * group)
        self.out = nn.Linear(width, dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self,
        a: Tensor,
        b: Tensor,
        row: Tensor | None = None,
        dropout: nn.Dropout | None = None,
        residual: Tensor | None = None,
        after: nn.LayerNorm | None = None,
    ) -> Tensor:
        """a (N, left), b (N, right), or (M, right) with the ``row`` (N,) of each -> (N, dim); what follows is that of
        ``linear``."""
        right = linear(b, self.right)
        product = linear(a, self.left, factor=right if row is None else right[row])
        product = product.unflatten(1, (-1, self.group)).sum(2) if self.group > 1 else product
        return linear(product, self.out, dropout=dropout, residual=residual, after=after)


class CrossAttention(nn.Module):
    """Both ways at once, each from the features before the other's update."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.cross_lv = RaggedAttention(config.dim, config.heads)  # text queries voxels
        self.cross_vl = RaggedAttention(config.dim, config.heads)  # voxels query text
        self.norm_lv, self.norm_lv2 = nn.LayerNorm(config.dim), nn.LayerNorm(config.dim)
        self.norm_vl, self.norm_vl2 = nn.LayerNorm(config.dim), nn.LayerNorm(config.dim)
        self.ffn_lv, self.ffn_vl = FeedForward(config), FeedForward(config)
        self.gate = Product(config.dim, config.dim, config.gate, config.dim) if config.gate else None
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, voxels: Tensor, place: Place, text: Tensor, plans: FusionPlans) -> tuple[Tensor, Tensor]:
        told = self.cross_lv(text, voxels, voxels, plans.text_voxels, self.dropout, text, self.norm_lv)
        asking, plan = voxels + place.embedding, plans.voxels_text
        if self.gate is None:
            read = self.cross_vl(asking, text, text, plan, self.dropout, voxels, self.norm_vl)
        else:
            heard = self.cross_vl(asking, text, text, plan, self.dropout)
            read = self.gate(voxels, heard, None, self.dropout, voxels + heard, self.norm_vl)
        return self.ffn_vl(read, self.norm_vl2), self.ffn_lv(told, self.norm_lv2)


class FeedForward(nn.Sequential):
    """Two layers, the sum with what goes in, and a layer norm."""

    def __init__(self, config: FusionConfig) -> None:
        drop = nn.Dropout(config.dropout)
        up, down = nn.Linear(config.dim, config.feedforward), nn.Linear(config.feedforward, config.dim)
        super().__init__(up, nn.ReLU(), drop, down, drop)

    def forward(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:  # type: ignore[override]
        up, _, drop, down, _ = self
        assert isinstance(drop, nn.Dropout)
        hidden = linear(x, up, activation="relu", dropout=drop)
        return linear(hidden, down, dropout=drop, residual=x, after=norm)


class FusionLayer(nn.Module):
    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.self_attention_visual = SelfAttention(config, config.spatial)
        self.self_attention_lang = SelfAttention(config)
        self.cross_layer = CrossAttention(config)

    def forward(
        self, voxels: Tensor, place: Place, text: Tensor, plans: FusionPlans, begun: bool = False
    ) -> tuple[Tensor, Tensor]:
        if not begun:
            voxels = self.self_attention_visual(voxels, place, plans.voxels)
        text = self.self_attention_lang(text, None, plans.text)
        return self.cross_layer(voxels, place, text, plans)


class FusionPlans:
    """The four attention plans of a stack: within voxels, within text, and between them."""

    def __init__(self, voxel_lengths: list[int], text_lengths: list[int], device: torch.device) -> None:
        self.voxels = RaggedPlan(voxel_lengths, voxel_lengths, device)
        self.text = RaggedPlan(text_lengths, text_lengths, device)
        self.text_voxels, self.voxels_text = self.text.across(self.voxels), self.voxels.across(self.text)


class FusionStack(nn.Module):
    """The "BiEncoder" of TSP3D: layers of self-attention in each modality and cross-attention between them."""

    def __init__(self, config: FusionConfig, layers: int = 0) -> None:
        """``layers``: 0 for as many as the configuration says."""
        super().__init__()
        self.layers = nn.ModuleList(FusionLayer(config) for _ in range(layers or config.layers))

    def begin(self, voxels: Tensor, place: Place, lengths: list[int]) -> Tensor:
        """The first layer's attention among voxels, which no sentence enters: once for a scene serves all sentences."""
        first: FusionLayer = self.layers[0]  # type: ignore[assignment]
        return first.self_attention_visual(voxels, place, RaggedPlan(lengths, lengths, voxels.device))

    def forward(
        self,
        voxels: Tensor,
        place: Place,
        voxel_lengths: list[int],
        text: Tensor,
        text_lengths: list[int],
        begun: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """voxels (N, C) and where they are, text (T, C), ragged over the same Q sentences -> updated (voxels, text).

        ``begun``: the voxels come from :meth:`begin`.
        """
        plans = FusionPlans(voxel_lengths, text_lengths, voxels.device)
        for i, layer in enumerate(self.layers):
            voxels, text = layer(voxels, place, text, plans, begun and i == 0)
        return voxels, text


class PositionEmbedding(nn.Module):
    """MLP 3 -> C -> BatchNorm -> ReLU -> C on positions in metres; parameters as pointwise Conv1d like the release."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.position_embedding_head = nn.Sequential(
            nn.Conv1d(3, dim, 1), nn.BatchNorm1d(dim), nn.ReLU(), nn.Conv1d(dim, dim, 1)
        )

    def forward(self, xyz: Tensor) -> Tensor:
        """xyz (N, 3) in metres -> (N, C)."""
        # Pointwise convolutions as matrix products, which keep (N, C) rows and need no transposes.
        first, norm, last = self._parts()
        if not self.training and native(xyz):
            weights = (first.weight, first.bias, last.weight, last.bias)
            averages = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
            tracked = (*weights, *averages, norm.num_batches_tracked)
            hidden, out = layers_of(self, xyz, [t for t in tracked if t is not None], self._folded, norm.eps)
            return linear(linear(xyz, hidden, activation="relu"), out)
        hidden = F.linear(xyz, first.weight.squeeze(2), first.bias)
        if not self.training or len(xyz) > 1:
            hidden = norm(hidden)
        return F.linear(hidden.relu(), last.weight.squeeze(2), last.bias)

    def _folded(self) -> list[tuple[Tensor, Tensor]]:
        """Weight and bias of the two layers, the norm's averages within the first."""
        first, norm, last = self._parts()
        assert first.bias is not None and last.bias is not None
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        weight, bias = first.weight.squeeze(2) * scale[:, None], (first.bias - norm.running_mean) * scale + norm.bias
        return [(weight, bias), (last.weight.squeeze(2), last.bias)]

    def _parts(self) -> tuple[nn.Conv1d, nn.BatchNorm1d, nn.Conv1d]:
        first, norm, _, last = self.position_embedding_head
        assert isinstance(first, nn.Conv1d) and isinstance(norm, nn.BatchNorm1d) and isinstance(last, nn.Conv1d)
        return first, norm, last
