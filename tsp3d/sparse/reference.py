"""The operators of the engine in plain PyTorch: the definition that every compiled kernel is compared with.

Runs on any device. Conventions shared by all functions here:

- coords: (N, 4) int32, columns batch, x, y, z, in base voxels. A *coordinate set* has unique rows, lexicographically
  ordered.
- kernel map: ``in_rows`` (L,) int32, ``out_rows`` (L,) int32, ``splits`` (K + 1,) int64. Pairs of offset k are
  ``splits[k]:splits[k + 1]``, ordered by out row. Translation keeps lexicographic order, so they are ordered by in row
  as well.
- kernel offsets: x fastest, then y, then z; odd sizes are centred, even sizes start at 0 (spec/release-state-dict.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

INT64_MAX = 2**63 - 1


def kernel_offsets(kernel_size: Sequence[int]) -> list[tuple[int, int, int]]:
    """Offsets of a kernel in kernel steps, in the order of the weight's first dimension.

    >>> kernel_offsets((3, 3, 3))[:2], kernel_offsets((2, 2, 2))[1]
    ([(-1, -1, -1), (0, -1, -1)], (1, 0, 0))
    """
    axes = [[i - size // 2 if size % 2 else i for i in range(size)] for size in kernel_size]
    return [(x, y, z) for z in axes[2] for y in axes[1] for x in axes[0]]


class Packing:
    """Maps coordinates to int64 keys whose order is the lexicographic order of the rows."""

    def __init__(self, low: list[int], high: list[int]):
        self.low = low
        self.extent = [h - lo + 1 for lo, h in zip(low, high, strict=True)]
        cells = 1
        for extent in self.extent:
            cells *= max(extent, 1)
        if cells > INT64_MAX:
            raise RuntimeError(
                f"coordinates do not fit in 64-bit keys: (batch, x, y, z) span {self.extent} voxels; "
                "use larger voxels, fewer scenes per batch, or remove points far outside the scene"
            )
        ex, ey, ez = self.extent[1:]
        self.scale = [ex * ey * ez, ey * ez, ez, 1]

    @classmethod
    def of(cls, *coords: Tensor, margin: tuple[Sequence[int], Sequence[int]] = ((0, 0, 0), (0, 0, 0))) -> Packing:
        """Packing for all rows of several (N, 4) tensors; ``margin`` widens x, y, z by (below, above)."""
        parts = [c for c in coords if len(c)]
        if not parts:
            return cls([0] * 4, [0] * 4)
        low = torch.stack([c.amin(0) for c in parts]).amin(0).tolist()
        high = torch.stack([c.amax(0) for c in parts]).amax(0).tolist()
        below, above = (0, *margin[0]), (0, *margin[1])
        return cls([v + m for v, m in zip(low, below, strict=True)], [v + m for v, m in zip(high, above, strict=True)])

    def keys(self, coords: Tensor) -> Tensor:
        """(N,) int64 keys of (N, 4) coordinates."""
        shifted = coords.long() - torch.tensor(self.low, device=coords.device)
        return (shifted * torch.tensor(self.scale, device=coords.device)).sum(1)

    def holds(self, coords: Tensor) -> Tensor:
        """(N,) bool: whether each of (N, 4) coordinates lies between the bounds; keys of others mean nothing."""
        shifted = coords.long() - torch.tensor(self.low, device=coords.device)
        return ((shifted >= 0) & (shifted < torch.tensor(self.extent, device=coords.device))).all(1)

    def delta(self, offset: Sequence[int]) -> int:
        """Key difference between a coordinate and itself moved by ``offset`` (x, y, z)."""
        return sum(o * s for o, s in zip(offset, self.scale[1:], strict=True))


def floor_coords(coords: Tensor, step: int) -> Tensor:
    """Coordinates of the cells of ``step`` voxels that hold each row; the batch column is left alone."""
    if step == 1:
        return coords
    cells = torch.div(coords[:, 1:].long(), step, rounding_mode="floor") * step
    return torch.cat([coords[:, :1], _as_int32(cells)], 1)


def _as_int32(coords: Tensor) -> Tensor:
    """int64 coordinates as int32; RuntimeError where they do not fit."""
    if coords.numel() and not (-(2**31) <= int(coords.amin()) and int(coords.amax()) < 2**31):
        raise RuntimeError("coordinates leave the range of int32; move the scene near the origin")
    return coords.int()


def unique_coords(coords: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sorted unique cells: (cells (U, 4), inverse (N,) int64, order (N,) int64, starts (U + 1,) int64).

    ``order[starts[u]:starts[u + 1]]`` are the rows of cell u, ascending.
    """
    cells = floor_coords(coords, step)
    keys, order = torch.sort(Packing.of(cells).keys(cells), stable=True)
    _, groups, counts = torch.unique_consecutive(keys, return_inverse=True, return_counts=True)
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    inverse = torch.empty_like(order)
    inverse[order] = groups
    return cells[order[starts[:-1]]].contiguous(), inverse, order, starts


def is_coordinate_set(coords: Tensor) -> Tensor:
    """0-d bool: rows are unique and in lexicographic order."""
    if len(coords) < 2:
        return torch.ones((), dtype=torch.bool, device=coords.device)
    keys = Packing.of(coords).keys(coords)
    return (keys[1:] > keys[:-1]).all()


def lookup(coords: Tensor, query: Tensor) -> Tensor:
    """(M,) int64: the row of each (M, 4) query in a coordinate set, or -1."""
    if not len(coords) or not len(query):
        return torch.full((len(query),), -1, dtype=torch.int64, device=query.device)
    packing = Packing.of(coords)
    keys, wanted = packing.keys(coords), torch.where(packing.holds(query), packing.keys(query), -1)
    rows = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
    return torch.where(keys[rows] == wanted, rows, -1)


def merge_coords(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Union of two coordinate sets: (coords (U, 4), row in a or -1 (U,) int64, row in b or -1 (U,) int64)."""
    union = unique_coords(torch.cat([a, b]), 1)[0]
    return union, lookup(a, union), lookup(b, union)


def merge_feats(a: Tensor, b: Tensor, rows_a: Tensor, rows_b: Tensor) -> Tensor:
    """(U, C): a[rows_a] + b[rows_b], where a row of -1 counts as zero."""
    one = a.new_ones(rows_a.shape[0], 1)
    return interpolate(a, rows_a[:, None], one) + interpolate(b, rows_b[:, None], one)


def dilate_coords(coords: Tensor, kernel_size: Sequence[int], step: int) -> Tensor:
    """Coordinate set of all rows moved by all kernel offsets times ``step``."""
    moves = torch.tensor([(0, *o) for o in kernel_offsets(kernel_size)], device=coords.device) * step
    return unique_coords(_as_int32((coords[:, None] + moves).reshape(-1, 4)), 1)[0]


def kernel_map(
    in_coords: Tensor, out_coords: Tensor, kernel_size: Sequence[int], step: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs with ``in_coords[i] == out_coords[o] + step * offset_k`` (a kernel map, see the module's docstring)."""
    device = in_coords.device
    moves = [tuple(step * v for v in o) for o in kernel_offsets(kernel_size)]
    splits = torch.zeros(len(moves) + 1, dtype=torch.int64, device=device)
    if not len(in_coords) or not len(out_coords):
        empty = torch.zeros(0, dtype=torch.int32, device=device)
        return empty, empty.clone(), splits
    below, above = [min(a) for a in zip(*moves, strict=True)], [max(a) for a in zip(*moves, strict=True)]
    packing = Packing.of(in_coords, out_coords, margin=([min(v, 0) for v in below], [max(v, 0) for v in above]))
    in_keys, out_keys = packing.keys(in_coords), packing.keys(out_coords)
    ins, outs = [], []
    for move in moves:
        wanted = out_keys + packing.delta(move)
        rows = torch.searchsorted(in_keys, wanted).clamp_(max=len(in_keys) - 1)
        (hits,) = torch.nonzero(in_keys[rows] == wanted, as_tuple=True)
        ins.append(rows[hits].int())
        outs.append(hits.int())
    splits[1:] = torch.tensor([len(i) for i in ins], device=device).cumsum(0)
    return torch.cat(ins), torch.cat(outs), splits


def filter_map(
    in_rows: Tensor, out_rows: Tensor, splits: Tensor, new_in: Tensor, new_out: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The pairs whose both ends survive, renumbered. ``new_in``, ``new_out``: int32 new row of each old row, or -1."""
    ins, outs = new_in[in_rows], new_out[out_rows]
    keep = (ins >= 0) & (outs >= 0)
    counts = torch.cat([splits.new_zeros(1), keep.cumsum(0)])
    return ins[keep], outs[keep], counts[splits]


def replicate_map(
    in_rows: Tensor, out_rows: Tensor, splits: Tensor, in_offsets: Tensor, out_offsets: Tensor, index: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The kernel map of a batch made of copies: new scene b is a copy of old scene ``index[b]``.

    in_offsets, out_offsets: (B + 1,) int64 first row of each old scene; index: (B',) int64.
    """
    zero = splits.new_zeros(1)
    new_in = torch.cat([zero, in_offsets.diff()[index].cumsum(0)])[:-1] - in_offsets[index]
    new_out = torch.cat([zero, out_offsets.diff()[index].cumsum(0)])[:-1] - out_offsets[index]
    ins, outs, sizes = [], [], [0]
    borders = splits.tolist()
    for k in range(len(borders) - 1):
        part = slice(borders[k], borders[k + 1])
        starts = torch.searchsorted(out_rows[part].long(), out_offsets)
        counts = starts.diff()[index]
        total = int(counts.sum())
        copy = torch.repeat_interleave(counts)  # (total,) which copy each new pair belongs to
        within = torch.arange(total, device=copy.device) - (counts.cumsum(0) - counts)[copy]
        source = starts[index][copy] + within
        ins.append(in_rows[part][source] + new_in[copy])
        outs.append(out_rows[part][source] + new_out[copy])
        sizes.append(total)
    return torch.cat(ins).int(), torch.cat(outs).int(), torch.tensor(sizes, device=splits.device).cumsum(0)


def conv(feats: Tensor, weight: Tensor, in_rows: Tensor, out_rows: Tensor, splits: Tensor, num_out: int) -> Tensor:
    """(num_out, Cout): sum over pairs (k, i, o) of feats[i] @ weight[k]; feats (N, Cin), weight (K, Cin, Cout)."""
    out = feats.new_zeros(num_out, weight.shape[2])
    borders = splits.tolist()
    for k in range(weight.shape[0]):
        part = slice(borders[k], borders[k + 1])
        if borders[k] < borders[k + 1]:
            out.index_add_(0, out_rows[part], feats.index_select(0, in_rows[part]) @ weight[k])
    return out


PANEL = 32
"""Output channels of a panel of a packed weight."""


def pack(weight: Tensor) -> Tensor:
    """Weight (K, Cin, Cout) -> panels (K, P, ceil(Cin / D), 32, D): P = ceil(Cout / 32) times 32 output channels,
    the last ones filled up with zeros, D input channels side by side: 2 of bfloat16, else 1."""
    depth = 2 if weight.dtype == torch.bfloat16 else 1
    panels = F.pad(weight, (0, -weight.shape[2] % PANEL, 0, -weight.shape[1] % depth))
    return panels.unflatten(2, (-1, PANEL)).unflatten(1, (-1, depth)).permute(0, 3, 1, 4, 2).contiguous()


def unpack(panels: Tensor, cin: int, cout: int) -> Tensor:
    """Panels -> weight (K, Cin, Cout)."""
    return panels.permute(0, 2, 4, 1, 3).flatten(3, 4).flatten(1, 2)[:, :cin, :cout]


def conv_fused(
    feats: Tensor,
    panels: Tensor,
    channels: int,
    bias: Tensor | None,
    residual: Tensor | None,
    in_rows: Tensor,
    out_rows: Tensor,
    splits: Tensor,
    num_out: int,
    relu: bool,
) -> Tensor:
    """(num_out, Cout): :func:`conv` plus bias (Cout,) plus residual (num_out, Cout), then ReLU where asked.

    panels: the weight as :func:`pack` gives it; channels: Cout. Features are rounded to bfloat16 where panels are; sums
    are in the features' own dtype.
    """
    weight = unpack(panels, feats.shape[1], channels)
    if weight.dtype != feats.dtype:
        feats, weight = feats.to(weight.dtype).to(feats.dtype), weight.to(feats.dtype)
    return finish(conv(feats, weight, in_rows, out_rows, splits, num_out), bias, residual, relu)


def finish(out: Tensor, bias: Tensor | None, residual: Tensor | None, relu: bool) -> Tensor:
    """What follows a convolution's sums in one pass: plus bias (Cout,), plus residual (N, Cout), then ReLU."""
    for term in (bias, residual):
        if term is not None:
            out = out + term
    return out.relu() if relu else out


def conv_weight_grad(feats: Tensor, grad: Tensor, in_rows: Tensor, out_rows: Tensor, splits: Tensor) -> Tensor:
    """(K, Cin, Cout): for each offset the sum over its pairs of the outer product of feats[i] and grad[o]."""
    borders = splits.tolist()
    result = feats.new_zeros(len(borders) - 1, feats.shape[1], grad.shape[1])
    for k in range(len(borders) - 1):
        part = slice(borders[k], borders[k + 1])
        if borders[k] < borders[k + 1]:
            torch.mm(feats.index_select(0, in_rows[part]).T, grad.index_select(0, out_rows[part]), out=result[k])
    return result


MASK_BITS = 48
"""Offsets of a share that rows are sorted by."""


def sort_map(in_rows: Tensor, out_rows: Tensor, splits: Tensor, num_out: int, shares: int) -> Tensor:
    """(S + K, M) int32: for each share of the offsets the M output rows, ascending by the mask of the offsets that they
    have; then, for each offset, the input row of each of them in the order of its share, or -1.

    Share s has the offsets ``K * s // S : K * (s + 1) // S``; bit j of a mask is its offset number j. Stable.
    """
    volume = splits.shape[0] - 1
    if shares < 1 or (shares > volume and shares > 1):
        raise RuntimeError(f"tsp3d: shares must be 1..{volume}, got {shares}")
    pair = torch.arange(in_rows.shape[0], device=splits.device)
    offset = torch.searchsorted(splits, pair, right=True) - 1  # (L,) of each pair
    table = in_rows.new_full((volume, num_out), -1)
    table[offset, out_rows.long()] = in_rows
    orders, tables = [], []
    for share in range(shares):
        part = table[volume * share // shares : volume * (share + 1) // shares]
        bits = (part[:MASK_BITS] >= 0).long()
        mask = (bits << torch.arange(bits.shape[0], device=bits.device)[:, None]).sum(0)
        order = torch.sort(mask, stable=True)[1]
        orders.append(order.int())
        tables.append(part[:, order])
    return torch.cat([torch.stack(orders), *tables])


def tiled_conv(
    feats: Tensor, weight: Tensor, in_rows: Tensor, out_rows: Tensor, splits: Tensor, sorted: Tensor | None,
    num_out: int, tile: int, shares: int,
) -> Tensor:  # fmt: skip
    """:func:`conv`; the other arguments say how CUDA does it (csrc/conv/op.h)."""
    return conv(feats, weight, in_rows, out_rows, splits, num_out)


def tiled_weight_grad(
    feats: Tensor, grad: Tensor, in_rows: Tensor, out_rows: Tensor, splits: Tensor, tile: int, shares: int
) -> Tensor:
    """:func:`conv_weight_grad`; the other arguments say how CUDA does it (csrc/conv/op.h)."""
    return conv_weight_grad(feats, grad, in_rows, out_rows, splits)


def sum_pool(feats: Tensor, in_rows: Tensor, out_rows: Tensor, splits: Tensor, num_out: int) -> Tensor:
    """(num_out, C): the sum of feats[i] over all pairs of an out row."""
    out = feats.new_zeros(num_out, feats.shape[1])
    return out.index_add_(0, out_rows, feats.index_select(0, in_rows)) if len(in_rows) else out


def max_pool(feats: Tensor, in_rows: Tensor, out_rows: Tensor, splits: Tensor, num_out: int) -> tuple[Tensor, Tensor]:
    """Maximum over all pairs of an out row: (values (num_out, C), argmax (num_out, C) int32 in row or -1).

    A row without pairs gives 0. Among equal values the first pair wins, and what is not a number wins over all that is.
    """
    shape = (num_out, feats.shape[1])
    if not len(in_rows) or not num_out:
        return feats.new_zeros(shape), torch.full(shape, -1, dtype=torch.int32, device=feats.device)
    index = out_rows.long()[:, None].expand(-1, shape[1])
    picked = feats.index_select(0, in_rows)  # (L, C)
    best = feats.new_full(shape, -torch.inf).scatter_reduce_(0, index, picked, "amax")
    pair = torch.arange(len(in_rows), device=feats.device)[:, None]
    most = best.gather(0, index)
    pair = torch.where((picked == most) | (picked.isnan() & most.isnan()), pair, len(in_rows))
    first = torch.full(shape, len(in_rows), device=feats.device).scatter_reduce_(0, index, pair, "amin")
    found = first < len(in_rows)
    argmax = torch.where(found, in_rows[first.clamp(max=len(in_rows) - 1)], -1)
    return torch.where(found, best, 0.0), argmax


def max_pool_grad(grad: Tensor, argmax: Tensor, num_in: int) -> Tensor:
    """(num_in, C): each gradient goes to the row that won."""
    out = grad.new_zeros(num_in, grad.shape[1])
    if not num_in:
        return out
    return out.scatter_add_(0, argmax.long().clamp(min=0), torch.where(argmax >= 0, grad, 0.0))


def interpolation_weights(coords: Tensor, points: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Trilinear neighbours of points (M, 4) float [batch, x, y, z]: (rows (M, 8) int64 or -1, weights (M, 8)).

    Corner j is +1 stride along x, y, z where bits 0, 1, 2 of j are set.
    """
    corners = torch.tensor(kernel_offsets((2, 2, 2)), device=points.device)  # (8, 3)
    cell = torch.floor(points[:, 1:] / stride)
    fraction = (points[:, 1:] / stride - cell)[:, None]  # (M, 1, 3)
    weights = torch.where(corners.bool(), fraction, 1 - fraction).prod(2)
    # What lies beyond all voxels, or is not a number, comes to lie where none is.
    place = torch.where(points.abs() <= 2**32, torch.cat([points[:, :1], cell], 1), 2**33).long()[:, None]
    position = (place[:, :, 1:] + corners) * stride  # (M, 8, 3)
    query = torch.cat([place[:, :, :1].expand(-1, 8, 1), position], 2)
    return lookup(coords, query.reshape(-1, 4)).reshape(-1, 8), weights


def interpolate(feats: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """(M, C): sum over j of weights[m, j] * feats[rows[m, j]]; rows (M, J) int64, -1 contributes nothing."""
    out = feats.new_zeros(rows.shape[0], feats.shape[1])
    if not len(feats):
        return out
    for j in range(rows.shape[1]):
        terms = feats.index_select(0, rows[:, j].clamp(min=0)) * weights[:, j, None]
        out += torch.where(rows[:, j, None] >= 0, terms, 0.0)
    return out


def splat(grad: Tensor, rows: Tensor, weights: Tensor, num_in: int) -> Tensor:
    """(num_in, C): the adjoint of ``interpolate``: row rows[m, j] receives weights[m, j] * grad[m]."""
    out = grad.new_zeros(num_in, grad.shape[1])
    if not num_in:
        return out
    for j in range(rows.shape[1]):
        terms = torch.where(rows[:, j, None] >= 0, grad * weights[:, j, None], 0.0)
        out.index_add_(0, rows[:, j].clamp(min=0), terms)
    return out
