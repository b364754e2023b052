"""A stage of the backbone in one graph: maps, convolutions and batch norm under torch.compile, in any size."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from tsp3d.models.backbone import BasicBlock
from tsp3d.sparse import CoordinateSet, SparseTensor, nn


@pytest.fixture(autouse=True)
def _sizes_from_data():
    torch._dynamo.reset()
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):  # how many voxels a level has
        yield


def stage() -> torch.nn.Module:
    return nn.Sequential(BasicBlock(4, 6, 2), BasicBlock(6, 6))


def on_tensors(layers: torch.nn.Module):
    def run(feats: torch.Tensor, coords: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        out = layers(SparseTensor.over(feats, CoordinateSet(coords, 1, 3)))
        return out.feats, out.coords

    return run


def test_a_stage_is_one_graph(make_coords):
    run = on_tensors(stage().eval())
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(run, backend=counter, fullgraph=True, dynamic=True)
    for count in (300, 150):
        coords = make_coords(count, 4)
        feats = torch.randn(len(coords), 4)
        with torch.no_grad():
            for got, want in zip(compiled(feats, coords), run(feats, coords), strict=True):
                torch.testing.assert_close(got, want)
    assert counter.frame_count == 1


def test_gradients_through_a_compiled_stage(make_coords):
    layers = stage().train()
    run, coords = on_tensors(layers), make_coords(200, 4)
    feats = torch.randn(len(coords), 4, requires_grad=True)
    compiled = torch.compile(run, backend="aot_eager", fullgraph=True, dynamic=True)
    found = []
    for function in (compiled, run):
        out, _ = function(feats, coords)
        found.append(torch.autograd.grad(out.square().sum(), [feats, *layers.parameters()]))
    for got, want in zip(*found, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_stage_through_inductor(make_coords):
    run, coords = on_tensors(stage().eval()), make_coords(300, 4)
    feats = torch.randn(len(coords), 4)
    with torch.no_grad():
        got = torch.compile(run, fullgraph=True, dynamic=True)(feats, coords)
        for mine, want in zip(got, run(feats, coords), strict=True):
            torch.testing.assert_close(mine, want, rtol=1e-4, atol=1e-5)
