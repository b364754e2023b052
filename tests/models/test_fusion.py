"""Ragged attention against torch's own, one sequence at a time."""

import pytest
import torch
from torch import nn

from tsp3d.models.config import FusionConfig
from tsp3d.models.fusion import FusionStack, PositionEmbedding, Product
from tsp3d.models.ragged import RaggedAttention, RaggedPlan
from tsp3d.models.spatial import Place, SpatialAttention

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


@pytest.mark.parametrize("spatial", [False, True])
def test_sequences_do_not_see_each_other(spatial: bool) -> None:
    torch.manual_seed(0)
    stack = FusionStack(FusionConfig(dim=16, heads=2, feedforward=16, dropout=0.0, spatial=spatial, gate=8)).eval()
    voxels, text = torch.randn(9, 16), torch.randn(7, 16)
    position = Place(torch.randn(9, 3), torch.randn(9, 16))
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


@pytest.mark.parametrize("spatial", [False, True])
def test_beginning_once_for_all_sentences_changes_nothing(spatial: bool) -> None:
    torch.manual_seed(0)
    stack = FusionStack(FusionConfig(dim=16, heads=2, feedforward=16, dropout=0.0, spatial=spatial, gate=8)).eval()
    voxels, text = torch.randn(6, 16), torch.randn(7, 16)
    position = Place(torch.randn(6, 3), torch.randn(6, 16))
    twice = torch.cat([voxels, voxels])
    at_twice = Place(position.xyz.repeat(2, 1), position.embedding.repeat(2, 1))
    whole = stack(twice, at_twice, [6, 6], text, [3, 4])
    shared = stack.begin(voxels, position, [6]).repeat(2, 1)
    split = stack(shared, at_twice, [6, 6], text, [3, 4], begun=True)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(whole, split, strict=True))


@pytest.mark.parametrize(("spatial", "gate", "dim"), [(False, 0, 16), (True, 8, 16), (True, 32, 64)])
def test_inference_is_what_was_learnt(spatial: bool, gate: int, dim: int) -> None:
    """The operators of inference against the path that has gradients."""
    torch.manual_seed(0)
    config = FusionConfig(dim=dim, heads=2, feedforward=24, dropout=0.1, spatial=spatial, gate=gate)
    stack, embed = FusionStack(config).eval(), PositionEmbedding(dim).eval()
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for average in (embed.state_dict()[f"position_embedding_head.1.running_{name}"] for name in ("mean", "var")):
            average.add_(torch.rand_like(average))
    xyz, voxels, text = 2 * torch.randn(70, 3), torch.randn(70, dim), torch.randn(9, dim)

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        return stack(voxels, Place(xyz, embed(xyz)), [61, 0, 9], text, [3, 4, 2])

    learnt = run()
    assert learnt[0].requires_grad
    with torch.inference_mode():
        for ours, theirs in zip(run(), learnt, strict=True):
            torch.testing.assert_close(ours, theirs.detach(), rtol=1e-4, atol=1e-5)


def test_spatial_attention_is_softmax_over_offsets() -> None:
    """Against the formula of the module with a matrix of pairs, values and gradients."""
    torch.manual_seed(0)
    layer = SpatialAttention(8, 2).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(std=0.3)
    x, value = (torch.randn(6, 8, dtype=torch.double, requires_grad=True) for _ in range(2))
    xyz = 3 * torch.randn(6, 3, dtype=torch.double)
    out = layer(x, value, xyz, RaggedPlan([6], [6], x.device))

    wq, wk, wv = layer.in_proj_weight.chunk(3)
    bq, bk, bv = layer.in_proj_bias.chunk(3)
    asked = layer.ask(x).view(6, 2, 6)
    delta = xyz[None] - xyz[:, None]  # (i, j, 3)
    heads, told = [], []
    for h in range(2):
        s = slice(4 * h, 4 * h + 4)
        q, k, v = (x @ wq.T + bq)[:, s], (x @ wk.T + bk)[:, s], (value @ wv.T + bv)[:, s]
        u, a = asked[:, h, :3], torch.nn.functional.softplus(asked[:, h, 3:])
        logits = q @ k.T / 2 + (u[:, None] * delta - a[:, None] * delta**2).sum(2)
        weight = logits.softmax(1)
        mean = (weight[:, :, None] * delta).sum(1)
        spread = (weight[:, :, None] * delta**2).sum(1) - mean**2
        heads.append(weight @ v)
        told.append(torch.cat([mean, mean.norm(dim=1, keepdim=True), spread], 1))
    expected = layer.out_proj(torch.cat(heads, 1)) + layer.tell(torch.cat(told, 1))
    assert torch.allclose(out, expected, atol=1e-10)
    weight = torch.randn_like(out)
    ours = torch.autograd.grad((out * weight).sum(), [x, value, *layer.parameters()], retain_graph=True)
    theirs = torch.autograd.grad((expected * weight).sum(), [x, value, *layer.parameters()])
    assert all(torch.allclose(a, b, atol=1e-8) for a, b in zip(ours, theirs, strict=True))


def test_spatial_attention_does_not_depend_on_the_origin() -> None:
    torch.manual_seed(0)
    layer = SpatialAttention(8, 2)
    torch.nn.init.normal_(layer.tell.weight)
    x, xyz = torch.randn(5, 8), torch.randn(5, 3)
    plan = RaggedPlan([2, 3], [2, 3], x.device)
    assert torch.allclose(layer(x, x, xyz, plan), layer(x, x, xyz + 2.0, plan), atol=1e-4)


def test_product_is_a_sum_over_pairs_of_projections() -> None:
    torch.manual_seed(0)
    product = Product(4, 3, width=2, dim=5, group=3)
    torch.nn.init.normal_(product.out.weight)
    a, b, row = torch.randn(6, 4), torch.randn(2, 3), torch.tensor([0, 1, 1, 0, 0, 1])
    left, right = product.left(a).view(6, 2, 3), product.right(b)[row].view(6, 2, 3)
    expected = product.out(torch.einsum("nwg,nwg->nw", left, right))
    assert torch.allclose(product(a, b, row), expected, atol=1e-6)
