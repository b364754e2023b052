"""Convolution on CUDA with a plan: rows as they lie or sorted, which tile, how many shares, or gather–GEMM–scatter.

A plan changes how the work is done, and the result only by the rounding of sums. :func:`convolve` makes one: measured
(``tuning.py``) where it may, of what is known while a CUDA graph is captured, fixed under torch.compile and with
``TSP3D_TUNE=0``.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from tsp3d.sparse import ops, tuning
from tsp3d.sparse.backends import CUDA_STATUS
from tsp3d.sparse.kernel_map import KernelMap
from tsp3d.sparse.tuning import Choice, Tuner

METHODS = ("rows", "sorted", "gather")
TILES = {"conv": (1, 2, 3), "weight_grad": (1, 2)}  # csrc/conv/op.h
SORTED_OFFSETS = 16
"""Maps of fewer offsets are not sorted: they serve one layer, and tiles of their rows lack few offsets."""
MOST_BYTES = 2**31
"""What gathered rows, or a sorted map, may take."""
PRECISION = {torch.float64: 1e-12, torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
"""Errors, as shares of the largest value, that two ways of summing may differ by; the last two are two roundings."""
PRECISION_TF32 = 2e-3
BUILT = not {"tiled_conv", "tiled_weight_grad", "sort_map"} & ops.ON_REFERENCE_CUDA
TF32 = os.environ.get("TSP3D_TF32") == "1"  # as the kernels read it

Plan = tuple[Choice, Choice, Choice]  # output, gradient of the features, gradient of the weight


# --- the operator -----------------------------------------------------------------------------------------------------
# Plans go through it as numbers: of each choice the place in METHODS, the tile and the shares.

_LIBRARY = torch.library.Library("tsp3d", "FRAGMENT")
_MAP = "Tensor in_rows, Tensor out_rows, Tensor splits"
_LIBRARY.define(
    f"planned_conv(Tensor feats, Tensor weight, {_MAP}, Tensor? sorted, Tensor? sorted_back, SymInt num_out, "
    "int[] plan, int[] borders) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_LIBRARY.define(
    f"planned_weight_grad(Tensor feats, Tensor grad, {_MAP}, int[] plan, int[] borders) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_ops = torch.ops.tsp3d


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _product(a: Tensor, b: Tensor, out: Tensor) -> None:
    """a @ b into ``out``, which is float32 where they are of half precision: sums are rounded once, at their end."""
    if a.dtype == out.dtype:
        torch.mm(a, b, out=out)
    elif a.is_cuda:
        torch.ops.aten.mm.dtype_out(a, b, out.dtype, out=out)
    else:
        torch.mm(a.to(out.dtype), b.to(out.dtype), out=out)


def _gather_conv(
    feats: Tensor, weight: Tensor, in_rows: Tensor, out_rows: Tensor, splits: Tensor, borders: list[int], num_out: int
) -> Tensor:
    """All pairs' rows in one buffer, a product for each offset, and the sum of each output row's products in order."""
    picked = feats.index_select(0, in_rows)  # (L, Cin)
    products = feats.new_empty(in_rows.shape[0], weight.shape[2], dtype=_wide(feats.dtype))
    for k, (begin, end) in enumerate(zip(borders[:-1], borders[1:], strict=True)):
        if begin < end:
            _product(picked[begin:end], weight[k], products[begin:end])
    pairs = torch.arange(in_rows.shape[0], dtype=torch.int32, device=feats.device)
    return ops.sum_pool(products, pairs, out_rows, splits, num_out).to(feats.dtype)


def _gather_weight_grad(feats: Tensor, grad: Tensor, in_rows: Tensor, out_rows: Tensor, borders: list[int]) -> Tensor:
    ins, outs = feats.index_select(0, in_rows), grad.index_select(0, out_rows)
    result = feats.new_zeros(len(borders) - 1, feats.shape[1], grad.shape[1], dtype=_wide(feats.dtype))
    for k, (begin, end) in enumerate(zip(borders[:-1], borders[1:], strict=True)):
        if begin < end:
            _product(ins[begin:end].T, outs[begin:end], result[k])
    return result.to(feats.dtype)


def _planned_conv(feats, weight, in_rows, out_rows, splits, sorted, sorted_back, num_out, plan, borders):
    method, tile, shares = plan[:3]
    if METHODS[method] == "gather":
        return _gather_conv(feats, weight, in_rows, out_rows, splits, borders or splits.tolist(), num_out)
    rows = sorted if METHODS[method] == "sorted" else None
    return ops.tiled_conv(feats, weight, in_rows, out_rows, splits, rows, num_out, tile, shares)


def _planned_weight_grad(feats, grad, in_rows, out_rows, splits, plan, borders):
    method, tile, shares = plan
    if METHODS[method] == "gather":
        return _gather_weight_grad(feats, grad, in_rows, out_rows, borders or splits.tolist())
    return ops.tiled_weight_grad(feats, grad, in_rows, out_rows, splits, tile, shares)


for _device in ("CPU", "CUDA"):
    _LIBRARY.impl("planned_conv", _planned_conv, _device)
    _LIBRARY.impl("planned_weight_grad", _planned_weight_grad, _device)


@torch.library.register_fake("tsp3d::planned_conv", lib=_LIBRARY)
def _(feats, weight, in_rows, out_rows, splits, sorted, sorted_back, num_out, plan, borders):
    return feats.new_empty(num_out, weight.shape[2])


@torch.library.register_fake("tsp3d::planned_weight_grad", lib=_LIBRARY)
def _(feats, grad, in_rows, out_rows, splits, plan, borders):
    return feats.new_empty(splits.shape[0] - 1, feats.shape[1], grad.shape[1])


def _setup(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:7])
    ctx.plan, ctx.borders = list(inputs[8]), list(inputs[9])


def _backward(ctx, grad):
    feats, weight, in_rows, out_rows, splits, rows, rows_back = ctx.saved_tensors
    plan, borders, grad_feats, grad_weight = ctx.plan, ctx.borders, None, None
    if ctx.needs_input_grad[0]:
        turned = plan[3:6] + plan[:3] + plan[6:]
        grad_feats = _ops.planned_conv(
            grad, weight.transpose(1, 2), out_rows, in_rows, splits, rows_back, rows, feats.shape[0], turned, borders
        )
    if ctx.needs_input_grad[1]:
        grad_weight = _ops.planned_weight_grad(feats, grad, in_rows, out_rows, splits, plan[6:], borders)
    return grad_feats, grad_weight, *[None] * 8


def _weight_grad_setup(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:5])


def _weight_grad_backward(ctx, grad):
    feats, grad_out, in_rows, out_rows, splits = ctx.saved_tensors
    grad_feats = ops.conv(grad_out, grad.transpose(1, 2), out_rows, in_rows, splits, feats.shape[0])
    return grad_feats, ops.conv(feats, grad, in_rows, out_rows, splits, grad_out.shape[0]), *[None] * 5


torch.library.register_autograd("tsp3d::planned_conv", _backward, setup_context=_setup, lib=_LIBRARY)
torch.library.register_autograd(
    "tsp3d::planned_weight_grad", _weight_grad_backward, setup_context=_weight_grad_setup, lib=_LIBRARY
)


# --- plans ------------------------------------------------------------------------------------------------------------


def serves(feats: Tensor) -> bool:
    """Whether convolutions of these features have a choice: on CUDA, where the kernels are built."""
    return feats.is_cuda and BUILT


def fixed(op: str, dtype: torch.dtype, offsets: int, rows: int = 0) -> Choice:
    """The choice without measurements; rows: 0 in a trace, which does not know them."""
    if op == "conv" and offsets >= SORTED_OFFSETS and dtype != torch.float64 and _room_to_sort(offsets, rows):
        return Choice("sorted", 0, 1)
    return Choice("rows")


def _room_to_sort(offsets: int, rows: int) -> bool:
    return 4 * (offsets + 3) * rows <= MOST_BYTES


def _same_tf32(dtype: torch.dtype) -> bool:
    """Whether torch's float32 products are rounded as ours: its switch for tf32 is not ours."""
    if dtype != torch.float32:
        return True
    try:
        return torch.backends.cuda.matmul.allow_tf32 == TF32
    except RuntimeError:  # set through a newer interface, which this one does not read
        return False


def candidates(op: str, dtype: torch.dtype, cin: int, cout: int, offsets: int, rows: int, pairs: int) -> list[Choice]:
    """The ways worth timing, the plain one first."""
    found = [Choice("rows")]
    tiles = TILES[op] if dtype != torch.float64 else (1,)
    if op == "conv":
        found += [Choice("rows", tile) for tile in tiles]
        if offsets >= SORTED_OFFSETS and _room_to_sort(offsets, rows):
            found += [Choice("sorted", tile, shares) for shares in (1, 2, 3) for tile in tiles]
    else:
        found += [Choice("rows", tile, shares) for tile in tiles for shares in (0, 8, 32)]
    if _same_tf32(dtype) and 4 * pairs * (cin + cout) <= MOST_BYTES:
        found.append(Choice("gather"))
    return found


def key_of(op: str, dtype: torch.dtype, cin: int, cout: int, offsets: int, rows: int) -> str:
    """What a choice is made for: shapes, with rows to the next power of two."""
    kind = "tf32" if dtype == torch.float32 and TF32 else str(dtype).removeprefix("torch.")
    return f"{op} {kind} {cin} {cout} {offsets} {max(rows - 1, 0).bit_length()}"


@cache
def tuner_of(device: torch.device) -> Tuner:
    """The tuner of a GPU; its file is for this build of the kernels and this torch, whose matrix products it times."""
    built = hashlib.sha256(Path(CUDA_STATUS.library).read_bytes()).hexdigest()[:8] if CUDA_STATUS.library else "none"
    return Tuner(tuning.cache_file(torch.cuda.get_device_name(device), f"kernels-{built}-torch-{torch.__version__}"))


def _random(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """The same numbers each time, without a draw from anyone's generator. Features at hand may all be zero, or NaN."""
    generator = torch.Generator(like.device).manual_seed(0)
    return torch.randn(shape, generator=generator, device=like.device, dtype=torch.float32).to(like.dtype)


def _choose(
    op: str, like: Tensor, channels: tuple[int, int], kernel_map: KernelMap, rows: tuple[int, int], measure: bool
) -> Choice:
    """The choice for ``op`` over a map; like: features of its dtype and device; channels, rows: those of in and out."""
    (cin, cout), (num_in, num_out), offsets, dtype = channels, rows, kernel_map.num_offsets, like.dtype
    longest = num_out if op == "conv" else max(rows)
    ways = candidates(op, dtype, cin, cout, offsets, longest, kernel_map.in_rows.shape[0])
    key, tuner = key_of(op, dtype, cin, cout, offsets, longest), tuner_of(like.device)
    found = tuner.known(key, ways)
    if not measure and found is not None and found.method == "gather" and not kernel_map.knows_borders:
        found = None  # it would have to wait for them
    if found is not None or not measure:
        return found or fixed(op, dtype, offsets, longest)
    feats = _random((num_in, cin), like)
    other = _random((offsets, cin, cout) if op == "conv" else (num_out, cout), like)
    maps = (kernel_map.in_rows, kernel_map.out_rows, kernel_map.splits)
    trial = KernelMap(*maps)  # whose sorted rows go when the choice is made

    def run(choice: Choice) -> Tensor:
        borders = trial.borders if choice.method == "gather" else []
        if op == "weight_grad":
            return _planned_weight_grad(feats, other, *maps, numbers(choice), borders)
        order = trial.sorted_rows(num_out, choice.shares) if choice.method == "sorted" else None
        return _planned_conv(feats, other, *maps, order, None, num_out, numbers(choice), borders)

    precision = PRECISION_TF32 if dtype == torch.float32 and TF32 else PRECISION[dtype]
    with torch.cuda.device(like.device) if like.is_cuda else nullcontext():  # that the clock is of
        return tuner.choose(key, ways, run, precision)


def numbers(*choices: Choice) -> list[int]:
    """Choices as the operator takes them."""
    return [number for c in choices for number in (METHODS.index(c.method), c.tile, c.shares)]


def _plan(feats: Tensor, weight: Tensor, kernel_map: KernelMap, num_out: int, needs: tuple[bool, bool]) -> Plan:
    """Choices for the output and, where ``needs`` says so, for the gradients of features and weight."""
    offsets, cin, cout = weight.shape
    if torch.compiler.is_compiling():
        choice = fixed("conv", feats.dtype, offsets)
        return choice, choice, fixed("weight_grad", feats.dtype, offsets)
    num_in = feats.shape[0]
    plan = (
        fixed("conv", feats.dtype, offsets, num_out),
        fixed("conv", feats.dtype, offsets, num_in),
        fixed("weight_grad", feats.dtype, offsets),
    )
    real = type(feats) in (Tensor, torch.nn.Parameter)  # others may be without numbers
    if not (tuning.enabled() and real and kernel_map.in_rows.shape[0]):
        return plan
    measure = not (feats.is_cuda and torch.cuda.is_current_stream_capturing())
    there, back = (num_in, num_out), (num_out, num_in)
    with torch.no_grad():
        return (
            _choose("conv", feats, (cin, cout), kernel_map, there, measure),
            _choose("conv", feats, (cout, cin), kernel_map.swapped(), back, measure) if needs[0] else plan[1],
            _choose("weight_grad", feats, (cin, cout), kernel_map, there, measure) if needs[1] else plan[2],
        )


def convolve(feats: Tensor, weight: Tensor, kernel_map: KernelMap, num_out: int) -> Tensor:
    """``ops.conv`` with a plan: (num_out, Cout) of feats (N, Cin) and weight (K, Cin, Cout) of one dtype.

    The first convolution of a kind measures its candidates, and those of its gradients where they will be needed.
    """
    graded = torch.is_grad_enabled()
    needs = (graded and feats.requires_grad, graded and weight.requires_grad)
    plan = _plan(feats, weight, kernel_map, num_out, needs)
    rows = kernel_map.sorted_rows(num_out, plan[0].shares) if plan[0].method == "sorted" else None
    rows_back = None
    if needs[0] and plan[1].method == "sorted":
        rows_back = kernel_map.swapped().sorted_rows(feats.shape[0], plan[1].shares)
    borders = kernel_map.borders if any(choice.method == "gather" for choice in plan) else []
    return _ops.planned_conv(
        feats, weight, kernel_map.in_rows, kernel_map.out_rows, kernel_map.splits, rows, rows_back, num_out,
        numbers(*plan), borders,
    )  # fmt: skip
