"""What runs on rows of sequences of unequal length in plain PyTorch: attention, linear layers, the best rows of each.

Sequence s has the rows ``splits[s]:splits[s + 1]``; splits are (S + 1,) int64.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def attention(q: Tensor, k: Tensor, v: Tensor, q_splits: Tensor, k_splits: Tensor, scale: float) -> Tensor:
    """(Nq, H, E): softmax attention of q (Nq, H, D) to k (Nk, H, D) and v (Nk, H, E), each within its own sequence.

    Rows ``splits[s]:splits[s + 1]`` (int64) belong to sequence s; zeros where a sequence has no keys.
    """
    out = q.new_zeros(q.shape[0], q.shape[1], v.shape[2])
    borders = list(zip(q_splits.tolist(), k_splits.tolist(), strict=True))
    for (q0, k0), (q1, k1) in zip(borders, borders[1:], strict=False):
        if q0 < q1 and k0 < k1:
            weight = torch.einsum("qhd,khd->hqk", q[q0:q1], k[k0:k1]).mul(scale).softmax(2)
            out[q0:q1] = torch.einsum("hqk,khe->qhe", weight, v[k0:k1])
    return out


def spatial_attention(q: Tensor, k: Tensor, v: Tensor, ask: Tensor, xyz: Tensor, splits: Tensor) -> Tensor:
    """(N, H, E + 7): attention of voxels to those of their sequence, with logits and results that know offsets.

    q, k (N, H, D), v (N, H, E), ask (N, H, 6): u, and a before softplus; xyz (N, 3). Logit of i to j:
    q_i . k_j / sqrt(D) + u_i . (p_j - p_i) - a_i . (p_j - p_i)^2. After the attended values come the mean of p_j - p_i
    (3), its length (1), and the spread of p_j by axis (3).
    """
    u, a = ask[..., :3], F.softplus(ask[..., 3:])
    out = q.new_zeros(q.shape[0], q.shape[1], v.shape[2] + 7)
    borders = splits.tolist()
    for low, high in zip(borders, borders[1:], strict=False):
        part = slice(low, high)
        delta = xyz[part][None] - xyz[part][:, None]  # (i, j, 3)
        logits = torch.einsum("ihd,jhd->hij", q[part], k[part]) / q.shape[2] ** 0.5
        logits = logits + torch.einsum("iha,ija->hij", u[part], delta) - torch.einsum("iha,ija->hij", a[part], delta**2)
        weight = logits.softmax(2)
        mean = torch.einsum("hij,ija->iha", weight, delta)
        spread = (torch.einsum("hij,ija->iha", weight, delta**2) - mean**2).clamp(min=0)
        attended = torch.einsum("hij,jhe->ihe", weight, v[part])
        out[part] = torch.cat([attended, mean, mean.norm(dim=2, keepdim=True), spread], 2)
    return out


def linear(
    x: Tensor, before_weight: Tensor | None, before_bias: Tensor | None, panels: Tensor, channels: int, activation: int,
    factor: Tensor | None, residual: Tensor | None, after_weight: Tensor | None, after_bias: Tensor | None, eps: float,
) -> Tensor:  # fmt: skip
    """(N, Cout): after(residual + factor * activation(before(x) @ weight + bias)), without what is None.

    x (N, Cin); panels (P, Cin + 1, 32): the columns of the weight (Cin, Cout) and the bias under them, 32 to a panel,
    the last one filled up; channels: Cout; factor, residual (N, Cout); activation: 0 none, 1 ReLU, 2 GELU; before and
    after: layer norms.
    """
    if before_weight is not None:
        x = F.layer_norm(x, x.shape[1:], before_weight, before_bias, eps)
    columns = panels.transpose(0, 1).flatten(1)[:, :channels]  # (Cin + 1, Cout)
    y = x @ columns[:-1] + columns[-1]
    y = F.relu(y) if activation == 1 else F.gelu(y) if activation == 2 else y
    y = y if factor is None else y * factor
    y = y if residual is None else y + residual
    return y if after_weight is None else F.layer_norm(y, y.shape[1:], after_weight, after_bias, eps)


def mean_mlp(
    x: Tensor, first: Tensor, hidden: int, second: Tensor, channels: int, row: Tensor, size: int
) -> Tensor:  # fmt: skip
    """(size, channels): mean of relu(second(relu(first(x)))) over the rows of each group, zero where it has none.

    x (N, Cin); panels of layers of ``hidden`` and of ``channels`` numbers as :func:`linear` has them; row (N,) int64:
    the group of each row; what lies outside 0..size - 1 belongs to none.
    """
    for panels, width in ((first, hidden), (second, channels)):
        x = linear(x, None, None, panels, width, 1, None, None, None, None, 0.0)
    within = (row >= 0) & (row < size)
    x, row = x[within], row[within]
    count = torch.bincount(row, minlength=size).clamp(min=1)
    return x.new_zeros(size, channels).index_add(0, row, x) / count[:, None]


def attention_layer(
    query: Tensor, value: Tensor | None, before_weight: Tensor | None, before_bias: Tensor | None, first: Tensor,
    channels: int, second: Tensor | None, out: Tensor, xyz: Tensor | None, q_splits: Tensor, k_splits: Tensor,
    heads: int, residual: Tensor | None, after_weight: Tensor | None, after_bias: Tensor | None, eps: float,
) -> Tensor:  # fmt: skip
    """(Nq, C): after(residual + out(attention)), without what is None.

    query (Nq, C), value (Nk, C) or None for the query; before: a layer norm of both. ``first`` (of the query) and
    ``second`` (of the value) are linear layers with panels as :func:`linear` has them, that together make q, k and v,
    each (rows, heads, C / heads): first, with its ``channels``, as many as fit, second the rest. xyz (Nq, 3):
    attention as :func:`spatial_attention`, with ``ask`` from the last channels of first. ``out``: from what the heads
    attended to, C channels. The splits are those of :func:`attention`.
    """
    dim, before = query.shape[1], (before_weight, before_bias)
    made = linear(query, *before, first, channels, 0, None, None, None, None, eps)
    asked = 0 if xyz is None else 6 * heads
    parts = list(made[:, : channels - asked].split(dim, 1))
    if second is not None:
        source, rest = query if value is None else value, (3 - len(parts)) * dim
        parts += linear(source, *before, second, rest, 0, None, None, None, None, eps).split(dim, 1)
    q, k, v = (part.unflatten(1, (heads, -1)) for part in parts)
    if xyz is None:
        heard = attention(q, k, v, q_splits, k_splits, q.shape[2] ** -0.5)
    else:
        heard = spatial_attention(q, k, v, made[:, -asked:].unflatten(1, (heads, 6)), xyz, q_splits)
    return linear(heard.flatten(1), None, None, out, dim, 0, None, residual, after_weight, after_bias, eps)


def top_mask(scores: Tensor, splits: Tensor, keep: int) -> Tensor:
    """(N,) bool: the ``keep`` best rows of each sequence, of equal ones the first; what is no number is infinite.

    scores (N,); rows ``splits[s]:splits[s + 1]`` (int64) belong to sequence s.
    """
    counts = splits.diff()
    order = scores.nan_to_num(torch.inf, torch.inf, -torch.inf).argsort(descending=True, stable=True)
    sequence = torch.repeat_interleave(counts, output_size=len(scores))  # known, so that no device waits
    order = order[sequence[order].argsort(stable=True)]
    rank = torch.arange(len(scores), device=scores.device) - splits[:-1][sequence]
    return torch.zeros_like(scores, dtype=torch.bool).index_copy(0, order, rank < keep)
