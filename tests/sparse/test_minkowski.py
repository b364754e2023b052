"""Our layers against MinkowskiEngine's own, which choose their coordinates themselves: what released weights expect."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tsp3d.sparse import SparseTensor, backends, nn

try:
    engine: Any = backends.load_peer("minkowski").engine
except ImportError as error:
    pytest.skip(str(error), allow_module_level=True)


@pytest.fixture
def inputs(make_coords) -> tuple[SparseTensor, Any]:
    """The same voxels, some of them negative, and features (N, 5) in both libraries."""
    coords = make_coords(1500, 7)
    feats = torch.randn(len(coords), 5)
    return SparseTensor(feats, coords, batch_size=3), engine.SparseTensor(feats, coordinates=coords)


def assert_same(ours: SparseTensor, theirs: Any) -> None:
    theirs = SparseTensor.from_unsorted(theirs.F, theirs.C, ours.stride, ours.batch_size)
    assert torch.equal(ours.coords, theirs.coords)
    torch.testing.assert_close(ours.feats, theirs.feats, rtol=2e-5, atol=2e-5)


def same_weights(layer: nn.Convolution, theirs: Any) -> tuple[nn.Convolution, Any]:
    theirs.load_state_dict(layer.state_dict())
    return layer, theirs


@pytest.mark.parametrize(
    ("size", "stride", "dilation"),
    [(3, 1, 1), (3, 1, 2), ((1, 3, 2), 1, 1), (2, 2, 1), (3, 2, 1), (3, 2, 2), (3, 3, 1), (5, 1, 1)],
)
def test_convolution(inputs, size, stride, dilation):
    x, y = inputs
    theirs = engine.MinkowskiConvolution(5, 7, size, stride, dilation, bias=True, dimension=3)
    layer, theirs = same_weights(nn.Conv3d(5, 7, size, stride, dilation, bias=True), theirs)
    assert_same(layer(x), theirs(y))


@pytest.mark.parametrize("size", [2, 3])
def test_transposed(inputs, size):
    x, y = inputs
    down, their_down = same_weights(nn.Conv3d(5, 6, 2, 2), engine.MinkowskiConvolution(5, 6, 2, 2, dimension=3))
    coarse, their_coarse = down(x), their_down(y)
    up = nn.GenerativeConvTranspose3d(6, 7, size)
    up, their_up = same_weights(up, engine.MinkowskiGenerativeConvolutionTranspose(6, 7, size, 2, dimension=3))
    assert_same(up(coarse), their_up(their_coarse))
    onto = nn.ConvTranspose3d(6, 7, size)
    onto, their_onto = same_weights(onto, engine.MinkowskiConvolutionTranspose(6, 7, size, 2, dimension=3))
    assert_same(onto(coarse, x), their_onto(their_coarse, y))


@pytest.mark.parametrize("size", [2, 3])
def test_maximum(inputs, size):
    x, y = inputs
    assert_same(nn.MaxPool3d(size)(x), engine.MinkowskiMaxPooling(size, 2, dimension=3)(y))
