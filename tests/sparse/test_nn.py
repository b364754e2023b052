"""Layers: names and shapes of the weights, pools, normalisation, interpolation, half precision."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tsp3d import sparse
from tsp3d.sparse import SparseTensor, nn

pytestmark = pytest.mark.usefixtures("on_device")


@pytest.fixture
def x(make_coords) -> SparseTensor:
    coords = make_coords(400, 5)
    return SparseTensor(torch.randn(len(coords), 4), coords, batch_size=3)


def test_names_and_shapes_of_weights():
    layers = torch.nn.ModuleDict(
        {
            "a": nn.Conv3d(6, 64),
            "b": nn.Conv3d(128, 1, 1, bias=True),
            "c": nn.GenerativeConvTranspose3d(8, 4),
            "d": nn.BatchNorm(8),
            "e": nn.Conv3d(4, 5, 2, 2),
        }
    )
    shapes = {name: tuple(value.shape) for name, value in layers.state_dict().items()}
    assert shapes["a.kernel"] == (27, 6, 64) and "a.bias" not in shapes
    assert shapes["b.kernel"] == (128, 1) and shapes["b.bias"] == (1, 1)
    assert shapes["c.kernel"] == (27, 8, 4) and shapes["e.kernel"] == (8, 4, 5)
    assert {n.removeprefix("d.") for n in shapes if n.startswith("d.")} == {
        f"bn.{n}" for n in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }


def test_kernel_size_one_is_a_linear_layer(x):
    conv = nn.Conv3d(4, 3, 1, bias=True)
    torch.testing.assert_close(conv(x).feats, x.feats @ conv.kernel + conv.bias)
    assert conv(x).coordinate_set is x.coordinate_set


def cells_of(x, size):
    """(cell of each row, cells) by plain Python."""
    keys = [(b, *(v // size * size for v in row)) for b, *row in x.coords.tolist()]
    cells = sorted(set(keys))
    return torch.tensor([cells.index(key) for key in keys]), cells


@pytest.mark.parametrize("kind", ["max", "avg"])
def test_pools(x, kind):
    feats = x.feats.clone().requires_grad_()
    out = (nn.MaxPool3d if kind == "max" else nn.AvgPool3d)(2, 2)(x.replace(feats))
    index, cells = cells_of(x, 2)
    assert [tuple(row) for row in out.coords.tolist()] == cells
    groups = [feats[index == i] for i in range(len(cells))]
    expected = torch.stack([g.amax(0) if kind == "max" else g.mean(0) for g in groups])
    torch.testing.assert_close(out.feats, expected)
    grad = torch.randn_like(expected)
    ours, theirs = (torch.autograd.grad(v, feats, grad, retain_graph=True)[0] for v in (out.feats, expected))
    torch.testing.assert_close(ours, theirs)


def test_global_pools(x):
    feats = x.feats.clone().requires_grad_()
    for layer, reduce in ((nn.GlobalAvgPool3d(), torch.mean), (nn.GlobalMaxPool3d(), torch.amax)):
        out = layer(x.replace(feats))
        rows = [feats[x.batch == b] for b in range(3)]
        expected = torch.stack([reduce(r, 0) if len(r) else torch.zeros(4) for r in rows])
        torch.testing.assert_close(out, expected)
        ours, theirs = (torch.autograd.grad(v.square().sum(), feats)[0] for v in (out, expected))
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_batch_norm_of_few_rows(rows):
    coords = torch.tensor([[0, i, 0, 0] for i in range(rows)], dtype=torch.int32).reshape(-1, 4)
    layer = nn.BatchNorm(3).train()
    out = layer(SparseTensor(torch.randn(rows, 3), coords))
    assert out.feats.shape == (rows, 3) and torch.isfinite(out.feats).all()
    assert layer.state_dict()["bn.num_batches_tracked"] == (1 if rows > 1 else 0)


def test_interpolation_equals_grid_sample(x):
    size = 11
    dense = torch.zeros(3, 4, size, size, size)
    b, i, j, k = (x.coords.long() + torch.tensor([0, 5, 5, 5])).unbind(1)
    dense[b, :, i, j, k] = x.feats
    places = torch.rand(200, 3) * 14 - 7  # some outside
    places[:5] = torch.tensor([5.0, -5.0, 0.0])  # and some exactly on voxels
    points = torch.cat([torch.randint(0, 3, (200, 1)).float(), places], 1)
    grid = (places / 5).flip(1)[None, :, None, None].expand(3, -1, -1, -1, -1)
    sampled = F.grid_sample(dense, grid, align_corners=True)[:, :, :, 0, 0]  # (3, 4, 200)
    expected = sampled[points[:, 0].long(), :, torch.arange(200)]
    torch.testing.assert_close(sparse.interpolate(x, points), expected, rtol=1e-4, atol=1e-5)


def test_interpolation_at_a_stride(make_coords):
    coords = make_coords(100, 3)
    fine = SparseTensor(torch.randn(len(coords), 2), coords, batch_size=3)
    coords = coords.clone()
    coords[:, 1:] *= 4
    coarse = SparseTensor(fine.feats, coords, stride=4, batch_size=3)
    points = torch.cat([torch.randint(0, 3, (50, 1)).float(), torch.randn(50, 3) * 2], 1)
    stretched = points * torch.tensor([1.0, 4.0, 4.0, 4.0])
    torch.testing.assert_close(sparse.interpolate(coarse, stretched), sparse.interpolate(fine, points))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_sums_in_float32(x, dtype):
    conv = nn.Conv3d(4, 8)
    low = conv(x.replace(x.feats.to(dtype)))
    exact = conv(x.replace(x.feats.to(dtype).float())).feats
    assert low.dtype == dtype
    torch.testing.assert_close(low.feats.float(), exact, rtol=2e-2, atol=2e-2)
    pooled = nn.MaxPool3d(2, 2)(low)
    assert pooled.dtype == dtype and nn.AvgPool3d(2, 2)(low).dtype == dtype


def test_autocast_and_gradients(x):
    net = nn.Sequential(nn.Conv3d(4, 8), nn.BatchNorm(8), nn.ReLU(), nn.Conv3d(8, 4, 2, 2))
    with torch.autocast(x.device.type, torch.bfloat16):
        loss = net(x).feats.float().square().mean()
    loss.backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 and p.grad.any() for p in net.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
@pytest.mark.parametrize("size", [1, 3])
def test_the_weight_follows_the_features(x, dtype, size):
    conv = nn.Conv3d(4, 3, size, bias=True)
    found = conv(x.replace(x.feats.to(dtype))).feats
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), conv(x).feats, atol=2e-2, rtol=1e-2)


def test_layers_refuse_sizes_and_strides_that_are_none():
    for make in (nn.Conv3d, nn.GenerativeConvTranspose3d, nn.ConvTranspose3d):
        for stride in (0, -2, (2, 2, 2), 1.5):
            with pytest.raises(ValueError, match="stride must be one whole number from 1"):
                make(4, 4, 3, stride=stride)  # type: ignore[arg-type]
        for size in (0, -3, (3, 3, 0)):
            with pytest.raises(ValueError, match="kernel_size must be positive"):
                make(4, 4, size)
    with pytest.raises(ValueError, match="dilation must be"):
        nn.Conv3d(4, 4, dilation=0)
    with pytest.raises(ValueError, match="stride must be"):
        nn.MaxPool3d(2, 0)


@pytest.mark.parametrize("size", [1, 3])
def test_features_that_are_no_fractions_are_refused(x, size):
    with pytest.raises(ValueError, match=r"floating-point features, got torch.int32"):
        nn.Conv3d(4, 2, size)(x.replace(x.feats.int()))


@pytest.mark.parametrize("size", [0, (3, 3), (3, 0, 3)])
def test_kernel_sizes_that_are_none_are_refused(size):
    with pytest.raises(ValueError, match="kernel_size must be positive, one number or three"):
        nn.Conv3d(4, 2, size)


def test_forward_mode_is_refused(make_coords):
    """Its derivative would be zero without a word."""
    x = SparseTensor(torch.randn(len(coords := make_coords(50, 3)), 4), coords, batch_size=3)
    for layer in (nn.Conv3d(4, 2), nn.MaxPool3d(2, 2), nn.GlobalAvgPool3d()):
        with pytest.raises(RuntimeError, match="no forward-mode derivatives"):
            torch.func.jvp(lambda feats, layer=layer: layer(x.replace(feats)), (x.feats,), (x.feats,))


def test_what_one_voxel_made_in_inference_mode_can_be_learnt_from():
    with torch.inference_mode():
        x = SparseTensor(torch.randn(1, 4), torch.zeros(1, 4, dtype=torch.int32))
        assert x.offsets.tolist() == [0, 1]
    for layer in (nn.GlobalAvgPool3d(), nn.GlobalMaxPool3d()):
        feats = torch.randn(1, 4, requires_grad=True)
        layer(x.replace(feats)).sum().backward()
        assert feats.grad is not None


def test_double_precision_stays_under_autocast(make_coords):
    coords = make_coords(50, 3)
    x = SparseTensor(torch.randn(len(coords), 4, dtype=torch.float64), coords, batch_size=3)
    with torch.autocast(coords.device.type, torch.bfloat16):
        assert nn.Conv3d(4, 2).double()(x).dtype == torch.float64


def test_sums_of_tensors_that_differ():
    coords = torch.zeros(1, 4, dtype=torch.int32)
    one, three = (SparseTensor(torch.ones(1, 2), coords, batch_size=size) for size in (1, 3))
    assert (one + three).batch_size == (three + one).batch_size == 3
    with pytest.raises(ValueError, match="2 and 5 channels"):
        one + SparseTensor(torch.ones(1, 5), coords)


def test_kernel_sizes_are_whole_numbers():
    for wrong in ((1.5, 2, 3), 3.0, (3, 3)):
        with pytest.raises(ValueError, match="kernel_size must be positive"):
            nn.Conv3d(4, 4, kernel_size=wrong)  # type: ignore[arg-type]
