"""Coordinates, and for every operator some arguments: random ragged batches, a single voxel, and nothing at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from tsp3d.sparse import reference, reference_int8

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
            terms = (randn(cout), randn(len(b), cout), *m, len(b), True)
            samples.setdefault("conv_fused", []).append((randn(len(a), cin), weight, *terms))
            if len(a) > 1:
                samples["conv_fused"].append((randn(len(a), cin), weight, None, terms[1], *m, len(b), True))
                samples["conv_fused"].append((randn(len(a), cin), weight, terms[0], None, *m, len(b), False))
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
    for columns in ((6, 6), (7, 7), (6, 7)):
        boxes = [torch.rand(20, c, generator=generator) * 2 for c in columns]
        samples.setdefault("box_iou_3d", []).extend([(boxes[0], boxes[1]), (boxes[0], boxes[1][:0])])
        samples.setdefault("nms_3d", []).append((boxes[0], boxes[1][:, 0].contiguous(), 0.1))
    samples["nms_3d"].append((torch.zeros(0, 7), torch.zeros(0), 0.1))
    return samples


@pytest.fixture(scope="session")
def samples() -> Samples:
    return _samples()
