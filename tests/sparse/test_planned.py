"""Plans of the convolution: whatever is chosen, the result is the same; and when a choice is measured at all."""

from __future__ import annotations

import json
import os
from itertools import count

import pytest
import torch
from torch import Tensor

from tsp3d.sparse import CoordinateSet, KernelMap, SparseTensor, nn, ops, planned, reference, tuning
from tsp3d.sparse.planned import Choice
from tsp3d.sparse.tuning import Tuner

EMULATION = os.environ.get("TSP3D_EMULATION")


def every_choice(op: str, dtype: torch.dtype) -> list[Choice]:
    return planned.candidates(op, dtype, 8, 8, 27, 100, 800)


def make(make_coords, kind: str, device: str, dtype: torch.dtype, cin: int = 6, cout: int = 40):
    """Features, weight, gradient, map, rows of the output; leaves that take gradients."""
    coords = make_coords(150, 3)
    target = coords if kind == "3" else reference.unique_coords(coords, 2)[0]
    pairs = reference.kernel_map(coords, target, (3, 3, 3) if kind == "3" else (2, 2, 2), 1)
    generator = torch.Generator().manual_seed(3)
    shapes = ((len(coords), cin), (len(pairs[2]) - 1, cin, cout), (len(target), cout))
    feats, weight, grad = (torch.randn(*s, generator=generator).to(device, dtype) for s in shapes)
    weight /= 8
    ins, outs, splits = (t.to(device) for t in pairs)
    kernel_map = KernelMap(ins, outs, splits)
    return feats.requires_grad_(), weight.requires_grad_(), grad, kernel_map, len(target)


def use_plan(monkeypatch, plan) -> None:
    monkeypatch.setattr(planned, "_plan", lambda *_: plan)


def run(feats: Tensor, weight: Tensor, grad: Tensor, kernel_map: KernelMap, num_out: int) -> list[Tensor]:
    out = planned.convolve(feats, weight, kernel_map, num_out)
    return [out.detach(), *torch.autograd.grad(out, (feats, weight), grad)]


def truth(feats: Tensor, weight: Tensor, grad: Tensor, kernel_map: KernelMap, num_out: int) -> list[Tensor]:
    f, w, g = (t.detach().cpu().double() for t in (feats, weight, grad))
    ins, outs, splits = (t.cpu() for t in (kernel_map.in_rows, kernel_map.out_rows, kernel_map.splits))
    back = reference.conv(g, w.transpose(1, 2), outs, ins, splits, len(f))
    return [reference.conv(f, w, ins, outs, splits, num_out), back, reference.conv_weight_grad(f, g, ins, outs, splits)]


@pytest.mark.parametrize("kind", ["3", "2"])
def test_results_do_not_depend_on_the_choice(make_coords, kind, device, monkeypatch):
    case = make(make_coords, kind, device, torch.float32)
    want = truth(*case)
    weight_grads = every_choice("weight_grad", torch.float32)
    for number, choice in enumerate(every_choice("conv", torch.float32)):
        back = every_choice("conv", torch.float32)[-number]
        use_plan(monkeypatch, (choice, back, weight_grads[number % len(weight_grads)]))
        found = run(*case)
        assert all(torch.equal(a, b) for a, b in zip(found, run(*case), strict=True))
        for got, expected in zip(found, want, strict=True):
            # Float32 sums in several orders, of values of order one: as test_ops.
            torch.testing.assert_close(got.cpu().double(), expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once_in_every_way(make_coords, dtype, device, monkeypatch):
    if device == "cpu" and not EMULATION:
        pytest.skip("convolutions of half precision are CUDA's")
    case = make(make_coords, "3", device, dtype)
    want = truth(*case)
    for choice in (Choice("rows", 2), Choice("sorted", 3, 3), Choice("gather")):
        use_plan(monkeypatch, (choice, choice, choice if choice.method != "sorted" else Choice("rows", 2)))
        for got, expected in zip(run(*case), want, strict=True):
            torch.testing.assert_close(got.cpu().double(), expected, rtol=torch.finfo(dtype).eps, atol=1e-4)


@pytest.mark.parametrize("method", planned.METHODS)
def test_opcheck(make_coords, method, device):
    feats, weight, grad, kernel_map, num_out = make(make_coords, "3", device, torch.float32)
    conv, weight_grad = (
        Choice(method, 0, 2 if method == "sorted" else 0),
        Choice("rows" if method == "sorted" else method),
    )
    maps, borders = (kernel_map.in_rows, kernel_map.out_rows, kernel_map.splits), kernel_map.borders
    rows, back = kernel_map.sorted_rows(num_out, 2), kernel_map.swapped().sorted_rows(len(feats), 2)
    plan = planned.numbers(conv, conv, weight_grad)
    torch.library.opcheck(
        torch.ops.tsp3d.planned_conv.default, (feats, weight, *maps, rows, back, num_out, plan, borders)
    )
    arguments = (feats, grad.requires_grad_(), *maps, planned.numbers(weight_grad), borders)
    torch.library.opcheck(torch.ops.tsp3d.planned_weight_grad.default, arguments)


@pytest.mark.parametrize("method", planned.METHODS)
def test_second_derivatives(make_coords, method, device, monkeypatch):
    choice = Choice(method, 0, 3 if method == "sorted" else 0)
    use_plan(monkeypatch, (choice, choice, Choice("gather" if method == "gather" else "rows")))
    feats, weight, _, kernel_map, num_out = make(make_coords, "2", device, torch.float64, 2, 3)

    def function(f: Tensor, w: Tensor) -> Tensor:
        return planned.convolve(f, w, kernel_map, num_out)

    assert torch.autograd.gradcheck(function, (feats, weight), fast_mode=True)
    assert torch.autograd.gradgradcheck(function, (feats, weight), fast_mode=True)


def test_the_sorted_order_is_made_once_a_map(make_coords, monkeypatch):
    coords, made = CoordinateSet(make_coords(200, 4), 1, 3), []
    sort_map = ops.sort_map
    monkeypatch.setattr(ops, "sort_map", lambda *a: made.append(a) or sort_map(*a))
    monkeypatch.setattr(planned, "serves", lambda _: True)
    monkeypatch.setenv("TSP3D_TUNE", "0")
    first, second = nn.Conv3d(4, 4), nn.Conv3d(4, 4)
    x = SparseTensor.over(torch.randn(len(coords), 4), coords)
    for _ in range(2):
        second(first(x)).feats.sum().backward()
    assert len(made) == 2  # of the map, and of the map swapped
    with torch.no_grad():
        fresh = SparseTensor.over(x.feats, CoordinateSet(coords.coords, 1, 3))
        second(first(fresh))
    assert len(made) == 3


@pytest.fixture
def tuned(monkeypatch, tmp_path):
    """Tuning on the CPU, with a clock by which each candidate is faster than the one before; the file of choices."""
    ticks = count(1000, -1)
    tuner = Tuner(tmp_path / "choices.json", lambda work: float(work() is not None) * next(ticks))
    monkeypatch.setattr(planned, "tuner_of", lambda _: tuner)
    monkeypatch.setattr(tuning, "GAIN", 1.0)
    monkeypatch.delenv("TSP3D_TUNE", raising=False)
    return tuner.path


def test_a_layer_is_tuned_for_what_it_needs(make_coords, tuned):
    feats, weight, _, kernel_map, num_out = make(make_coords, "3", "cpu", torch.float32)
    want = reference.conv(feats, weight, kernel_map.in_rows, kernel_map.out_rows, kernel_map.splits, num_out)
    with torch.no_grad():
        state = torch.get_rng_state()
        torch.testing.assert_close(planned.convolve(feats, weight, kernel_map, num_out), want, rtol=2e-5, atol=2e-5)
        assert torch.equal(state, torch.get_rng_state())
    assert set(json.loads(tuned.read_text())["choices"]) == {"conv float32 6 40 27 8"}
    planned.convolve(feats, weight, kernel_map, num_out).sum().backward()
    choices = json.loads(tuned.read_text())["choices"]
    assert set(choices) == {"conv float32 6 40 27 8", "conv float32 40 6 27 8", "weight_grad float32 6 40 27 8"}
    assert all(choice == ["gather", 0, 0] for choice in choices.values())  # the last candidate, by this clock


def test_when_nothing_may_be_measured_the_choice_is_fixed(make_coords, tuned, monkeypatch):
    feats, weight, _, kernel_map, num_out = make(make_coords, "3", "cpu", torch.float32)
    needs, sorted_once = (True, True), Choice("sorted", 0, 1)
    expected = (sorted_once, sorted_once, Choice("rows"))
    monkeypatch.setenv("TSP3D_TUNE", "0")
    assert planned._plan(feats, weight, kernel_map, num_out, needs) == expected
    monkeypatch.delenv("TSP3D_TUNE")
    with torch._subclasses.FakeTensorMode() as mode:
        assert planned._plan(mode.from_tensor(feats), weight, kernel_map, num_out, needs) == expected
    with monkeypatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: True)
        assert planned._plan(feats, weight, kernel_map, num_out, needs) == expected
    assert not tuned.exists()
    # In a capture choices are made of what is known, and of nothing that would have to wait.
    channels, rows = (6, 40), (len(feats), num_out)
    assert planned._choose("conv", feats, channels, kernel_map, rows, False) == sorted_once
    assert planned._choose("conv", feats, channels, kernel_map, rows, True) == Choice("gather")
    assert not kernel_map._sorted  # those of the candidates are gone
    assert planned._choose("conv", feats, channels, kernel_map, rows, False) == sorted_once
    assert len(kernel_map.borders) == 28
    assert planned._choose("conv", feats, channels, kernel_map, rows, False) == Choice("gather")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_measured_captured_and_without_waiting_on_cuda(make_coords, dtype, monkeypatch, tmp_path):
    monkeypatch.setenv("TSP3D_CACHE", str(tmp_path))
    monkeypatch.delenv("TSP3D_TUNE", raising=False)
    planned.tuner_of.cache_clear()
    try:
        case = make(make_coords, "3", "cuda", dtype, 32, 64)
        want = truth(*case)
        (first, *_) = run(*case)
        (path,) = (tmp_path / "tuning").iterdir()
        assert len(json.loads(path.read_text())["choices"]) == 3
        torch.cuda.set_sync_debug_mode("error")  # torch's own waits; csrc/README.md lists those of the kernels
        found = run(*case)
        torch.cuda.set_sync_debug_mode("default")
        assert torch.equal(found[0], first)
        for got, expected in zip(found, want, strict=True):
            torch.testing.assert_close(got.cpu().double(), expected, rtol=4 * torch.finfo(dtype).eps, atol=1e-4)
        feats, weight, _, kernel_map, num_out = case
        graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.graph(graph):
            captured = planned.convolve(feats, weight, kernel_map, num_out)
        captured.zero_()
        graph.replay()
        assert torch.equal(captured, first)
    finally:
        torch.cuda.set_sync_debug_mode("default")
        planned.tuner_of.cache_clear()


def test_what_is_too_large_is_no_candidate():
    small = planned.candidates("conv", torch.float32, 32, 32, 27, 10**5, 10**6)
    large = planned.candidates("conv", torch.float32, 32, 32, 27, 10**8, 10**9)
    assert {c.method for c in small} == set(planned.METHODS) and {c.method for c in large} == {"rows"}
    assert planned.fixed("conv", torch.float32, 27, 10**8) == Choice("rows")
    assert "sorted" not in {c.method for c in planned.candidates("conv", torch.float32, 32, 32, 8, 10**5, 10**6)}


def test_layers_on_plans_are_one_graph(make_coords, monkeypatch):
    monkeypatch.setattr(planned, "serves", lambda _: True)
    torch._dynamo.reset()
    layers = nn.Sequential(nn.Conv3d(4, 6), nn.ReLU(), nn.Conv3d(6, 6), nn.Conv3d(6, 8, 2, 2))

    def function(feats: Tensor, coords: Tensor) -> Tensor:
        return layers(SparseTensor.over(feats, CoordinateSet(coords, 1, 3))).feats

    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        compiled = torch.compile(function, backend="aot_eager", fullgraph=True, dynamic=True)
        for number in (300, 150):
            coords = make_coords(number, 4)
            feats = torch.randn(len(coords), 4, requires_grad=True)
            found = []
            for call in (compiled, function):
                monkeypatch.setenv("TSP3D_TUNE", "0")
                out = call(feats, coords)
                found.append([out, *torch.autograd.grad(out.square().sum(), [feats, *layers.parameters()])])
            for got, want in zip(*found, strict=True):
                torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
