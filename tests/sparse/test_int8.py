"""Convolutions on integers of 8 bits: exact sums on them, and little lost by them."""

from __future__ import annotations

import math

import pytest
import torch

from tsp3d.sparse import SparseTensor, fused, int8, nn, ops, reference, reference_int8

pytestmark = pytest.mark.skipif("conv_int8" in ops.ON_REFERENCE, reason="the compiled kernels are not built")


def quantised(weight: torch.Tensor, zero: int) -> tuple[torch.Tensor, torch.Tensor, float, int]:
    """Arguments that leave the sums as they are."""
    return reference_int8.pack(weight)[0], torch.ones(weight.shape[2]), 1 / 60, zero


@pytest.mark.parametrize("zero", [0, 1, 128, 255])
@pytest.mark.parametrize(("cin", "cout"), [(1, 1), (5, 16), (64, 72), (33, 130), (4, 33)])
@pytest.mark.parametrize("count", [1500, 1, 0])
def test_sums_are_exact(cin, cout, zero, count, make_coords):
    coords = make_coords(count, 6)
    m = reference.kernel_map(coords, coords, (3, 3, 3), 1)
    feats = torch.randn(len(coords), cin)
    arguments = (*quantised(torch.randn(27, cin, cout), zero), None, None, *m, len(coords), False)
    got = ops.conv_int8(feats, *arguments)
    assert torch.equal(got, reference_int8.conv_int8(feats, *arguments))
    assert torch.equal(got, got.round()) and got.shape == (len(coords), cout)


def test_features_beyond_the_range_and_ties():
    feats = torch.tensor([[0.5, 1.5, 2.5, -0.5], [1e9, -1e9, math.inf, -math.inf], [math.nan, 0, 255, -3]])
    rows = torch.arange(3, dtype=torch.int32)
    weight = reference_int8.pack(127 * torch.eye(4)[None])[0]  # shows the levels themselves
    scales, splits = torch.full((4,), 1 / 127), torch.tensor([0, 3])
    got = ops.conv_int8(feats, weight, scales, 1.0, 2, None, None, rows, rows, splits, 3, False)
    want = [[0, 2, 2, 0], [253, -2, 253, -2], [-2, 0, 253, -2]]
    assert reference_int8.quantise(feats, 1.0, 2).tolist() == want
    torch.testing.assert_close(got, torch.tensor(want).float())


def test_weights_are_half_a_step_off_at_most():
    weight = torch.randn(27, 6, 20) * torch.logspace(-3, 3, 20)
    weight[:, :, 7] = 0
    levels, steps = reference_int8.pack(weight)
    assert levels.shape == (27, 2, 32, 4) and levels.dtype == torch.int8 and not levels[:, 1, :, 2:].any()
    near = reference_int8.unpack(levels, 6, 20) * steps
    assert ((near - weight).abs() <= 0.5001 * steps).all() and not near[:, :, 7].any()


def test_zero_is_exact():
    for low, high in ((0.0, 3.0), (-1.0, 3.0), (-5.0, -1.0), (2.0, 3.0)):
        step, zero = reference_int8.step_and_zero(low, high)
        feats = torch.tensor([[low, 0.0, high]])
        near = reference_int8.quantise(feats, step, zero) * step
        assert near[0, 1] == 0 and ((near - feats).abs() < 1.001 * step).all()
    for bounds in ((0.0, 0.0), (0.0, math.inf), (math.nan, 1.0)):
        with pytest.raises(ValueError, match="no range of features"):
            reference_int8.step_and_zero(*bounds)


def test_what_does_not_fit_is_refused(make_coords):
    rows, splits = torch.zeros(1, dtype=torch.int32), torch.tensor([0, 1])
    weight, *rest = quantised(torch.randn(1, 6, 5), 0)
    with pytest.raises(RuntimeError, match="packed for 8 and 16 channels, not for 9 and 5"):
        ops.conv_int8(torch.randn(1, 9), weight, *rest, None, None, rows, rows, splits, 1, False)
    with pytest.raises(RuntimeError, match="must be int8"):
        ops.conv_int8(torch.randn(1, 6), weight.float(), *rest, None, None, rows, rows, splits, 1, False)
    weight, *rest = quantised(torch.randn(1, 70_000, 1), 0)
    with pytest.raises(RuntimeError, match="sums of more than"):
        ops.conv_int8(torch.randn(1, 70_000), weight, *rest, None, None, rows, rows, splits, 1, False)


CONVOLUTIONS = {
    "submanifold": lambda: nn.Conv3d(12, 17),
    "strided, with bias": lambda: nn.Conv3d(12, 17, 3, 2, bias=True),
    "generative": lambda: nn.GenerativeConvTranspose3d(12, 17, 3, 2),
}


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_is_near_float32_until_undone(name, signed, make_coords):
    coords = make_coords(300, 4)
    coords[:, 1:] *= 2
    feats = torch.randn(len(coords), 12)
    x = SparseTensor(feats if signed else feats.relu(), coords, 2, batch_size=3)
    block = fused.ConvNorm(CONVOLUTIONS[name](), nn.BatchNorm(17)).eval()
    with torch.no_grad():
        exact = block(x, relu=False).feats
        with int8.watch_ranges(block) as ranges:
            assert torch.allclose(block(x, relu=False).feats, exact, atol=1e-5)
        assert (ranges["0"][0] < 0) == signed
        int8.use_int8(block, ranges)
        got = block(x, relu=False).feats
        assert 1e-4 < (got - exact).norm() / exact.norm() < 0.02
        int8.use_int8(block, {"0": (ranges["0"][0] / 50, ranges["0"][1] / 50)})
        assert (block(x, relu=False).feats - exact).norm() / exact.norm() > 0.1  # nearly all beyond the range
        fused.reduce_precision(block, None)
        assert torch.equal(block(x, relu=False).feats, exact)


def test_only_what_gains_is_watched(make_coords):
    coords = make_coords(50, 4)
    net = nn.Sequential(nn.Conv3d(6, 8), nn.Conv3d(8, 8), nn.Conv3d(8, 8, 1), nn.Conv3d(8, 4))
    with torch.no_grad(), int8.watch_ranges(net) as ranges:
        net(SparseTensor(torch.randn(len(coords), 6), coords))
        assert not ranges
    assert list(ranges) == ["1"]
    with torch.no_grad(), int8.watch_ranges(net) as none:
        net(SparseTensor(torch.zeros(len(coords), 6), coords))
    assert not none
    for name in ("2", "4"):
        with pytest.raises(ValueError, match=f"no convolution over several voxels is called {name}"):
            int8.use_int8(net, {"1": (0.0, 1.0), name: (0.0, 1.0)})
    assert net[1].inference_dtype is None


def test_a_lone_outlier_does_not_stretch_the_range():
    values = torch.cat([torch.rand(500_000), torch.tensor([3.0])])
    low, high = int8.closest_range(values)
    assert low == 0 and 1 <= high < 2.5
    low, high = int8.closest_range(torch.linspace(-1, 2, 5000))
    assert low < -0.95 and high > 1.9


def test_is_refused_without_kernels(monkeypatch):
    monkeypatch.setattr(ops, "ON_REFERENCE", {"conv_int8"})
    with pytest.raises(RuntimeError, match="need the compiled kernels"):
        int8.use_int8(nn.Conv3d(8, 8), {})
