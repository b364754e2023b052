"""Convolutions against dense ones, against one integer formula, and on awkward input."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from tsp3d.sparse import SparseTensor, nn, ops, reference

pytestmark = pytest.mark.usefixtures("on_device")

SPAN = 6  # coordinates lie in -SPAN..SPAN


def densify(feats, coords, scenes=3, size=2 * SPAN + 1):
    """(B, C, X, Y, Z) zeros but for the voxels."""
    dense = feats.new_zeros(scenes, size, size, size, feats.shape[1])
    b, x, y, z = coords.long().unbind(1)
    dense = dense.index_put((b, x + SPAN, y + SPAN, z + SPAN), feats)
    return dense.permute(0, 4, 1, 2, 3)


def dense_weight(kernel, size):
    """(K, Cin, Cout), x fastest, as the (Cout, Cin, X, Y, Z) of conv3d."""
    kx, ky, kz = size
    return kernel.reshape(kz, ky, kx, kernel.shape[1], kernel.shape[2]).permute(4, 3, 2, 1, 0)


def oracle(coords, feats, out_coords, kernel, size, step, transposed=False):
    """out[u] = sum of W_k in[u + step * offset_k]; transposed: out[u + step * offset_k] += W_k in[u]."""
    known = {tuple(row): i for i, row in enumerate(coords.tolist())}
    out = torch.zeros(len(out_coords), kernel.shape[-1], dtype=feats.dtype)
    for o, (b, x, y, z) in enumerate(out_coords.tolist()):
        for dx, dy, dz in itertools.product(*(range(s) for s in size)):
            k = dx + size[0] * (dy + size[1] * dz)
            offset = [(d - s // 2 if s % 2 else d) * step for d, s in zip((dx, dy, dz), size, strict=True)]
            sign = -1 if transposed else 1
            i = known.get((b, x + sign * offset[0], y + sign * offset[1], z + sign * offset[2]))
            if i is not None:
                out[o] += feats[i] @ kernel[k]
    return out


def test_order_of_kernel_offsets_is_that_of_the_published_weights():
    offsets = reference.kernel_offsets((3, 3, 3))
    assert offsets[0] == (-1, -1, -1) and offsets[1] == (0, -1, -1) and offsets[13] == (0, 0, 0)
    assert all(k == (x + 1) + 3 * (y + 1) + 9 * (z + 1) for k, (x, y, z) in enumerate(offsets))
    assert all(k == x + 2 * y + 4 * z for k, (x, y, z) in enumerate(reference.kernel_offsets((2, 2, 2))))
    # One voxel at (5, 5, 5): the output at (6, 5, 5) sees it under offset (-1, 0, 0), which is k = 12.
    coords = torch.tensor([[0, 5, 5, 5], [0, 6, 5, 5]], dtype=torch.int32)
    conv = nn.Conv3d(1, 1)
    with torch.no_grad():
        conv.kernel.copy_(torch.arange(27.0).reshape(27, 1, 1))
    assert conv(SparseTensor(torch.tensor([[1.0], [0.0]]), coords)).feats.tolist() == [[13.0], [12.0]]


@pytest.mark.parametrize("size", [(3, 3, 3), (1, 3, 5)])
@pytest.mark.parametrize("dilation", [1, 2])
def test_submanifold_equals_dense(make_coords, size, dilation):
    coords = make_coords(500, SPAN)
    feats = torch.randn(len(coords), 6, dtype=torch.float64, requires_grad=True)
    conv = nn.Conv3d(6, 9, size, dilation=dilation, bias=True).double()
    assert conv.bias is not None
    out = conv(SparseTensor(feats, coords, batch_size=3)).feats
    padding = [s // 2 * dilation for s in size]
    dense = F.conv3d(densify(feats, coords), dense_weight(conv.kernel, size), conv.bias[0], 1, padding, dilation)
    b, x, y, z = (coords.long() + torch.tensor([0, SPAN, SPAN, SPAN])).unbind(1)
    expected = dense[b, :, x, y, z]
    torch.testing.assert_close(out, expected)
    grad = torch.randn_like(out)
    ours = torch.autograd.grad(out, (feats, conv.kernel, conv.bias), grad)
    theirs = torch.autograd.grad(expected, (feats, conv.kernel, conv.bias), grad)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("size", [2, 3])
def test_strided_equals_dense(make_coords, size):
    coords = make_coords(300, SPAN // 2) * torch.tensor([1, 1, 1, 1], dtype=torch.int32)
    feats = torch.randn(len(coords), 4, dtype=torch.float64, requires_grad=True)
    conv = nn.Conv3d(4, 7, size, stride=2).double()
    out = conv(SparseTensor(feats, coords, batch_size=3))
    assert out.stride == 2
    # Dense index 0 is coordinate -SPAN, which is even: the dense grid's even cells are ours.
    dense = F.conv3d(
        densify(feats, coords), dense_weight(conv.kernel, (size,) * 3), stride=2, padding=1 if size == 3 else 0
    )
    b, x, y, z = out.coords.long().unbind(1)
    expected = dense[b, :, (x + SPAN) // 2, (y + SPAN) // 2, (z + SPAN) // 2]
    torch.testing.assert_close(out.feats, expected)
    grad = torch.randn_like(expected)
    for a, b in zip(
        torch.autograd.grad(out.feats, (feats, conv.kernel), grad),
        torch.autograd.grad(expected, (feats, conv.kernel), grad),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("size", "stride"), [(3, 2), (2, 2), (1, 2), (3, 3), (3, 1), (2, 1), ((1, 2, 3), 2)])
def test_convolution_equals_the_formula(make_coords, size, stride):
    coords = make_coords(120, 4)
    coords[:, 1:] *= 2
    x = SparseTensor(torch.randn(len(coords), 3), coords, stride=2, batch_size=3)
    conv = nn.Conv3d(3, 5, size, stride=stride)
    out = conv(x)
    cells = {(b, *(v // (2 * stride) * 2 * stride for v in row)) for b, *row in coords.tolist()}
    assert [tuple(row) for row in out.coords.tolist()] == sorted(cells)
    assert out.stride == 2 * stride and out.batch_size == 3
    kernel = conv.kernel if conv.kernel.ndim == 3 else conv.kernel[None]
    expected = oracle(coords, x.feats, out.coords, kernel.detach(), conv.kernel_size, 2)
    torch.testing.assert_close(out.feats, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [3, 2, (1, 3, 2)])
def test_generative_transposed_equals_the_formula(make_coords, size):
    coords = make_coords(60, 2)
    coords[:, 1:] *= 4
    x = SparseTensor(torch.randn(len(coords), 3), coords, stride=4, batch_size=3)
    conv = nn.GenerativeConvTranspose3d(3, 2, size)
    out = conv(x)
    offsets = reference.kernel_offsets(conv.kernel_size)
    made = {(b, u + 2 * i, v + 2 * j, w + 2 * k) for b, u, v, w in coords.tolist() for i, j, k in offsets}
    assert [tuple(row) for row in out.coords.tolist()] == sorted(made)
    assert out.stride == 2
    expected = oracle(coords, x.feats, out.coords, conv.kernel.detach(), conv.kernel_size, 2, transposed=True)
    torch.testing.assert_close(out.feats, expected, rtol=1e-5, atol=1e-5)


def test_one_voxel_generates_the_whole_kernel():
    x = SparseTensor(torch.ones(1, 1), torch.tensor([[0, -4, 0, 4]], dtype=torch.int32), stride=2)
    conv = nn.GenerativeConvTranspose3d(1, 1)
    with torch.no_grad():
        conv.kernel.copy_(torch.arange(27.0).reshape(27, 1, 1))
    out = conv(x)
    assert len(out) == 27 and out.stride == 1
    for (_, u, v, w), value in zip(out.coords.tolist(), out.feats[:, 0].tolist(), strict=True):
        assert value == (u + 5) + 3 * (v + 1) + 9 * (w - 3)


@pytest.mark.parametrize("size", [2, 3])
def test_transposed_onto_a_given_tensor(make_coords, size):
    fine = make_coords(200, 5)
    x = SparseTensor(torch.randn(len(fine), 3), fine, batch_size=3)
    down, up = nn.Conv3d(3, 4, size, stride=2), nn.ConvTranspose3d(4, 2, size)
    coarse = down(x)
    out = up(coarse, like=x)
    assert out.coordinate_set is x.coordinate_set
    expected = oracle(
        coarse.coords, coarse.feats.detach(), fine, up.kernel.detach(), up.kernel_size, 1, transposed=True
    )
    torch.testing.assert_close(out.feats, expected, rtol=1e-5, atol=1e-5)
    apart = SparseTensor(x.feats, fine, batch_size=3)  # the same voxels, not the same object: the map is searched
    torch.testing.assert_close(up(coarse, like=apart).feats, out.feats)


@given(
    st.lists(st.tuples(st.integers(0, 2), *[st.integers(-3, 3)] * 3), max_size=25),
    st.sampled_from([(3, 1), (2, 1), (2, 2), (3, 2), (1, 2)]),
)
def test_any_points_duplicates_included(rows, kernel):
    size, stride = kernel
    coords = torch.tensor(rows, dtype=torch.int32).reshape(-1, 4)
    feats = torch.arange(len(rows) * 2.0).reshape(-1, 2)
    x = SparseTensor.from_unsorted(feats, coords, batch_size=3)
    assert [tuple(row) for row in x.coords.tolist()] == sorted(set(rows))
    for row, mean in zip(x.coords.tolist(), x.feats, strict=True):
        torch.testing.assert_close(mean, feats[[i for i, r in enumerate(rows) if r == tuple(row)]].mean(0))
    conv = nn.Conv3d(2, 3, size, stride=stride)
    out = conv(x)
    weight = conv.kernel.detach().reshape(-1, 2, 3)
    expected = oracle(x.coords, x.feats, out.coords, weight, conv.kernel_size, 1)
    torch.testing.assert_close(out.feats, expected, rtol=1e-4, atol=1e-4)
    made = nn.GenerativeConvTranspose3d(2, 1, 3, stride=1)(x)
    assert len(made) == len({(b, *p) for b, *u in rows for p in itertools.product(*((v - 1, v, v + 1) for v in u))})


@pytest.mark.parametrize("cin,cout", [(1, 1), (6, 64), (9, 48), (15, 5), (16, 33), (64, 6), (17, 33)])
def test_any_channel_count(make_coords, cin, cout):
    coords = make_coords(150, 3)
    x = SparseTensor(torch.randn(len(coords), cin), coords, batch_size=3)
    conv = nn.Conv3d(cin, cout)
    expected = oracle(coords, x.feats, coords, conv.kernel.detach(), (3, 3, 3), 1)
    torch.testing.assert_close(conv(x).feats, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cin,cout", [(33, 96), (70, 130)])
def test_wide_layers_of_few_voxels(make_coords, cin, cout):
    coords = make_coords(200, 4)
    maps = reference.kernel_map(coords, coords, (3, 3, 3), 1)
    n = len(coords)
    assert 27 * min(cin, cout) > 4 * n  # where threads share out the channels
    tensors = torch.randn(n, cin), torch.randn(27, cin, cout) / cin, torch.randn(n, cout)
    feats, weight, grad = (t.double().requires_grad_() for t in tensors)
    for ours, plain in zip(
        torch.autograd.grad(ops.conv(feats, weight, *maps, n), (feats, weight), grad),
        torch.autograd.grad(reference.conv(feats, weight, *maps, n), (feats, weight), grad),
        strict=True,
    ):
        torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(ops.conv(feats, weight, *maps, n), reference.conv(feats, weight, *maps, n))
    if not feats.is_cuda:
        terms = cout, torch.randn(cout).double(), grad, *maps, n, True
        panels = reference.pack(weight)
        torch.testing.assert_close(ops.conv_fused(feats, panels, *terms), reference.conv_fused(feats, panels, *terms))


def test_the_gradient_of_a_weight_without_offsets_is_empty():
    none, splits = torch.zeros(0, dtype=torch.int32), torch.zeros(1, dtype=torch.int64)
    assert ops.conv_weight_grad(torch.ones(3, 2), torch.ones(3, 4), none, none, splits).shape == (0, 2, 4)


def test_nothing_at_all_goes_through_everything():
    x = SparseTensor(torch.zeros(0, 4), torch.zeros(0, 4, dtype=torch.int32), stride=4, batch_size=2)
    layers = nn.Sequential(
        nn.Conv3d(4, 8), nn.BatchNorm(8), nn.ReLU(), nn.Conv3d(8, 8, 3, 2), nn.GenerativeConvTranspose3d(8, 8),
        nn.MaxPool3d(2, 2), nn.AvgPool3d(2, 2), nn.Conv3d(8, 2, 1, bias=True),
    )  # fmt: skip
    out = layers(x)
    assert out.feats.shape == (0, 2) and out.batch_size == 2
    out.feats.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in layers.parameters())
    assert nn.GlobalAvgPool3d()(x).tolist() == nn.GlobalMaxPool3d()(x).tolist() == [[0.0] * 4] * 2
