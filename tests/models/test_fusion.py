"""Ragged attention against torch's own, one sequence at a time."""

import pytest
import torch
from torch import nn

from tsp3d.models.config import FusionConfig
from tsp3d.models.fusion import FusionStack, PositionEmbedding, RaggedAttention, RaggedPlan

LENGTHS = [([5, 7, 6], [3, 3, 3]), ([1, 200, 3, 90], [4, 1, 9, 30]), ([4, 0, 2], [3, 2, 5]), ([4, 3, 2], [3, 0, 5])]


@pytest.mark.parametrize(("q_lengths", "k_lengths"), LENGTHS)
def test_equals_multihead_attention(q_lengths: list[int], k_lengths: list[int]) -> None:
    torch.manual_seed(0)
    ours, theirs = RaggedAttention(16, 4).double(), nn.MultiheadAttention(16, 4, batch_first=True).double()
    theirs.load_state_dict(ours.state_dict())  # same names, so published weights load as they are
    q = torch.randn(sum(q_lengths), 16, dtype=torch.double, requires_grad=True)
    k = torch.randn(sum(k_lengths), 16, dtype=torch.double, requires_grad=True)
    out = ours(q, k, k, RaggedPlan(q_lengths, k_lengths, q.device))
    expected = []
    for a, b in zip(q.split(q_lengths), k.split(k_lengths), strict=True):
        empty = not len(a) or not len(b)  # without keys attention is zero: only the output bias is left
        expected.append(theirs.out_proj.bias.expand(len(a), 16) if empty else theirs(a[None], b[None], b[None])[0][0])
    expected = torch.cat(expected)
    assert torch.allclose(out, expected, atol=1e-12)
    weight = torch.randn_like(out)
    ours_grad = torch.autograd.grad((out * weight).sum(), [q, k], retain_graph=True)
    theirs_grad = torch.autograd.grad((expected * weight).sum(), [q, k])
    assert all(torch.allclose(a, b, atol=1e-10) for a, b in zip(ours_grad, theirs_grad, strict=True))


def test_padding_stays_within_the_budget() -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(100, 1000, (64,), generator=generator).tolist()
    plan = RaggedPlan(lengths, lengths, torch.device("cpu"))
    padded = sum(size * (len(q) // size) ** 2 for size, q, *_ in plan.groups)
    assert padded <= 1.2 * sum(n * n for n in lengths)


def test_sequences_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    stack = FusionStack(FusionConfig(dim=16, heads=2, feedforward=16, dropout=0.0)).eval()
    voxels, text = torch.randn(9, 16), torch.randn(7, 16)
    position = torch.randn(9, 16)
    out = stack(voxels, position, [4, 5], text, [3, 4])
    changed = voxels.clone()
    changed[4:] += 1.0
    again = stack(changed, position, [4, 5], text, [3, 4])
    assert torch.allclose(out[0][:4], again[0][:4], atol=1e-6) and torch.allclose(out[1][:3], again[1][:3], atol=1e-6)
    assert not torch.allclose(out[0][4:], again[0][4:], atol=1e-3)


def test_position_embedding_is_the_pointwise_convolution() -> None:
    torch.manual_seed(0)
    embed = PositionEmbedding(8).eval()
    xyz = torch.randn(5, 3)
    expected = embed.position_embedding_head(xyz.T[None])[0].T
    assert torch.allclose(embed(xyz), expected, atol=1e-6)


def test_beginning_once_for_all_sentences_changes_nothing() -> None:
    torch.manual_seed(0)
    stack = FusionStack(FusionConfig(dim=16, heads=2, feedforward=16, dropout=0.0)).eval()
    voxels, position, text = torch.randn(6, 16), torch.randn(6, 16), torch.randn(7, 16)
    twice, at_twice = torch.cat([voxels, voxels]), torch.cat([position, position])
    whole = stack(twice, at_twice, [6, 6], text, [3, 4])
    shared = stack.begin(voxels, position, [6]).repeat(2, 1)
    split = stack(shared, at_twice, [6, 6], text, [3, 4], begun=True)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(whole, split, strict=True))
