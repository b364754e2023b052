"""Text-voxel attention over ragged batches.

A ragged batch is a concatenation of sequences, (sum of lengths, C), with the lengths as a list. Attention runs on
groups of sequences of nearly equal length, so that little of the work is padding, whatever the rooms and sentences.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import FusionConfig

PADDING_BUDGET = 1.15  # padded work over real work that one group may reach before a new one is opened


def _groups(q_lengths: list[int], k_lengths: list[int]) -> list[list[int]]:
    """Indices of sequences, grouped so that padding to the group's maxima stays within the budget."""
    order = sorted(
        (i for i in range(len(q_lengths)) if q_lengths[i] and k_lengths[i]), key=lambda i: (q_lengths[i], k_lengths[i])
    )
    groups: list[list[int]] = []
    real = q_max = k_max = 0
    for i in order:
        q_new, k_new = max(q_max, q_lengths[i]), max(k_max, k_lengths[i])
        cost = q_lengths[i] * k_lengths[i]
        # A tiny sequence costs less than a kernel launch: below 4,096 products padding is free.
        budget = max(PADDING_BUDGET * (real + cost), 4096.0 * (len(groups[-1]) + 1 if groups else 1))
        if groups and (len(groups[-1]) + 1) * q_new * k_new <= budget:
            groups[-1].append(i)
            real, q_max, k_max = real + cost, q_new, k_new
        else:
            groups.append([i])
            real, q_max, k_max = cost, q_lengths[i], k_lengths[i]
    return groups


class RaggedPlan:
    """How two ragged batches attend to each other: built once per stack and shared by its layers."""

    def __init__(self, q_lengths: list[int], k_lengths: list[int], device: torch.device) -> None:
        if len(q_lengths) != len(k_lengths):
            raise ValueError(f"{len(q_lengths)} query sequences but {len(k_lengths)} key sequences")
        q_start, k_start = _starts(q_lengths), _starts(k_lengths)
        self.total = sum(q_lengths)
        self.groups: list[tuple[int, Tensor, Tensor, Tensor | None, Tensor | None]] = []
        for members in _groups(q_lengths, k_lengths):
            q_index, q_valid = _padded([q_start[i] for i in members], [q_lengths[i] for i in members], device)
            k_index, k_valid = _padded([k_start[i] for i in members], [k_lengths[i] for i in members], device)
            mask = None if k_valid is None else k_valid[:, None, None, :]  # (G, 1, 1, K)
            self.groups.append((len(members), q_index, k_index, mask, q_valid))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q (Nq, H, D), k and v (Nk, H, D) -> (Nq, H, D); rows without keys get zeros."""
        parts, rows = [], []
        for size, q_index, k_index, mask, q_valid in self.groups:
            heads = [
                t.index_select(0, i).unflatten(0, (size, -1)).transpose(1, 2)
                for t, i in ((q, q_index), (k, k_index), (v, k_index))
            ]
            out = F.scaled_dot_product_attention(*heads, attn_mask=mask).transpose(1, 2).flatten(0, 1)  # (G * Q, H, D)
            if q_valid is not None:
                keep = q_valid.flatten().nonzero().squeeze(1)
                out, q_index = out.index_select(0, keep), q_index.index_select(0, keep)
            parts.append(out)
            rows.append(q_index)
        if not parts:
            return torch.zeros_like(q)
        return torch.zeros_like(q).index_copy(0, torch.cat(rows), torch.cat(parts))


def _starts(lengths: list[int]) -> list[int]:
    starts, total = [], 0
    for n in lengths:
        starts.append(total)
        total += n
    return starts


def _padded(starts: list[int], lengths: list[int], device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Row indices of sequences padded to the longest by repeating a row, flat, and which are real (None if all)."""
    longest = max(lengths)
    steps = torch.arange(longest, device=device)
    length = torch.tensor(lengths, device=device)[:, None]
    index = torch.tensor(starts, device=device)[:, None] + torch.minimum(steps, length - 1)
    return index.flatten(), None if min(lengths) == longest else steps < length


class RaggedAttention(nn.Module):
    """Multi-head attention over ragged batches; parameters named as in ``nn.MultiheadAttention``."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim {dim} is not a multiple of the number of heads {heads}")
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, plan: RaggedPlan) -> Tensor:
        wq, wk, wv = self.in_proj_weight.chunk(3)
        bq, bk, bv = self.in_proj_bias.chunk(3)
        q, k, v = F.linear(query, wq, bq), F.linear(key, wk, bk), F.linear(value, wv, bv)
        split = (self.heads, -1)
        return self.out_proj(
            plan.attend(q.unflatten(1, split), k.unflatten(1, split), v.unflatten(1, split)).flatten(1)
        )


class SelfAttention(nn.Module):
    """x + attention, then LayerNorm; no feed-forward."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.self_attn = RaggedAttention(config.dim, config.heads)
        self.norm1 = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, position: Tensor | None, plan: RaggedPlan) -> Tensor:
        qk = x if position is None else x + position
        return self.norm1(x + self.dropout(self.self_attn(qk, qk, x, plan)))


class CrossAttention(nn.Module):
    """Both ways at once, each from the features before the other's update."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.cross_lv = RaggedAttention(config.dim, config.heads)  # text queries voxels
        self.cross_vl = RaggedAttention(config.dim, config.heads)  # voxels query text
        self.norm_lv, self.norm_lv2 = nn.LayerNorm(config.dim), nn.LayerNorm(config.dim)
        self.norm_vl, self.norm_vl2 = nn.LayerNorm(config.dim), nn.LayerNorm(config.dim)
        self.ffn_lv, self.ffn_vl = _feed_forward(config), _feed_forward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, voxels: Tensor, position: Tensor, text: Tensor, plans: FusionPlans) -> tuple[Tensor, Tensor]:
        to_text = self.cross_lv(text, voxels, voxels, plans.text_voxels)
        to_voxels = self.cross_vl(voxels + position, text, text, plans.voxels_text)
        text = self.norm_lv(text + self.dropout(to_text))
        text = self.norm_lv2(text + self.ffn_lv(text))
        voxels = self.norm_vl(voxels + self.dropout(to_voxels))
        return self.norm_vl2(voxels + self.ffn_vl(voxels)), text


def _feed_forward(config: FusionConfig) -> nn.Sequential:
    drop = nn.Dropout(config.dropout)
    return nn.Sequential(
        nn.Linear(config.dim, config.feedforward), nn.ReLU(), drop, nn.Linear(config.feedforward, config.dim), drop
    )


class FusionLayer(nn.Module):
    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.self_attention_visual = SelfAttention(config)
        self.self_attention_lang = SelfAttention(config)
        self.cross_layer = CrossAttention(config)

    def forward(
        self, voxels: Tensor, position: Tensor, text: Tensor, plans: FusionPlans, begun: bool = False
    ) -> tuple[Tensor, Tensor]:
        if not begun:
            voxels = self.self_attention_visual(voxels, position, plans.voxels)
        text = self.self_attention_lang(text, None, plans.text)
        return self.cross_layer(voxels, position, text, plans)


class FusionPlans:
    """The four attention plans of a stack: within voxels, within text, and between them."""

    def __init__(self, voxel_lengths: list[int], text_lengths: list[int], device: torch.device) -> None:
        self.voxels = RaggedPlan(voxel_lengths, voxel_lengths, device)
        self.text = RaggedPlan(text_lengths, text_lengths, device)
        self.text_voxels = RaggedPlan(text_lengths, voxel_lengths, device)
        self.voxels_text = RaggedPlan(voxel_lengths, text_lengths, device)


class FusionStack(nn.Module):
    """The "BiEncoder" of TSP3D: layers of self-attention in each modality and cross-attention between them."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(FusionLayer(config) for _ in range(config.layers))

    def begin(self, voxels: Tensor, position: Tensor, lengths: list[int]) -> Tensor:
        """The first layer's attention among voxels, which no sentence enters: once for a scene serves all sentences."""
        first: FusionLayer = self.layers[0]  # type: ignore[assignment]
        return first.self_attention_visual(voxels, position, RaggedPlan(lengths, lengths, voxels.device))

    def forward(
        self,
        voxels: Tensor,
        position: Tensor,
        voxel_lengths: list[int],
        text: Tensor,
        text_lengths: list[int],
        begun: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """voxels and position (N, C), text (T, C), ragged over the same Q sentences -> updated (voxels, text).

        ``begun``: the voxels come from :meth:`begin`.
        """
        plans = FusionPlans(voxel_lengths, text_lengths, voxels.device)
        for i, layer in enumerate(self.layers):
            voxels, text = layer(voxels, position, text, plans, begun and i == 0)
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
        first, norm, relu, last = self.position_embedding_head
        assert isinstance(first, nn.Conv1d) and isinstance(last, nn.Conv1d)
        # Pointwise convolutions as matrix products, which keep (N, C) rows and need no transposes.
        hidden = F.linear(xyz, first.weight.squeeze(2), first.bias)
        if len(xyz) > 1 or not self.training:
            hidden = norm(hidden)
        return F.linear(relu(hidden), last.weight.squeeze(2), last.bias)
