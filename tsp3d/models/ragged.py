"""Attention over ragged batches.

A ragged batch is a concatenation of sequences, (sum of lengths, C), with the lengths as a list. Attention runs on
groups of sequences of nearly equal length, so that little of the work is padding, whatever the rooms and sentences.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsp3d.sparse import ops
from tsp3d.sparse.kept import native
from tsp3d.sparse.linear import attention_layer, layers_of, linear, packed

PADDING_BUDGET = 1.15  # padded work over real work that one group may reach before a new one is opened


def _groups(q_lengths: list[int], k_lengths: list[int]) -> list[list[int]]:
    """Indices of sequences, grouped so that padding to the group's maxima stays within the budget."""
    if len(q_lengths) == 1:  # nothing to weigh, so that torch.export can leave the lengths open
        return [[0]] if q_lengths[0] and k_lengths[0] else []
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
        self.lengths, self.device = (q_lengths, k_lengths), device
        self._ends: tuple[RaggedPlan, RaggedPlan] | None = None

    def across(self, other: RaggedPlan) -> RaggedPlan:
        """From the queries of this plan to the keys of another."""
        plan = RaggedPlan(self.lengths[0], other.lengths[1], self.device)
        plan._ends = (self, other)
        return plan

    @cached_property
    def splits(self) -> tuple[Tensor, Tensor]:
        """(S + 1,) int64 borders of the queries' and of the keys' sequences."""
        if self._ends is not None:
            return self._ends[0].splits[0], self._ends[1].splits[1]
        q, k = self.lengths
        borders = torch.tensor([*_starts(q), sum(q)], device=self.device)
        return borders, borders if q is k else torch.tensor([*_starts(k), sum(k)], device=self.device)

    @cached_property
    def groups(self) -> list[tuple[int, Tensor, Tensor, Tensor | None, Tensor | None]]:
        """Per group its number of sequences, the padded rows of queries and keys, the mask of keys, and which queries
        are real."""
        groups = []
        (q_lengths, k_lengths), device = self.lengths, self.device
        q_start, k_start = _starts(q_lengths), _starts(k_lengths)
        for members in _groups(q_lengths, k_lengths):
            q_index, q_valid = _padded([q_start[i] for i in members], [q_lengths[i] for i in members], device)
            k_index, k_valid = _padded([k_start[i] for i in members], [k_lengths[i] for i in members], device)
            mask = None if k_valid is None else k_valid[:, None, None, :]  # (G, 1, 1, K)
            groups.append((len(members), q_index, k_index, mask, q_valid))
        return groups

    def attend(self, q: Tensor, k: Tensor, v: Tensor, scale: float | None = None, dropout: float = 0.0) -> Tensor:
        """q (Nq, H, D), k (Nk, H, D), v (Nk, H, E) -> (Nq, H, E); rows without keys get zeros. ``scale``: of the
        logits, by default 1 / sqrt(D). ``dropout``: of the attention weights."""
        if native(q) and not dropout:
            return ops.attention(q, k, v, *self.splits, q.shape[2] ** -0.5 if scale is None else scale)
        parts, rows = [], []
        for size, q_index, k_index, mask, q_valid in self.groups:
            heads = [
                t.index_select(0, i).unflatten(0, (size, -1)).transpose(1, 2)
                for t, i in ((q, q_index), (k, k_index), (v, k_index))
            ]
            out = (
                F.scaled_dot_product_attention(*heads, attn_mask=mask, dropout_p=dropout, scale=scale)
                .transpose(1, 2)
                .flatten(0, 1)
            )  # (G * Q, H, E)
            if q_valid is not None:
                keep = q_valid.flatten().nonzero().squeeze(1)
                out, q_index = out.index_select(0, keep), q_index.index_select(0, keep)
            parts.append(out)
            rows.append(q_index)
        whole = q.new_zeros(q.shape[0], q.shape[1], v.shape[2])
        return whole.index_copy(0, torch.cat(rows), torch.cat(parts)) if parts else whole


class PaddedPlan:
    """The same among sequences that are padded to one length, which torch.export can trace. mask: (Q, L) bool, True at
    what is real."""

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask

    def attend(self, q: Tensor, k: Tensor, v: Tensor, scale: float | None = None, dropout: float = 0.0) -> Tensor:
        """As :meth:`RaggedPlan.attend`, over all Q * L rows."""
        heads = [t.unflatten(0, self.mask.shape).transpose(1, 2) for t in (q, k, v)]
        mask = self.mask[:, None, None, :]
        out = F.scaled_dot_product_attention(*heads, attn_mask=mask, dropout_p=dropout, scale=scale)
        return out.transpose(1, 2).flatten(0, 1)


def _starts(lengths: list[int]) -> list[int]:
    starts, total = [], 0
    for n in lengths:
        starts.append(total)
        total += n
    return starts


def _padded(starts: list[int], lengths: list[int], device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Row indices of sequences padded to the longest by repeating a row, flat, and which are real (None if all)."""
    if len(starts) == 1:  # also what torch.export can trace without fixing the length
        return torch.arange(lengths[0], device=device) + starts[0], None
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

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        plan: RaggedPlan,
        dropout: nn.Dropout | None = None,
        residual: Tensor | None = None,
        after: nn.LayerNorm | None = None,
    ) -> Tensor:
        """query (Nq, C), key and value (Nk, C) -> (Nq, C); what follows the last projection is that of ``linear``."""
        dim = query.shape[1]
        # In as few products as there are different inputs next to each other.
        if query is key:
            sizes = [3 * dim] if key is value else [2 * dim, dim]
        else:
            sizes = [dim, 2 * dim] if key is value else [dim, dim, dim]
        inputs = {1: [query], 2: [query, value], 3: [query, key, value]}[len(sizes)]
        weights = [self.in_proj_weight, self.in_proj_bias, self.out_proj.weight, self.out_proj.bias]

        def split() -> list[tuple[Tensor, Tensor]]:
            return [*zip(weights[0].split(sizes), weights[1].split(sizes), strict=True), (weights[2], weights[3])]

        layers = layers_of(self, query, weights, split, tuple(sizes))
        if len(sizes) < 3 and packed(layers, dropout):
            other = None if key is query and value is query else value
            return attention_layer(layers, query, other, plan.splits, self.heads, residual=residual, after=after)
        outs = [f(x) for f, x in zip(layers, inputs, strict=False)]
        q, k, v = (part for out in outs for part in out.unflatten(1, (-1, self.heads, dim // self.heads)).unbind(1))
        attended = plan.attend(q, k, v).flatten(1)
        return linear(attended, layers[-1], dropout=dropout, residual=residual, after=after)
