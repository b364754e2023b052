"""Convolution, batch norm, addition and ReLU in one pass: as the four one after the other."""

from __future__ import annotations

import pytest
import torch

from tsp3d.sparse import SparseTensor, fused, nn, ops, reference
from tsp3d.sparse.kept import _KEPT

pytestmark = pytest.mark.usefixtures("on_device")


def settled(channels: int) -> nn.BatchNorm:
    """A norm with averages of its own."""
    norm = nn.BatchNorm(channels).eval()
    with torch.no_grad():
        for values in (norm.bn.weight, norm.bn.bias, norm.bn.running_mean):
            assert values is not None
            values.normal_()
        assert norm.bn.running_var is not None
        norm.bn.running_var.uniform_(0.5, 2)
    return norm


def plainly(conv, norm, x, *like, residual=None, relu=True):
    out = norm(conv(x, *like)).feats
    out = out if residual is None else out + residual
    return out.relu() if relu else out


CASES = {
    "submanifold": lambda: (nn.Conv3d(5, 7), False),
    "strided, with bias": lambda: (nn.Conv3d(5, 7, 3, 2, bias=True), False),
    "one voxel": lambda: (nn.Conv3d(5, 7, 1), False),
    "one voxel, strided": lambda: (nn.Conv3d(5, 7, 1, 2), False),
    "transposed": lambda: (nn.ConvTranspose3d(5, 7, 3, 2), True),
    "generative": lambda: (nn.GenerativeConvTranspose3d(5, 7, 3, 2), False),
}


def inputs(make_coords, transposed: bool, stride: int = 2) -> tuple[SparseTensor, ...]:
    coords = make_coords(300, 4)
    coords[:, 1:] *= stride
    fine = SparseTensor(torch.randn(len(coords), 5), coords, stride, batch_size=3)
    if not transposed:
        return (fine,)
    return nn.MaxPool3d(2, 2)(fine), fine


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_equals_one_after_the_other(name, relu, make_coords):
    conv, transposed = CASES[name]()
    norm, given = settled(7), inputs(make_coords, transposed)
    with torch.no_grad():
        rows = len(conv(*given))
        for residual in (None, torch.randn(rows, 7)):
            got = fused.conv_norm(conv, norm, *given, residual=residual, relu=relu)
            torch.testing.assert_close(got.feats, plainly(conv, norm, *given, residual=residual, relu=relu))
    assert conv in _KEPT


def test_folds_again_where_a_weight_changes(make_coords):
    conv, norm, (x,) = nn.Conv3d(5, 7), settled(7), inputs(make_coords, False)
    with torch.inference_mode():
        first = fused.conv_norm(conv, norm, x).feats
    with torch.no_grad():
        conv.kernel.mul_(2)
        torch.testing.assert_close(fused.conv_norm(conv, norm, x).feats, plainly(conv, norm, x))
        norm.load_state_dict(settled(7).state_dict())
        second = fused.conv_norm(conv, norm, x).feats
        torch.testing.assert_close(second, plainly(conv, norm, x))
        conv.double()
        norm.double()
        third = fused.conv_norm(conv, norm, x.replace(x.feats.double())).feats
    assert not torch.allclose(first, second) and third.dtype == torch.float64
    torch.testing.assert_close(third.float(), second)


def test_training_learns_through_it(make_coords):
    conv, norm, (x,) = nn.Conv3d(5, 7), settled(7).train(), inputs(make_coords, False)
    found = []
    for run in (fused.conv_norm, plainly):
        out = run(conv, norm, x)
        feats = out.feats if isinstance(out, SparseTensor) else out
        found.append(torch.autograd.grad(feats.square().sum(), [conv.kernel, norm.bn.weight]))
    for got, want in zip(*found, strict=True):
        torch.testing.assert_close(got, want)


def test_hooks_are_called(make_coords):
    conv, norm, (x,) = nn.Conv3d(5, 7), settled(7), inputs(make_coords, False)
    seen = []
    handle = norm.register_forward_hook(lambda *_: seen.append(1))
    with torch.no_grad():
        fused.conv_norm(conv, norm, x)
        handle.remove()
        fused.conv_norm(conv, norm, x)
    assert seen == [1]
    conv.register_forward_pre_hook(lambda *_: seen.append(2))
    norm.bn.register_forward_hook(lambda *_: seen.append(3))
    with torch.no_grad():
        fused.conv_norm(conv, norm, x)
    assert seen == [1, 2, 3]


def test_layers_with_a_forward_of_their_own_do_what_it_says(make_coords):
    class Shifted(nn.Conv3d):
        def forward(self, x, *like):
            out = super().forward(x, *like)
            return out.replace(out.feats + 100)

    norm, (x,) = settled(7), inputs(make_coords, False)
    for conv in (Shifted(5, 7), Shifted(5, 7, 1)):
        with torch.no_grad():
            torch.testing.assert_close(fused.conv_norm(conv, norm, x).feats, plainly(conv, norm, x))


def test_wrong_channels_are_refused(make_coords):
    conv, norm, (x,) = nn.Conv3d(4, 7), settled(7), inputs(make_coords, False)
    with torch.no_grad(), pytest.raises(ValueError, match="takes 4 channels, got 5"):
        fused.conv_norm(conv, norm, x)


@pytest.mark.skipif(not fused.multiplies_bf16(), reason="this processor does not multiply bfloat16 numbers")
@pytest.mark.parametrize("name", CASES)
def test_bfloat16_is_float32_on_rounded_numbers(name, make_coords, device):
    if device != "cpu":
        pytest.skip("CUDA takes half precision under autocast")
    conv, transposed = CASES[name]()
    norm, given = settled(7), inputs(make_coords, transposed)
    fused.reduce_precision(conv)
    with torch.no_grad():
        got = fused.conv_norm(conv, norm, *given, relu=False)
        target, m = conv.places(*given)
        if m is not None:
            _, (panels, cout, bias) = fused._packed(conv, norm)
            # What visits one voxel alone stays as it is.
            assert panels.dtype == (torch.float32 if conv.kernel.ndim == 2 else torch.bfloat16)
            rows = (m.in_rows, m.out_rows, m.splits, len(target), False)
            want = reference.conv_fused(given[0].feats, panels, cout, bias, None, *rows)
            torch.testing.assert_close(got.feats, want)
        exact = plainly(conv, norm, *given, relu=False)
        assert (got.feats - exact).norm() < 0.01 * exact.norm()
        fused.reduce_precision(conv, None)
        torch.testing.assert_close(fused.conv_norm(conv, norm, *given, relu=False).feats, exact)


@pytest.mark.skipif(not fused.multiplies_bf16(), reason="this processor does not multiply bfloat16 numbers")
@pytest.mark.parametrize(("cin", "cout"), [(1, 1), (5, 16), (64, 72), (33, 130)])
def test_bfloat16_in_any_shape(cin, cout, make_coords, device):
    if device != "cpu":
        pytest.skip("CUDA takes half precision under autocast")
    coords = make_coords(1500, 6)
    m = reference.kernel_map(coords, coords, (3, 3, 3), 1)
    feats, weight = torch.randn(len(coords), cin), (torch.randn(27, cin, cout) / (27 * cin) ** 0.5).bfloat16()
    terms = (cout, torch.randn(cout), torch.randn(len(coords), cout), *m, len(coords), True)
    panels = reference.pack(weight)
    assert torch.equal(reference.unpack(panels, cin, cout), weight)
    got = ops.conv_fused(feats, panels, *terms)
    torch.testing.assert_close(got, reference.conv_fused(feats, panels, *terms), rtol=2e-5, atol=2e-5)


def test_bfloat16_is_refused_where_it_is_not_multiplied(monkeypatch):
    monkeypatch.setattr(fused, "multiplies_bf16", lambda: False)
    with pytest.raises(RuntimeError, match="does not multiply bfloat16"):
        fused.reduce_precision(nn.Conv3d(2, 2))
