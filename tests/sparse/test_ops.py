"""Every operator, on each device: compiled against reference, opcheck, gradients, and the same bits in every run."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from tsp3d.sparse import backend_status, ops, reference

NAMES = sorted(ops.SCHEMAS)
DIFFERENTIABLE = {
    "conv": (0, 1),
    "conv_weight_grad": (0, 1),
    "sum_pool": (0,),
    "max_pool": (0,),
    "max_pool_grad": (0,),
    "merge_feats": (0, 1),
    "interpolate": (0, 2),
    "splat": (0, 2),
}
# Kernels that test_cuda_source.py runs on the CPU, and that take what only CUDA's kernels take.
EMULATION = os.environ.get("TSP3D_EMULATION")


def move(value: Any, device: str) -> Any:
    """Tensors within nested tuples, on a device."""
    if isinstance(value, (tuple, list)):
        return type(value)(move(item, device) for item in value)
    return value.to(device) if torch.is_tensor(value) else value


def need_compiled(name: str, device: str) -> None:
    """Skip the test where an operator has no compiled kernel."""
    if name in (ops.ON_REFERENCE if device == "cpu" else ops.ON_REFERENCE_CUDA):
        pytest.skip(f"{name} has no compiled kernel for {device} here")


def as_tuple(value) -> tuple:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def call(name: str, arguments: tuple) -> tuple:
    return as_tuple(getattr(ops, name)(*arguments))


def test_every_operator_has_samples(samples):
    assert sorted(samples) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_compiled_equals_reference(name, samples, device):
    need_compiled(name, device)
    for arguments in samples[name]:
        expected = as_tuple(ops.SCHEMAS[name][1](*arguments))
        for got, want in zip(call(name, move(arguments, device)), expected, strict=True):
            assert got.device.type == device
            # Sums in another order and with fused multiply-add: measured below 4e-6 for values of order one.
            torch.testing.assert_close(got.cpu(), want, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "conv_int8"])  # which takes float32 alone
def test_double_precision(name, samples, device):
    need_compiled(name, device)
    arguments = samples[name][0]
    if not any(torch.is_tensor(a) and a.is_floating_point() for a in arguments):
        pytest.skip("no features among the arguments")
    arguments = tuple(a.double() if torch.is_tensor(a) and a.is_floating_point() else a for a in arguments)
    expected = as_tuple(ops.SCHEMAS[name][1](*arguments))
    for got, want in zip(call(name, move(arguments, device)), expected, strict=True):
        torch.testing.assert_close(got.cpu(), want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["conv", "conv_weight_grad", "tiled_conv", "tiled_weight_grad"])
def test_half_precision_on_cuda_sums_in_float32(name, dtype, samples, device):
    if device == "cpu" and not EMULATION:
        pytest.skip("convolutions of half precision are CUDA's")
    need_compiled(name, device)
    for feats, other, *rest in samples[name]:
        low = (feats.to(dtype), other.to(dtype))
        got = call(name, move((*low, *rest), device))[0]
        want = ops.SCHEMAS[name][1](*(t.double() for t in low), *rest)
        assert got.dtype == dtype
        # One rounding of the result, whatever the number of terms, and float32's of the sums.
        torch.testing.assert_close(got.cpu().double(), want, rtol=torch.finfo(dtype).eps, atol=1e-4)


def test_tf32_on_cuda(device):
    if device == "cpu" and not EMULATION:
        pytest.skip("tf32 is CUDA's")
    program = (
        f"import torch\n{EMULATION!r} and torch.ops.load_library({EMULATION!r})\n"
        "from tsp3d.sparse import ops, reference as R\n"
        "c = R.unique_coords(torch.randint(0, 6, (300, 4), dtype=torch.int32), 1)[0]\n"
        "m = R.kernel_map(c, c, (3, 3, 3), 1)\n"
        f"on = [t.to('{device}') for t in m]\n"
        "for cin, cout in ((5, 64), (32, 20)):\n"
        "    f, w, g = torch.randn(len(c), cin), torch.randn(27, cin, cout) / 30, torch.randn(len(c), cout)\n"
        f"    F, W, G = (t.to('{device}') for t in (f, w, g))\n"
        "    want = R.conv(f, w, *m, len(c))\n"
        "    for tile, shares in ((0, 0), (1, 1), (2, 3), (3, 2)):\n"
        "        rows = ops.sort_map(*on, len(c), shares) if shares else None\n"
        "        got = ops.tiled_conv(F, W, *on, rows, len(c), tile, shares).cpu()\n"
        "        assert 1e-6 < ((got - want).norm() / want.norm()).item() < 1e-3\n"
        "    want = R.conv_weight_grad(f, g, *m)\n"
        "    for tile in (0, 1, 2):\n"
        "        got = ops.tiled_weight_grad(F, G, *on, tile, 0).cpu()\n"
        "        assert 1e-6 < ((got - want).norm() / want.norm()).item() < 1e-3\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "TSP3D_TF32": "1"})


@pytest.mark.parametrize("name", NAMES)
def test_opcheck(name, samples, device):
    arguments = move(samples[name][0], device)
    slots = DIFFERENTIABLE.get(name, ())
    arguments = tuple(
        a.clone().requires_grad_(i in slots) if torch.is_tensor(a) else a for i, a in enumerate(arguments)
    )
    torch.library.opcheck(getattr(torch.ops.tsp3d, name).default, arguments)


@pytest.mark.parametrize("name", sorted(DIFFERENTIABLE))
def test_gradients_numerically(name, samples, device):
    slots = DIFFERENTIABLE[name]
    for arguments in move(samples[name][-6:], device):  # few rows
        inputs = [a.double() if torch.is_tensor(a) and a.is_floating_point() else a for a in arguments]
        if name == "max_pool":  # ties have no derivative
            inputs[0] = torch.arange(inputs[0].numel(), dtype=torch.float64, device=device).reshape(inputs[0].shape)
        free = [inputs[slot].requires_grad_() for slot in slots]

        def function(*values, inputs=inputs):
            full = list(inputs)
            for slot, value in zip(slots, values, strict=True):
                full[slot] = value
            return getattr(ops, name)(*full)

        assert torch.autograd.gradcheck(function, free, fast_mode=True)


@pytest.mark.parametrize(
    "name", ["attention", "spatial_attention", "linear", "mean_mlp", "attention_layer", "conv_fused", "conv_int8"]
)
def test_operators_of_inference_say_that_they_have_no_gradient(name, samples, device):
    first, *rest = move(samples[name][0], device)
    with pytest.raises(RuntimeError, match="for inference"):
        getattr(ops, name)(first.clone().requires_grad_(), *rest).sum().backward()


@pytest.mark.gpu
@pytest.mark.parametrize("name", NAMES)
def test_same_bits_in_every_run_on_cuda(name, samples):
    need_compiled(name, "cuda")
    if name in ops.CPU_ALONE:
        pytest.skip("plain PyTorch serves it on CUDA, whose index_add has no fixed order")
    for arguments in move(samples[name], "cuda"):
        results = [call(name, arguments) for _ in range(3)]
        assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(other, results[0], strict=True))


@pytest.mark.gpu
def test_a_launch_that_failed_does_not_fail_what_follows(samples):
    """CUB asks for the last error after its launches, and would find one that nobody has taken."""
    offsets = 70_000  # as many shares are more than a grid has blocks along z
    feats, weight = torch.ones(1, 1, device="cuda"), torch.ones(offsets, 1, 1, device="cuda")
    none, splits = feats.new_empty(0, dtype=torch.int32), feats.new_zeros(offsets + 1, dtype=torch.int64)
    with pytest.raises(RuntimeError, match="CUDA says: invalid"):
        ops.tiled_conv(feats, weight, none, none, splits, None, 1, 0, offsets)
    call("unique_coords", move(samples["unique_coords"][0], "cuda"))


@pytest.mark.parametrize("name", NAMES)
def test_same_bits_on_any_number_of_threads(name, samples):
    if name in ("linear", "mean_mlp", "attention_layer"):
        need_compiled(name, "cpu")  # torch's own matrix product has other bits
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append([call(name, arguments) for arguments in samples[name]])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for got, want in zip(other, results[0], strict=True):
            assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


def test_large_convolution_equals_the_reference(make_coords, device):
    """Many tiles of rows and channels, several shares of pairs, rows that are not whole vectors."""
    coords = make_coords(2500, 7)
    m = reference.kernel_map(coords, coords, (3, 3, 3), 1)
    for cin, cout in ((64, 72), (35, 130)):
        feats, weight = torch.randn(len(coords), cin), torch.randn(27, cin, cout) / (27 * cin) ** 0.5
        grad = torch.randn(len(coords), cout) / len(coords) ** 0.5
        on = move((feats, weight, grad, m), device)
        want = reference.conv(feats, weight, *m, len(coords))
        for orders, tile, shares in ((0, 0, 0), (0, 2, 4), (1, 1, 5), (3, 2, 3), (2, 3, 0)):
            rows = ops.sort_map(*on[3], len(coords), orders) if orders else None
            got = ops.tiled_conv(on[0], on[1], *on[3], rows, len(coords), tile, shares).cpu()
            torch.testing.assert_close(got, want, rtol=2e-5, atol=2e-5)
        want = reference.conv_weight_grad(feats, grad, *m)
        for tile, shares in ((0, 0), (2, 7)):
            got = ops.tiled_weight_grad(on[0], on[2], *on[3], tile, shares).cpu()
            torch.testing.assert_close(got, want, rtol=2e-5, atol=2e-5)


def test_rows_sorted_by_mask_meet_fewer_tiles(make_coords, device):
    """What sorting is for: tiles of 64 rows times the offsets that any of them has."""
    coords = make_coords(3000, 9)
    m = reference.kernel_map(coords, coords, (3, 3, 3), 1)

    def steps(orders: int) -> int:
        table = ops.sort_map(*move(m, device), len(coords), orders).cpu()[orders:]  # (27, N)
        return sum(int((tile >= 0).any(1).sum()) for tile in table.split(64, 1))

    rows = torch.full((27, len(coords)), -1, dtype=torch.int32)
    for k in range(27):
        rows[k, m[1][m[2][k] : m[2][k + 1]].long()] = m[0][m[2][k] : m[2][k + 1]]
    unsorted = sum(int((tile >= 0).any(1).sum()) for tile in rows.split(64, 1))
    assert steps(3) < steps(1) < unsorted and 64 * steps(3) >= len(m[0])


def test_what_does_not_fit_a_map_is_refused(make_coords, device):
    coords = make_coords(50, 3)
    m = move(reference.kernel_map(coords, coords, (3, 3, 3), 1), device)
    for name in ("sort_map", "tiled_conv", "tiled_weight_grad"):
        need_compiled(name, device)
    feats, weight = torch.randn(len(coords), 4, device=device), torch.randn(27, 4, 5, device=device)
    rows = ops.sort_map(*m, len(coords), 3)
    with pytest.raises(RuntimeError, match="shares must be 1..27, got 28"):
        ops.sort_map(*m, len(coords), 28)
    with pytest.raises(RuntimeError, match="3 orders, for as many shares, not 2"):
        ops.tiled_conv(feats, weight, *m, rows, len(coords), 0, 2)
    with pytest.raises(RuntimeError, match="as sort_map makes it of this map"):
        ops.tiled_conv(feats, weight, *m, rows[:, 1:], len(coords), 0, 3)
    with pytest.raises(RuntimeError, match="tile must be 0..3, got 4"):
        ops.tiled_conv(feats, weight, *m, None, len(coords), 4, 0)


@pytest.mark.skipif(bool(EMULATION), reason="emulated threads take no part in this")
def test_large_convolution_has_the_same_bits_on_any_number_of_threads(make_coords):
    coords = make_coords(20000, 20)
    m = ops.kernel_map(coords, coords, [3, 3, 3], 1)
    feats, weight = torch.randn(len(coords), 24), torch.randn(27, 24, 40)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            out = ops.conv(feats, weight, *m, len(coords))
            results.append((*ops.kernel_map(coords, coords, [3, 3, 3], 1), out, ops.conv_weight_grad(feats, out, *m)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, results[0], strict=True))


@pytest.mark.skipif(backend_status.name != "cpp", reason="the compiled kernels are not built")
@pytest.mark.slow
@pytest.mark.parametrize("isa", ["avx2", "baseline"])
def test_lower_instruction_sets(isa):
    program = (
        "import torch; from tsp3d.sparse import ops, reference as R, reference_int8 as Q\n"
        "c = R.unique_coords(torch.randint(0, 9, (900, 4), dtype=torch.int32), 1)[0]\n"
        "m = ops.kernel_map(c, c, [3, 3, 3], 1)\n"
        "for cin, cout in ((1, 1), (6, 64), (33, 50)):\n"
        "    f, w, g = torch.randn(len(c), cin), torch.randn(27, cin, cout) / 30, torch.randn(len(c), cout)\n"
        "    torch.testing.assert_close(ops.conv(f, w, *m, len(c)), R.conv(f, w, *m, len(c)), rtol=2e-5, atol=2e-5)\n"
        "    rest = (cout, torch.ones(cout), None, *m, len(c), True)\n"
        "    want = R.conv_fused(f, R.pack(w), *rest)\n"
        "    torch.testing.assert_close(ops.conv_fused(f, R.pack(w), *rest), want, rtol=2e-5, atol=2e-5)\n"
        "    want = R.conv_weight_grad(f, g, *m)\n"
        "    torch.testing.assert_close(ops.conv_weight_grad(f, g, *m), want, rtol=1e-4, atol=1e-4)\n"
        "    rest = (Q.pack(w)[0], torch.ones(cout), 0.02, 117, None, None, *m, len(c), False)\n"
        "    assert torch.equal(ops.conv_int8(f, *rest), Q.conv_int8(f, *rest))\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "TSP3D_CPU_ISA": isa})


@pytest.mark.usefixtures("on_device")
def test_traced_by_torch_compile(make_coords):
    coords = make_coords(200, 4)

    def block(feats, weight, in_rows, out_rows, splits):
        return torch.relu(ops.conv(feats, weight, in_rows, out_rows, splits, feats.shape[0])).sum(0)

    arguments = (torch.randn(len(coords), 4), torch.randn(27, 4, 8), *ops.kernel_map(coords, coords, [3, 3, 3], 1))
    traced = torch.compile(block, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(traced(*arguments), block(*arguments))
