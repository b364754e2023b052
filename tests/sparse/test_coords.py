"""Coordinate sets: set operations, voxelisation, and kernel maps that are derived instead of built."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tsp3d import sparse
from tsp3d.sparse import CoordinateSet, KernelMap, SparseTensor, nn, ops, reference

pytestmark = pytest.mark.usefixtures("on_device")

ROWS = st.lists(st.tuples(st.integers(0, 2), *[st.integers(-3, 3)] * 3), max_size=20)


def tensor_of(rows, stride=1):
    coords = torch.tensor(rows, dtype=torch.int32).reshape(-1, 4)
    coords[:, 1:] *= stride
    return SparseTensor.from_unsorted(torch.randn(len(coords), 2), coords, stride, batch_size=3)


def rows_of(x):
    return [tuple(row) for row in x.coords.tolist()]


def assert_same_map(a: KernelMap, b: KernelMap):
    for name in ("in_rows", "out_rows", "splits"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name


@given(ROWS, ROWS)
def test_union_difference_and_lookup(first, second):
    a, b = tensor_of(first), tensor_of(second)
    both = sparse.union(a, b)
    assert rows_of(both) == sorted({*first, *second})
    in_a, in_b = dict(zip(rows_of(a), a.feats)), dict(zip(rows_of(b), b.feats))
    for row, feats in zip(rows_of(both), both.feats, strict=True):
        assert torch.equal(feats, in_a.get(row, torch.zeros(2)) + in_b.get(row, torch.zeros(2)))
    assert sparse.difference_mask(a, b).tolist() == [row not in in_b for row in rows_of(a)]
    found = sparse.lookup(b, a.coords)
    assert found.tolist() == [rows_of(b).index(row) if row in in_b else -1 for row in rows_of(a)]
    aligned = sparse.align_features(b, a.coords)
    assert all(torch.equal(v, in_b.get(row, torch.zeros(2))) for row, v in zip(rows_of(a), aligned, strict=True))


def test_lookup_beyond_int32_finds_nothing():
    x = SparseTensor(torch.ones(1, 1), torch.zeros(1, 4, dtype=torch.int32))
    assert sparse.lookup(x, torch.tensor([[0, 0, 0, 0], [0, 2**32, 0, 0]])).tolist() == [0, -1]


def test_union_is_differentiable(make_coords):
    a, b = make_coords(50, 2), make_coords(50, 2, seed=9)
    x = SparseTensor(torch.randn(len(a), 3, requires_grad=True), a, batch_size=3)
    y = SparseTensor(torch.randn(len(b), 3, requires_grad=True), b, batch_size=3)
    both = sparse.union(x, y)
    grad = torch.randn_like(both.feats)
    ga, gb = torch.autograd.grad(both.feats, (x.feats, y.feats), grad)
    assert torch.equal(ga, grad[sparse.lookup(both, a)]) and torch.equal(gb, grad[sparse.lookup(both, b)])


def test_sets_of_different_stride_do_not_mix(make_coords):
    x = SparseTensor(torch.zeros(1, 1), torch.zeros(1, 4, dtype=torch.int32), stride=2)
    y = SparseTensor(torch.zeros(1, 1), torch.zeros(1, 4, dtype=torch.int32), stride=4)
    with pytest.raises(ValueError, match="same stride, got 2 and 4"):
        sparse.union(x, y)


MAPS = [("conv_map", ((3, 3, 3), 1, 1)), ("conv_map", ((3, 3, 3), 1, 2)), ("conv_map", ((2, 2, 2), 2, 1)),
        ("conv_map", ((3, 3, 3), 2, 1)), ("generative_map", ((3, 3, 3), 2))]  # fmt: skip


@pytest.mark.parametrize(("method", "arguments"), MAPS)
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
def test_pruned_maps_equal_rebuilt_ones(make_coords, method, arguments, share):
    coords = make_coords(400, 4)
    coords[:, 1:] *= 2
    whole = CoordinateSet(coords, 2, 3)
    getattr(whole, method)(*arguments)
    pruned = whole.pruned(torch.rand(len(whole)) < share)
    fresh = CoordinateSet(pruned.coords, 2, 3)
    target, derived = getattr(pruned, method)(*arguments)
    expected_target, expected = getattr(fresh, method)(*arguments)
    assert torch.equal(target.coords, expected_target.coords) and target.stride == expected_target.stride
    assert_same_map(derived, expected)


@pytest.mark.parametrize(("method", "arguments"), MAPS)
@pytest.mark.parametrize("index", [[2, 2, 0, 1, 0], [1], [], [0, 1, 2]])
def test_replicated_maps_equal_rebuilt_ones(make_coords, method, arguments, index):
    coords = make_coords(300, 4)
    coords[:, 1:] *= 2
    copies = CoordinateSet(coords, 2, 3).replicated(torch.tensor(index, dtype=torch.int64))
    fresh = CoordinateSet(copies.coords, 2, len(index))
    assert bool(sparse.ops.is_coordinate_set(copies.coords))
    target, derived = getattr(copies, method)(*arguments)
    expected_target, expected = getattr(fresh, method)(*arguments)
    assert torch.equal(target.coords, expected_target.coords) and target.batch_size == expected_target.batch_size
    assert_same_map(derived, expected)


def test_pruning_copies_uses_the_copied_maps(make_coords, monkeypatch):
    x = SparseTensor(torch.randn(200, 4), reference.unique_coords(make_coords(600, 5, scenes=1), 1)[0][:200])
    conv = nn.Conv3d(4, 4)
    conv(x)
    copies = sparse.replicate(x, 5)
    mask = torch.rand(len(copies)) < 0.5
    expected = conv(SparseTensor(copies.feats[mask], copies.coords[mask], batch_size=5)).feats
    monkeypatch.setattr(KernelMap, "build", None)  # a search for pairs would fail
    pruned = copies.prune(mask)
    # On a GPU a small map is summed in shares, whose number depends on its size.
    torch.testing.assert_close(conv(copies).feats, conv(x).feats.repeat(5, 1))
    torch.testing.assert_close(conv(pruned).feats, expected)


def test_interpolation_over_voxels_is_kept_with_the_sets(make_coords, monkeypatch):
    coarse, fine = CoordinateSet(2 * make_coords(60, 3), 2, 3), CoordinateSet(make_coords(200, 5), 1, 3)
    x = SparseTensor.over(torch.randn(len(coarse), 4), coarse)
    points = fine.coords.float()
    points[:, 1:] -= 0.5
    pruned = x.prune(torch.rand(len(coarse)) < 0.5)
    expected = [sparse.interpolate(t, points) for t in (x, pruned)]
    torch.testing.assert_close(sparse.interpolate_over(x, fine, -0.5), expected[0])
    monkeypatch.setattr(ops, "interpolation_weights", None)  # from here on they are known, also for what was pruned
    torch.testing.assert_close(sparse.interpolate_over(x, fine, -0.5), expected[0])
    torch.testing.assert_close(sparse.interpolate_over(pruned, fine, -0.5), expected[1])


def test_interpolation_over_voxels_far_from_the_origin(make_coords):
    near = make_coords(100, 3)
    far = near + torch.tensor([0, 2**25 + 1, -(2**26) - 1, 2**29 + 1], dtype=torch.int32)
    x, y = (SparseTensor(torch.arange(len(near)).float()[:, None], coords, batch_size=3) for coords in (near, far))
    expected, found = (sparse.interpolate_over(z, z.coordinate_set, -0.5) for z in (x, y))
    assert torch.equal(found, expected)


def test_a_tensor_that_is_on_the_device_keeps_its_maps(make_coords, device):
    x = SparseTensor(torch.zeros(len(make_coords(9, 2)), 1), make_coords(9, 2))
    assert x.to(device).coordinate_set is x.coordinate_set and x.to("meta").coords.is_meta
    double = x.to(torch.float64)
    assert double.dtype == torch.float64 and double.coordinate_set is x.coordinate_set
    assert x.to(device, torch.float16).dtype == torch.float16


@pytest.mark.parametrize("count", [50, 0])
def test_kernels_over_copies_share_what_they_make(make_coords, count):
    copies = CoordinateSet(make_coords(count, 3), 1, 3).replicated(torch.tensor([2, 0, 0, 1]))
    assert copies.conv_map((3, 3, 3), 2)[0] is copies.conv_map((2, 2, 2), 2)[0]


def test_maps_may_be_added_while_others_are_searched(make_coords):
    x, y = (CoordinateSet(make_coords(50, 3), 1, 3) for _ in range(2))
    expected, (coarse, known) = y.conv_map((1, 1, 1), 2), y.conv_map((3, 3, 3), 2)

    class Meddler(str):
        """A kind of map that adds one whenever it is looked at, as another thread might."""

        __hash__ = str.__hash__

        def __eq__(self, other):
            x._maps["conv", (2, 2, 2), 1, len(x._maps) + 1] = (None, known)
            return False

    x._maps[Meddler("pool"), (3, 3, 3), 2, 1] = (coarse, known)
    assert_same_map(x.conv_map((1, 1, 1), 2)[1], expected[1])
    assert torch.equal(x.rows_in(coarse), y.rows_in(coarse))


def test_what_inference_keeps_with_the_voxels_serves_learning(make_coords):
    coords = make_coords(100, 3)
    feats = torch.randn(len(coords), 2, requires_grad=True)
    fine, down, up = SparseTensor(feats, coords), nn.Conv3d(2, 2, 3, 2), nn.ConvTranspose3d(2, 2)

    def run():
        coarse = down(nn.Conv3d(2, 2)(fine))
        return (up(coarse, like=fine).feats + sparse.interpolate_over(coarse, fine.coordinate_set)).sum()

    with torch.inference_mode():
        run()
    run().backward()
    assert feats.grad is not None and bool(torch.isfinite(feats.grad).all())


def test_maps_are_shared_by_tensors_over_the_same_voxels(make_coords):
    coords = make_coords(100, 3)
    x = SparseTensor(torch.randn(len(coords), 2), coords)
    size = (3, 3, 3)
    assert x.coordinate_set.conv_map(size)[1] is x.replace(x.feats * 2).coordinate_set.conv_map(size)[1]
    pooled, strided = nn.MaxPool3d(2, 2)(x), nn.Conv3d(2, 2, 3, 2)(x)
    assert pooled.coordinate_set is strided.coordinate_set  # so that they can be added
    assert torch.equal((pooled + strided).feats, pooled.feats + strided.feats)


@pytest.mark.parametrize("count", [400, 1, 0])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_map_of_one_offset_is_a_part_of_a_larger_one(make_coords, count, stride, device, monkeypatch):
    coords = make_coords(count, 5)
    expected_target, expected = CoordinateSet(coords, 1, 3).conv_map((1, 1, 1), stride)
    whole = CoordinateSet(coords, 1, 3)
    whole.conv_map((2, 2, 2), stride)  # has no middle
    target = whole.conv_map((3, 1, 3), stride)[0]
    if device == "cpu":
        monkeypatch.setattr(KernelMap, "build", None)
    shared, part = whole.conv_map((1, 1, 1), stride)
    assert shared is target and torch.equal(target.coords, expected_target.coords)
    assert_same_map(part, expected)


@pytest.mark.parametrize("count", [400, 1, 0])
def test_the_voxels_of_a_coarser_set_are_known_from_its_making(make_coords, count, monkeypatch):
    fine = CoordinateSet(make_coords(count, 9), 1, 3)
    coarse = fine.conv_map((3, 3, 3), 2)[0].conv_map((2, 2, 2), 3)[0]
    expected = ops.unique_coords(fine.coords, 6)[1]
    searched = CoordinateSet(fine.coords, 1, 3).rows_in(coarse)
    assert torch.equal(searched, expected)
    mask = torch.arange(len(coarse)) % 2 == 0
    halved = searched.clone()
    halved[~mask[expected]] = -1
    halved[mask[expected]] //= 2
    assert torch.equal(fine.rows_in(coarse.pruned(mask)), halved)  # not one of those that were made: a search
    thirds = CoordinateSet(ops.unique_coords(fine.coords, 3)[0], 3, 3)  # which the cells of stride 2 do not fit into
    assert torch.equal(fine.rows_in(thirds), ops.unique_coords(fine.coords, 3)[1])
    monkeypatch.setattr(ops, "lookup", None)
    assert torch.equal(fine.rows_in(coarse), expected)


def test_replicate_counts_and_features(make_coords):
    coords = make_coords(60, 3)
    x = SparseTensor(torch.randn(len(coords), 2), coords, batch_size=3)
    copies = sparse.replicate(x, torch.tensor([2, 1, 2]))
    assert copies.counts.tolist() == x.counts[[2, 1, 2]].tolist() and x.counts[1] == 0
    last = x.feats[x.batch == 2]
    assert torch.equal(copies.feats, torch.cat([last, last]))
    assert sparse.replicate(x, 2).counts.tolist() == x.counts.repeat_interleave(2).tolist()
    with pytest.raises(ValueError, match="scene indices"):
        sparse.replicate(x, torch.tensor([3]))


@pytest.mark.parametrize("reduce", ["mean", "first", "sum"])
def test_voxelize(reduce):
    points = torch.tensor([[0.05, 0.05, 0.0], [-0.01, 0.0, 0.0], [0.09, 0.0, 0.0], [0.0, 0.0, 0.31], [0.05, 0.05, 0.0]])
    feats = torch.tensor([[1.0], [2.0], [3.0], [4.0], [5.0]], requires_grad=True)
    x, rows = sparse.voxelize(points, feats, 0.1, torch.tensor([0, 0, 0, 0, 2]), batch_size=4, reduce=reduce)
    assert rows_of(x) == [(0, -1, 0, 0), (0, 0, 0, 0), (0, 0, 0, 3), (2, 0, 0, 0)]
    assert rows.tolist() == [1, 0, 1, 2, 3] and x.counts.tolist() == [3, 0, 1, 0]
    assert x.feats[:, 0].tolist() == [2.0, {"mean": 2.0, "first": 1.0, "sum": 4.0}[reduce], 4.0, 5.0]
    x.feats.sum().backward()
    share = {"mean": [0.5, 0.5], "first": [1.0, 0.0], "sum": [1.0, 1.0]}[reduce]
    assert feats.grad is not None and feats.grad[:, 0].tolist() == [share[0], 1.0, share[1], 1.0, 1.0]


def test_voxelize_nothing_and_bad_points():
    x, rows = sparse.voxelize(torch.zeros(0, 3), torch.zeros(0, 5), 0.1, batch_size=2)
    assert len(x) == 0 and x.counts.tolist() == [0, 0] and rows.shape == (0,)
    with pytest.raises(ValueError, match="NaN"):
        sparse.voxelize(torch.tensor([[0.0, float("nan"), 0.0]]), torch.zeros(1, 1), 0.1)
    with pytest.raises(ValueError, match="check the unit"):
        sparse.voxelize(torch.tensor([[1e12, 0.0, 0.0]]), torch.zeros(1, 1), 0.01)
    with pytest.raises(ValueError, match="names? scene 3"):
        sparse.voxelize(torch.zeros(1, 3), torch.zeros(1, 1), 0.1, torch.tensor([3]), batch_size=2)
    with pytest.raises(ValueError, match=r"batch must be \(2,\), got \(1,\)"):
        sparse.voxelize(torch.zeros(2, 3), torch.zeros(2, 1), 0.1, torch.tensor([0]))


@pytest.mark.parametrize("span", [3, 20, 4000])  # many rows to a cell, many cells to a row, and too many for a bit each
def test_unique_cells_of_full_and_of_empty_scenes(make_coords, span):
    coords = make_coords(700, span, sort=False)
    for step in (1, 2, 3, 8):
        for got, expected in zip(
            sparse.ops.unique_coords(coords, step), reference.unique_coords(coords, step), strict=True
        ):
            assert torch.equal(got, expected)


@pytest.mark.parametrize("implementation", ["engine", "reference"])
def test_scenes_that_do_not_fit_in_keys_are_refused(implementation):
    far = 2**30
    coords = torch.tensor([[0, -far, -far, -far], [7, far, far, far]], dtype=torch.int32)
    unique = sparse.ops.unique_coords if implementation == "engine" else reference.unique_coords
    with pytest.raises(RuntimeError, match="do not fit in 64-bit keys"):
        unique(coords, 1)
    last = torch.tensor([[0, 0, 2**31 - 1, 0]], dtype=torch.int32)
    functions = sparse.ops if implementation == "engine" else reference
    with pytest.raises(RuntimeError, match="range of int32"):
        functions.dilate_coords(last, [3, 3, 3], 1)
    with pytest.raises(RuntimeError, match="range of int32"):
        unique(-last - 1, 3)
    assert len(functions.dilate_coords(last, [1, 1, 3], 1)) == 3
    flat = torch.tensor([[0, -far, -far, 0], [0, far, far, 0]], dtype=torch.int32)  # a long thin scene does fit
    assert torch.equal(unique(flat, 1)[0], flat)


def test_tensor_refuses_what_does_not_match():
    coords = torch.tensor([[0, 1, 0, 0], [0, 0, 0, 0]], dtype=torch.int32)
    with pytest.raises(ValueError, match="from_unsorted"):
        SparseTensor(torch.zeros(2, 1), coords)
    with pytest.raises(ValueError, match="from_unsorted"):
        SparseTensor(torch.zeros(2, 1), coords[[0, 0]])
    with pytest.raises(ValueError, match=r"\(N, 4\) int32"):
        SparseTensor(torch.zeros(2, 1), coords.long())
    with pytest.raises(ValueError, match=r"feats must be \(2, C\)"):
        SparseTensor(torch.zeros(3, 1), coords.flip(0))
    for make in (SparseTensor, SparseTensor.from_unsorted):
        with pytest.raises(ValueError, match="multiples of the stride, 2"):
            make(torch.zeros(2, 1), coords.flip(0), stride=2)
        with pytest.raises(ValueError, match="stride must be positive"):
            make(torch.zeros(2, 1), coords.flip(0), stride=0)
        with pytest.raises(ValueError, match="must not be negative, got -1"):
            make(torch.zeros(1, 1), coords[:1] - 1)
    x = SparseTensor(torch.zeros(2, 1), coords.flip(0))
    with pytest.raises(ValueError, match="different voxels"):
        x.prune(x.coords[:, 1] == 0) + SparseTensor(torch.zeros(1, 1), coords[1:], stride=2)
    with pytest.raises(ValueError, match="mask must be"):
        x.prune(torch.ones(2))
    with pytest.raises(ValueError, match="takes 3 channels, got 1"):
        nn.Conv3d(3, 3)(x)
    with pytest.raises(ValueError, match="stride it divides"):
        nn.GenerativeConvTranspose3d(1, 1)(x)


def test_memory_is_freed_without_the_collector(make_coords):
    import gc
    import weakref

    coords = make_coords(100, 3)
    x = SparseTensor(torch.randn(len(coords), 2), coords)
    y = nn.Conv3d(2, 2, 3, 2)(nn.Conv3d(2, 2)(x))
    nn.ConvTranspose3d(2, 2)(y, like=x)
    watched = weakref.ref(x.coordinate_set)
    gc.disable()
    try:
        del x, y
        assert watched() is None
    finally:
        gc.enable()


def test_segment_mean_is_the_mean_of_each_row() -> None:
    feats = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 0.0]], requires_grad=True)
    mean = sparse.segment_mean(feats, torch.tensor([2, 0, 2]), 4)
    assert torch.equal(mean, torch.tensor([[3.0, 4.0], [0.0, 0.0], [3.0, 1.0], [0.0, 0.0]]))
    (grad,) = torch.autograd.grad(mean.sum(), feats)
    assert torch.equal(grad, torch.tensor([[0.5, 0.5], [1.0, 1.0], [0.5, 0.5]]))


def test_segment_mean_of_half_precision_is_summed_in_float32() -> None:
    feats = torch.full((1000, 1), 1.0, dtype=torch.bfloat16)
    mean = sparse.segment_mean(feats, torch.zeros(1000, dtype=torch.int64), 1)
    assert mean.dtype == torch.bfloat16 and mean.tolist() == [[1.0]]


def test_tensors_are_pickled_without_their_maps(make_coords):
    import pickle

    coords = make_coords(200, 8)
    fine = SparseTensor.from_unsorted(torch.randn(len(coords), 2), coords)
    coarse = nn.MaxPool3d(2, 2)(fine)
    up = nn.ConvTranspose3d(2, 2)
    expected = up(coarse, fine).feats
    sparse.interpolate_over(coarse, fine.coordinate_set)
    other, again = pickle.loads(pickle.dumps((coarse, coarse.replace(coarse.feats))))
    assert other.coordinate_set is again.coordinate_set and other.batch_size == coarse.batch_size
    torch.testing.assert_close(up(other, fine).feats, expected)


def test_integers_are_summed_whole_and_half_precision_finds_its_voxels():
    coords = torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0]], dtype=torch.int32)
    large = torch.tensor([[16777217], [3]])
    x = SparseTensor.from_unsorted(large, coords, reduce="sum")
    assert torch.equal(x.feats, large)
    assert sparse.union(x, SparseTensor(large, coords)).feats.tolist() == [[2 * 16777217], [6]]
    points = (torch.rand(1000, 3) * 8).half()
    assert torch.equal(
        sparse.voxelize(points, points, 0.02)[0].coords, sparse.voxelize(points.float(), points, 0.02)[0].coords
    )
    with pytest.raises(ValueError, match="batch must be integers"):
        sparse.voxelize(points, points, 0.02, batch=torch.zeros(1000))


def test_what_is_not_a_number_stays_in_its_row():
    feats = torch.tensor([[float("nan")], [1.0]])
    rows, weights = torch.tensor([[-1, 1], [0, 1]]), torch.ones(2, 2)
    for interpolate, splat in ((ops.interpolate, ops.splat), (reference.interpolate, reference.splat)):
        assert torch.isnan(interpolate(feats, rows, weights)).tolist() == [[False], [True]]
        assert torch.isnan(splat(feats, torch.tensor([[-1], [1]]), torch.ones(2, 1), 2)).tolist() == [[False], [False]]
