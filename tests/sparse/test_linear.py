"""Layers for inference against the same layers one after the other in PyTorch."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsp3d import sparse
from tsp3d.sparse.linear import Packed, layers_of, linear, mean_mlp


@pytest.fixture
def layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(12, 40)


def one_after_the_other(x: Tensor, layer: nn.Linear, before: nn.LayerNorm, after: nn.LayerNorm, like: Tensor) -> Tensor:
    return after(like + 2 * like * F.gelu(layer(before(x))))


def test_neighbours_come_in_their_order(layer: nn.Linear) -> None:
    before, after = nn.LayerNorm(12, eps=1e-3), nn.LayerNorm(40, eps=1e-3)
    for norm in (before, after):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    x, like = torch.randn(50, 12), torch.randn(50, 40)
    expected = one_after_the_other(x, layer, before, after, like)
    around = {"before": before, "activation": "gelu", "factor": 2 * like, "residual": like, "after": after}
    learnt = linear(x, layer, **around)
    assert learnt.requires_grad
    torch.testing.assert_close(learnt, expected)
    with torch.inference_mode():
        torch.testing.assert_close(linear(x, layer, **around), expected.detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 7, 48, 49])
def test_few_rows_of_a_wide_layer_have_the_same_bits_on_any_number_of_threads(rows: int) -> None:
    torch.manual_seed(0)
    layer, before = nn.Linear(160, 210), nn.LayerNorm(160)
    x, factor, residual = torch.randn(rows, 160), torch.randn(rows, 210), torch.randn(rows, 210)
    found, threads = [], torch.get_num_threads()
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            with torch.inference_mode():
                found.append(linear(x, layer, before, "gelu", factor=factor, residual=residual))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(found[0], other) for other in found)
    expected = residual + factor * F.gelu(layer(before(x)))
    torch.testing.assert_close(found[0], expected.detach(), rtol=1e-5, atol=1e-5)


def test_changed_weights_are_seen(layer: nn.Linear) -> None:
    x = torch.randn(3, 12)
    with torch.no_grad():
        for change in (
            lambda: layer.weight.mul_(2),
            lambda: layer.bias.add_(1),
            lambda: layer.load_state_dict(nn.Linear(12, 40).state_dict()),
            lambda: setattr(layer, "weight", nn.Parameter(torch.randn(40, 12))),
        ):
            linear(x, layer)
            change()
            torch.testing.assert_close(linear(x, layer), layer(x), rtol=1e-5, atol=1e-5)


def test_layers_are_packed_once_and_only_at_inference(layer: nn.Linear) -> None:
    x, parts = torch.randn(3, 12), [layer.weight, layer.bias]

    def made() -> object:
        return layers_of(layer, x, parts, lambda: [(layer.weight, layer.bias)])[0]

    assert not isinstance(made(), Packed)
    with torch.no_grad():
        assert isinstance(made(), Packed) and made() is made()
        with torch.autocast("cpu"):
            assert not isinstance(made(), Packed)
    with torch.inference_mode():
        assert made() is made()
        parts[0] = layer.weight.clone()  # does not count its changes
        assert not isinstance(made(), Packed)


def test_dropout_falls_between_layer_and_residual(layer: nn.Linear) -> None:
    x, like, drop = torch.randn(30, 12), torch.randn(30, 40), nn.Dropout(0.5)
    with torch.no_grad():
        update = linear(x, layer, dropout=drop, residual=like) - like
        dropped = update.abs() < 1e-6
        assert 0.3 < float(dropped.float().mean()) < 0.7
        torch.testing.assert_close(update[~dropped], 2 * layer(x)[~dropped], rtol=1e-5, atol=1e-5)
        drop.eval()
        torch.testing.assert_close(linear(x, layer, dropout=drop, residual=like), like + layer(x), rtol=1e-5, atol=1e-5)


def test_hooks_and_classes_of_ones_own_are_heeded() -> None:
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    x, layer, row = torch.randn(9, 4), Doubled(4, 6), torch.arange(9)
    hooked = nn.Linear(4, 6)
    hooked.register_forward_hook(lambda module, inputs, output: output + 1)  # type: ignore[operator]
    mlp = nn.Sequential(hooked, nn.ReLU(), Doubled(6, 5), nn.ReLU())
    for mode in (torch.no_grad, torch.enable_grad):
        with mode():
            torch.testing.assert_close(linear(x, layer), layer(x))
            torch.testing.assert_close(linear(x, hooked), hooked(x))
            torch.testing.assert_close(mean_mlp(mlp, x, row, 9), mlp(x))


def test_mean_of_an_mlp_is_the_same_learnt_and_not() -> None:
    torch.manual_seed(0)
    mlp = nn.Sequential(nn.Linear(7, 32), nn.ReLU(), nn.Linear(32, 24), nn.ReLU())
    x, row = torch.randn(500, 7), torch.randint(0, 60, (500,)) // 2 * 2  # odd groups have no row
    learnt = mean_mlp(mlp, x, row, 60)
    assert learnt.requires_grad
    torch.testing.assert_close(learnt, sparse.segment_mean(mlp(x), row, 60))
    with torch.inference_mode():
        torch.testing.assert_close(mean_mlp(mlp, x, row, 60), learnt.detach(), rtol=1e-5, atol=1e-6)
        mlp.get_parameter("2.bias").add_(1)  # weights that changed are seen
        torch.testing.assert_close(
            mean_mlp(mlp, x, row, 60), sparse.segment_mean(mlp(x), row, 60), rtol=1e-5, atol=1e-6
        )
