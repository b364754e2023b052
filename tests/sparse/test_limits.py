"""Operators where arguments end: what is not a number, points beyond all voxels, wrong shapes, want of memory."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from tsp3d.sparse import backend_status, ops, reference, reference_int8

compiled = pytest.mark.skipif(backend_status.name != "cpp", reason="the compiled kernels are not built")
both = pytest.mark.parametrize("functions", [ops, reference], ids=["engine", "reference"])
ROWS = torch.arange(3, dtype=torch.int32)
MAP = (ROWS, ROWS, torch.tensor([0, 3]))
NAN, INF = float("nan"), float("inf")


@both
def test_the_first_that_is_not_a_number_is_the_maximum(functions):
    feats = torch.tensor([[1.0, NAN], [NAN, NAN], [INF, 2.0]])
    values, rows = functions.max_pool(feats, ROWS, torch.zeros_like(ROWS), MAP[2], 2)
    assert values[0].isnan().all() and values[1].tolist() == [0, 0]
    assert rows.tolist() == [[1, 0], [-1, -1]]


@both
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("far", [NAN, INF, -INF, 1e19, -1e19, 2.0**31, 2.0**32, 2.0**33])
def test_points_beyond_all_voxels_are_near_none(functions, stride, far):
    coords = torch.tensor([[0, 0, 0, 0], [0, 2, 2, 2]], dtype=torch.int32)
    for column in (slice(0, 4), slice(0, 1), slice(1, 4), slice(3, 4)):
        point = torch.zeros(1, 4)
        point[:, column] = far
        rows, _ = functions.interpolation_weights(coords, point, stride)
        assert (rows == -1).all()


@both
def test_coordinates_are_looked_up_however_far_away(functions):
    coords = torch.tensor([[0, 0, 0, 0], [0, 5, 6, 7]], dtype=torch.int32)
    far = 2**31 - 1
    query = torch.tensor([[0, -far, far, -far], [0, 5, 6, 7], [far, far, far, far]], dtype=torch.int32)
    assert functions.lookup(coords, query).tolist() == [-1, 1, -1]


@compiled
def test_int8_keeps_what_is_not_a_number_in_bias_and_residual():
    weight, steps = reference_int8.pack(torch.ones(1, 4, 5))
    bias, residual = torch.tensor([NAN, 0, 1, -1, 0]), torch.tensor([0.0, NAN, 0, 0, -2]).repeat(3, 1)
    arguments = (torch.zeros(3, 4), weight, steps, 0.1, 0, bias, residual, *MAP, 3, True)
    got = ops.conv_int8(*arguments)
    torch.testing.assert_close(got, reference_int8.conv_int8(*arguments), rtol=0, atol=0, equal_nan=True)
    assert got[0].isnan().tolist() == [True, True, False, False, False]


@compiled
@pytest.mark.parametrize("splits", [[], [0, 2], [0, 4], [1, 3], [0, 5, 3]])
def test_splits_that_are_not_those_of_the_pairs_are_refused(splits):
    m, feats = (ROWS, ROWS, torch.tensor(splits, dtype=torch.int64)), torch.ones(3, 2)
    offsets = torch.tensor([0, 3])
    for call in (
        lambda: ops.conv(feats, torch.ones(max(len(splits) - 1, 0), 2, 2), *m, 3),
        lambda: ops.conv_weight_grad(feats, feats, *m),
        lambda: ops.sum_pool(feats, *m, 3),
        lambda: ops.max_pool(feats, *m, 3),
        lambda: ops.filter_map(*m, ROWS, ROWS),
        lambda: ops.replicate_map(*m, offsets, offsets, torch.tensor([0])),
        lambda: ops.sort_map(*m, 3, 1),
    ):
        with pytest.raises(RuntimeError, match="the splits of a kernel map must ascend from 0 to 3"):
            call()


def test_shapes_that_do_not_match_are_refused(device):
    """Also on CUDA, where a read past the end of one tensor would end the whole process's use of the GPU."""
    if "filter_map" in (ops.ON_REFERENCE if device == "cpu" else ops.ON_REFERENCE_CUDA):
        pytest.skip(f"the kernels for {device} are not built")
    rows = ROWS.to(device)
    with torch.device(device):
        feats, eight, pairs = torch.ones(2, 3), torch.zeros(4, 8, dtype=torch.int64), torch.tensor([0, 3])
        index, argmax = torch.tensor([0]), torch.zeros(1, 1, dtype=torch.int32)
    one, four = feats.new_ones(1, 3), feats.new_ones(4, 3)
    for call, reason in (
        (lambda: ops.interpolate(feats, eight, four[:, :1]), "must be alike"),
        (lambda: ops.interpolate(feats, eight[0], feats.new_ones(8)), "must be alike"),
        (lambda: ops.splat(four, eight, feats.new_ones(3, 8), 2), "must be alike"),
        (lambda: ops.splat(one, eight, feats.new_ones(4, 8), 2), "as many rows of grad"),
        (lambda: ops.max_pool_grad(feats, argmax, 2), r"argmax \(M, C\)"),
        (lambda: ops.sum_pool(feats, rows, rows[:1], pairs, 3), "differ in length"),
        (lambda: ops.max_pool(feats, rows, rows[:1], pairs, 3), "differ in length"),
        (lambda: ops.filter_map(rows, rows[:1], pairs, rows, rows), "differ in length"),
        (lambda: ops.replicate_map(rows, rows[:1], pairs, pairs, pairs, index), "out_rows differ in length"),
        (lambda: ops.replicate_map(rows, rows, pairs, pairs, pairs[:1], index), "offsets differ in length"),
    ):
        with pytest.raises(RuntimeError, match=reason):
            call()


@compiled
def test_attention_over_no_channels_is_refused():
    empty, panels, splits = torch.ones(3, 0), torch.zeros(0, 1, 32), torch.tensor([0, 3])
    with pytest.raises(RuntimeError, match="C must be a multiple of the heads"):
        ops.attention_layer(
            empty, None, None, None, panels, 0, None, panels, None, splits, splits, 2, None, None, None, 0.0
        )


@compiled
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of a process as Linux does")
def test_want_of_memory_on_several_threads_is_an_error():
    """It ended the process. The keys, of one number that is seen over and over, take none, but for their copies."""
    program = (
        "import resource, torch\n"
        "from tsp3d.sparse import ops\n"
        "torch.set_num_threads(2)\n"
        "ops.attention(*[torch.ones(200, 1, 90)] * 3, *[torch.tensor([0, 200])] * 2, 1.0)\n"
        "held = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (held + 2**30,) * 2)\n"
        "keys, borders = torch.ones(1, 1, 1).expand(10**8, 1, 1), [torch.tensor([0, n]) for n in (200, 10**8)]\n"
        "try:\n"
        "    ops.attention(torch.ones(200, 1, 1), keys, keys, *borders, 1.0)\n"
        "except (RuntimeError, MemoryError) as error:\n"
        "    print('told:', error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "2"}
    )
    assert run.returncode == 0 and "told:" in run.stdout, run.stderr
