"""Layers on other libraries against our own operators: values, gradients, coordinates, as many threads afterwards."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from tsp3d.models.backbone import Backbone
from tsp3d.models.config import BackboneConfig
from tsp3d.sparse import SparseTensor, backends, nn


def why_not(name: str) -> str:
    try:
        backends.load_peer(name)
    except ImportError as error:
        return str(error)
    return ""


WHY = {name: why_not(name) for name in backends.PEERS}
on_each = pytest.mark.parametrize(
    "peer", [pytest.param(name, marks=pytest.mark.skipif(bool(why), reason=why)) for name, why in WHY.items()]
)
LAYERS = {
    "submanifold": lambda: nn.Conv3d(5, 7, 3, bias=True),
    "dilated": lambda: nn.Conv3d(5, 7, 3, dilation=2),
    "uneven": lambda: nn.Conv3d(5, 7, (1, 3, 2)),
    "strided 2": lambda: nn.Conv3d(5, 7, 2, 2),
    "strided 3": lambda: nn.Conv3d(5, 7, 3, 2),
    "pointwise strided": lambda: nn.Conv3d(5, 7, 1, 2),
    "strided twice": lambda: nn.Sequential(nn.Conv3d(5, 6, 2, 2), nn.Conv3d(6, 7, 3, 2, dilation=2)),
    "generative": lambda: nn.Sequential(nn.Conv3d(5, 6, 2, 2), nn.GenerativeConvTranspose3d(6, 7)),
    "maximum": lambda: nn.Sequential(nn.Conv3d(5, 7), nn.ReLU(), nn.MaxPool3d(2, 2)),
    "maximum of negatives": lambda: nn.Sequential(nn.Conv3d(5, 7), nn.MaxPool3d(2, 2)),
    "maximum of odd size": lambda: nn.Sequential(nn.Conv3d(5, 7), nn.MaxPool3d(3, 3)),
    "maximum of few": lambda: nn.Sequential(nn.Conv3d(5, 7), nn.MaxPool3d(1, 2)),
}


def run(name: str, layer: torch.nn.Module, x: SparseTensor, *more: SparseTensor) -> tuple[torch.Tensor, ...]:
    """Output coordinates and features, and the gradients of the features and of every parameter."""
    feats = x.feats.clone().requires_grad_()
    fresh = SparseTensor(feats, x.coords, x.stride, x.batch_size)
    with backends.use(name):
        out = layer(fresh, *more)
        weights = torch.linspace(-1, 1, out.feats.numel()).reshape(out.feats.shape)
        grads = torch.autograd.grad((out.feats * weights).sum(), [feats, *layer.parameters()])
    return out.coords, out.feats.detach(), *grads


def assert_same(peer: str, layer: torch.nn.Module, x: SparseTensor, *more: SparseTensor) -> None:
    ours, theirs, tolerance = run("auto", layer, x, *more), run(peer, layer, x, *more), 2e-5
    assert torch.equal(ours[0], theirs[0])
    for mine, other in zip(ours[1:], theirs[1:], strict=True):
        scale = max(float(mine.abs().max()), 1.0) if mine.numel() else 1.0
        torch.testing.assert_close(other, mine, rtol=tolerance, atol=tolerance * scale)


@on_each
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", LAYERS)
def test_layers(make_coords, kind, threads, peer):
    torch.set_num_threads(threads)
    coords = make_coords(1500, 7)
    assert_same(peer, LAYERS[kind](), SparseTensor(torch.randn(len(coords), 5), coords, batch_size=3))
    assert torch.get_num_threads() == threads


@on_each
def test_transposed_onto_given_voxels(make_coords, peer):
    coords = make_coords(600, 6)
    fine = SparseTensor(torch.randn(len(coords), 4), coords, batch_size=3)
    coarse = nn.Conv3d(4, 5, 2, 2)(fine)
    assert_same(peer, nn.ConvTranspose3d(5, 3), coarse.replace(coarse.feats.detach()), fine)


@on_each
@pytest.mark.parametrize("rows", [0, 1])
def test_few_voxels(make_coords, rows, peer):
    coords = make_coords(rows, 3)
    assert_same(peer, nn.Conv3d(5, 7, 3, 2), SparseTensor(torch.randn(len(coords), 5), coords, batch_size=3))


@on_each
def test_backbone(make_coords, peer):
    config = BackboneConfig(in_channels=3, stem_channels=8, channels=[8, 8, 16, 16], blocks=[1, 1, 1, 1])
    net, coords = Backbone(config).eval(), make_coords(4000, 20)
    x = SparseTensor(torch.randn(len(coords), 3), coords, batch_size=3)
    ours = net(x)
    with backends.use(peer):
        theirs = net(SparseTensor(x.feats, coords, batch_size=3))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.feats, b.feats, rtol=1e-4, atol=1e-4)


@on_each
def test_chosen_by_the_environment(peer):
    program = f"from tsp3d.sparse import backends; assert backends.peer.__name__.endswith('.{peer}')"
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "TSP3D_BACKEND": peer})


@pytest.mark.parametrize(
    ("peer", "package", "remedy"),
    [("spconv", "spconv", r"pip install tsp3d\[spconv\]"), ("minkowski", "MinkowskiEngine", "from its source")],
)
def test_what_cannot_be_used_is_said(monkeypatch, peer, package, remedy):
    with pytest.raises(ValueError, match="'torchsparse'.*spconv, minkowski"), backends.use("torchsparse"):
        pass
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"tsp3d.sparse.backends.{peer}", raising=False)
    with pytest.raises(ImportError, match=remedy), backends.use(peer):
        pass
    assert backends.peer is None
