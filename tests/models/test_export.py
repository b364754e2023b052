"""The text and head work through torch.export: the network's numbers, in other sizes than it was traced in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tsp3d.models.config import load_model_config
from tsp3d.models.export import AttentionWork, BoxWork, TextWork, export
from tsp3d.models.net import GroundingNet
from tsp3d.models.spatial import Place
from tsp3d.sparse import SparseTensor, reference

ROOT = Path(__file__).resolve().parents[2]
SENTENCES = ["the red chair", "a very long brown desk next to the window", "it"]


@pytest.fixture(scope="module")
def net() -> GroundingNet:
    """A network of tsp3d-tiny's configuration with weights that are not zero."""
    torch.manual_seed(0)
    return GroundingNet(load_model_config(ROOT / "configs" / "model" / "tsp3d-tiny.yaml")).eval()


def close(got: torch.Tensor, want: torch.Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_text(net):
    program = export(TextWork(net)).module()
    for texts in (SENTENCES, SENTENCES[:1]):
        rows = net.text_encoder.tokenize(texts)
        longest = max(map(len, rows))
        mask = torch.tensor([[t < len(row) for t in range(longest)] for row in rows])
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        close(program(ids, mask)[mask], net._text(texts).tokens)


@torch.no_grad()
@pytest.mark.parametrize("level", [0, 1, 2])
def test_attention(net, level):
    work = AttentionWork(net.head, level)
    program, dim = export(work).module(), net.config.fusion.dim
    for voxels, tokens in ((70, 5), (3, 17)):
        feats, xyz, text = torch.randn(voxels, dim), torch.rand(voxels, 3) * 5, torch.randn(tokens, dim)
        want = work.stack(feats, Place(xyz, net.head.pos_embed(xyz)), [voxels], text, [tokens])
        for got, expected in zip(program(feats, xyz, text), want, strict=True):
            close(got, expected)


@torch.no_grad()
def test_boxes(net):
    work = BoxWork(net)
    program, dim = export(work).module(), net.config.fusion.dim
    for count in (60, 2):
        coords = torch.randint(0, 40, (count, 4), dtype=torch.int32) * torch.tensor([0, 8, 8, 8], dtype=torch.int32)
        coords = reference.unique_coords(coords, 1)[0]
        rest = (torch.randn(len(coords), dim), torch.randn(4, 2 * dim), torch.randint(0, 4, (len(coords),)))
        feats = torch.randn(len(coords), dim)
        want = net.head.boxes(SparseTensor(feats, coords, work.stride), *rest)[1:3]
        for got, expected in zip(program(feats, coords, *rest), want, strict=True):
            close(got, expected)
