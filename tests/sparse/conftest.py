"""Coordinates, and for every operator some arguments: random ragged batches, a single voxel, and nothing at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from tsp3d.sparse import reference, reference_int8
from tsp3d.sparse.linear import Packed

Samples = dict[str, list[tuple]]


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request) -> str:
    """Every device that the operators have kernels for."""
    return request.param


@pytest.fixture
def on_device(device: str) -> Iterator[None]:
    """What a test makes without naming a device is on that device."""
    if device == "cpu":
        yield
    else:
        with torch.device(device):
            yield


def random_coords(count: int, span: int, scenes: int = 3, seed: int = 0, sort: bool = True) -> Tensor:
    """Rows in -span..span, the same ones on every device; the middle of three scenes stays empty."""
    generator = torch.Generator("cpu").manual_seed(seed)
    like = {"generator": generator, "dtype": torch.int32, "device": "cpu"}
    coords = torch.randint(-span, span + 1, (count, 4), **like)
    coords[:, 0] = torch.randint(0, scenes, (count,), **like)
    if scenes == 3:
        coords[coords[:, 0] == 1, 0] = 2
    coords = coords.to(torch.get_default_device())
    return reference.unique_coords(coords, 1)[0] if sort else coords


@pytest.fixture
def make_coords() -> Callable[..., Tensor]:
    return random_coords


def _map_samples() -> list[tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]]:
    """(in coords, out coords, kernel map) of several kinds."""
    samples = []
    for count, span in ((400, 5), (1, 3), (0, 3)):
        coords = random_coords(count, span)
        cells = reference.unique_coords(coords, 2)[0]
        samples.append((coords, coords, reference.kernel_map(coords, coords, (3, 3, 3), 1)))
        samples.append((coords, cells, reference.kernel_map(coords, cells, (2, 2, 2), 1)))
    return samples


def _samples() -> Samples:
    generator = torch.Generator().manual_seed(1)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    sets = [random_coords(300, 4), random_coords(1, 2), random_coords(0, 2)]
    loose = [random_coords(300, 4, sort=False), random_coords(1, 2), random_coords(0, 2)]
    samples: Samples = {
        "unique_coords": [(c, step) for c in loose for step in (1, 2, 3)],
        "is_coordinate_set": [(c,) for c in sets + loose[:1]],
        "lookup": [(a, b) for a in sets for b in loose],
        "merge_coords": [(a, b) for a in sets for b in (random_coords(200, 4, seed=5), sets[2])],
        "merge_feats": [
            (randn(len(a), 3), randn(len(b), 3), *reference.merge_coords(a, b)[1:])
            for a in sets
            for b in (random_coords(200, 4, seed=5), sets[2])
        ],
        "dilate_coords": [(c, size, step) for c in sets for size, step in (([3, 3, 3], 1), ([2, 1, 4], 2))],
        "kernel_map": [
            (a, b, size, step)
            for a, b in (
                (sets[0], sets[0]),
                (sets[0], random_coords(200, 4, seed=5)),
                (sets[1], sets[0]),
                (sets[2],) * 2,
            )
            for size, step in (([3, 3, 3], 1), ([2, 2, 2], 1), ([1, 3, 5], 2))
        ],
    }
    for a, b, m in _map_samples():
        new_in = torch.where(randn(len(a)) > 0, 1, 0).cumsum(0).int() - 1
        new_out = torch.where(torch.arange(len(b)) % 3 == 0, -1, torch.arange(len(b))).int()
        samples.setdefault("filter_map", []).append((*m, new_in, new_out))
        scenes = torch.arange(4, dtype=torch.int32)
        offsets = [torch.searchsorted(c[:, 0].contiguous(), scenes) for c in (a, b)]
        samples.setdefault("replicate_map", []).append((*m, *offsets, torch.tensor([2, 0, 0, 1])))
        volume = len(m[2]) - 1
        for cin, cout in ((6, 64), (9, 1), (33, 48)):
            weight = randn(volume, cin, cout) / (volume * cin) ** 0.5
            samples.setdefault("conv", []).append((randn(len(a), cin), weight, *m, len(b)))
            terms, panels = (randn(cout), randn(len(b), cout), *m, len(b), True), reference.pack(weight)
            samples.setdefault("conv_fused", []).append((randn(len(a), cin), panels, cout, *terms))
            if len(a) > 1:
                samples["conv_fused"].append((randn(len(a), cin), panels, cout, None, terms[1], *m, len(b), True))
                samples["conv_fused"].append((randn(len(a), cin), panels, cout, terms[0], None, *m, len(b), False))
            levels, steps = reference_int8.pack(weight)
            for zero, added in ((0, terms[:2]), (117, (None, terms[1])), (255, (None, None))):
                quantised = (levels, 0.02 * steps, 0.02, zero, *added)
                samples.setdefault("conv_int8", []).append((randn(len(a), cin), *quantised, *terms[2:]))
            samples.setdefault("conv_weight_grad", []).append((randn(len(a), cin), randn(len(b), cout), *m))
            plain, grad = samples["conv"][-1], samples["conv_weight_grad"][-1]
            for shares, tile in ((0, 1), (1, 2), (2, 3), (3, 1), (1, 0)):
                rows = reference.sort_map(*m, len(b), shares) if shares else None
                arguments = (*plain[:5], rows, len(b), tile, shares)
                samples.setdefault("tiled_conv", []).append(arguments)
            samples.setdefault("tiled_weight_grad", []).extend([(*grad, 1, 3), (*grad, 2, 0), (*grad, 0, 1)])
        samples.setdefault("sort_map", []).extend((*m, len(b), shares) for shares in (1, 2, 3))
        feats = randn(len(a), 5).round(decimals=1)  # with ties
        samples.setdefault("sum_pool", []).append((feats, *m, len(b)))
        samples.setdefault("max_pool", []).append((feats, *m, len(b)))
        argmax = reference.max_pool(feats, *m, len(b))[1]
        samples.setdefault("max_pool_grad", []).append((randn(len(b), 5), argmax, len(a)))
        points = torch.cat([torch.randint(0, 3, (40, 1), generator=generator).float(), randn(40, 3) * 4], 1)
        samples.setdefault("interpolation_weights", []).append((a, points, 1))
        rows, weights = reference.interpolation_weights(a, points, 1)
        samples.setdefault("interpolate", []).append((randn(len(a), 5), rows, weights))
        samples.setdefault("splat", []).append((randn(40, 5), rows, weights, len(a)))
    for q_lengths, k_lengths, d, e in (
        ([5, 0, 70], [3, 4, 90], 6, 5),
        ([9, 2, 11], [40, 0, 17], 16, 22),
        ([0], [0], 2, 2),
        ([3], [2], 1, 1),
    ):
        q, k, v = randn(sum(q_lengths), 2, d), 2 * randn(sum(k_lengths), 2, d), randn(sum(k_lengths), 2, e)
        splits = [torch.tensor([0, *lengths]).cumsum(0) for lengths in (q_lengths, k_lengths)]
        samples.setdefault("attention", []).append((q, k, v, *splits, d**-0.5))
        xyz = 2 * randn(sum(k_lengths), 3)
        samples.setdefault("spatial_attention", []).append((k, k.flip(0), v, randn(len(k), 2, 6), xyz, splits[1]))
    samples["attention"].append((q.mT, k.mT, v.mT, *splits, 3.0))  # one head, not contiguous
    samples["linear"] = _linear_samples(randn)
    for rows, cin, hidden, cout, size in ((400, 7, 32, 32, 30), (61, 9, 40, 5, 90), (0, 3, 2, 4, 3)):
        panels = [(p.panels, p.channels) for p in (_pack(randn, cin, hidden), _pack(randn, hidden, cout))]
        row = torch.randint(-1, size + 1, (rows,), generator=generator)  # -1 and size are no group
        samples.setdefault("mean_mlp", []).append((randn(rows, cin), *panels[0], *panels[1], row, size))
    samples["attention_layer"] = _layer_samples(randn)
    splits = torch.tensor([0, 60, 60, 67, 99])
    strange = torch.tensor([1.0, torch.nan, torch.inf, -torch.inf, -torch.nan, torch.inf]).repeat(17)[:99]
    for scores in (randn(99), randn(99).round(), torch.zeros(99), strange):  # without and with ties
        samples.setdefault("top_mask", []).extend((scores, splits, keep) for keep in (0, 1, 7, 32, 100))
    samples["top_mask"].append((randn(0), torch.tensor([0, 0]), 3))
    for columns in ((6, 6), (7, 7), (6, 7)):
        boxes = [torch.rand(20, c, generator=generator) * 2 for c in columns]
        samples.setdefault("box_iou_3d", []).extend([(boxes[0], boxes[1]), (boxes[0], boxes[1][:0])])
        samples.setdefault("nms_3d", []).append((boxes[0], boxes[1][:, 0].contiguous(), 0.1))
    samples["nms_3d"].append((torch.zeros(0, 7), torch.zeros(0), 0.1))
    samples["nms_3d"].append((boxes[0], strange[:20], 0.1))
    return samples


def _pack(randn: Callable[..., Tensor], cin: int, cout: int) -> Packed:
    return Packed.of(randn(cout, cin) / cin**0.5, randn(cout))


def _linear_samples(randn: Callable[..., Tensor]) -> list[tuple]:
    """Each neighbour alone and all together, whole panels and parts of one, a row or none."""
    samples, none = [], (None, None)
    for rows, cin, cout in ((61, 9, 40), (50, 64, 64), (1, 3, 96), (0, 4, 5)):
        p = _pack(randn, cin, cout)
        before, after, like = (randn(cin), randn(cin)), (randn(cout), randn(cout)), randn(rows, cout)
        x = 3 * randn(rows, cin)
        for activation in range(3):
            samples.append((x, *none, p.panels, cout, activation, None, None, *none, 0.0))
            samples.append((x, *before, p.panels, cout, activation, like, 2 * like, *after, 1e-5))
        samples.append((x, *before, p.panels, cout, 0, like, None, *none, 1e-5))
        samples.append((x, *none, p.panels, cout, 0, None, like, *after, 1e-5))
    return samples


def _layer_samples(randn: Callable[..., Tensor]) -> list[tuple]:
    """q, k and v of one input, of two in both ways, and with places; ragged, an empty sequence, nothing at all."""
    samples, none, heads = [], (None, None), 2
    for q_lengths, k_lengths in (([5, 0, 70], [3, 4, 90]), ([9, 2], [40, 0]), ([0], [0])):
        q_splits, k_splits = (torch.tensor([0, *lengths]).cumsum(0) for lengths in (q_lengths, k_lengths))
        for dim in (12, 32):
            one, two, three = (_pack(randn, dim, n * dim) for n in (1, 2, 3))
            asks, told = _pack(randn, dim, 2 * dim + 6 * heads), _pack(randn, dim + 7 * heads, dim).panels
            q, k, out = randn(sum(q_lengths), dim), randn(sum(k_lengths), dim), one.panels
            norm, same = (randn(dim), randn(dim)), (q_splits, q_splits, heads)
            samples += [
                (q, None, *norm, three.panels, 3 * dim, None, out, None, *same, q, *none, 1e-5),
                (q, k, *none, out, dim, two.panels, out, None, q_splits, k_splits, heads, None, *norm, 1e-5),
                (q, q + 1, *norm, two.panels, 2 * dim, out, out, None, *same, None, *none, 1e-5),
                (q, q + 1, *none, asks.panels, asks.channels, out, told, 2 * randn(len(q), 3), *same, q, *norm, 1e-5),
            ]
    return samples


@pytest.fixture(scope="session")
def samples() -> Samples:
    return _samples()
