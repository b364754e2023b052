"""Augmentation: boxes stay the extents of their points, texts stay true, the same seed gives the same scene."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsp3d.data.augment import (
    NEUTRAL_RGB,
    AugmentConfig,
    augment,
    cut_below,
    drop_color,
    extents,
    rotation,
    transform_boxes,
)
from tsp3d.data.sample import Query, SceneSample
from tsp3d.models.net import RGB_MEAN

STILL = AugmentConfig(
    quarter_turns=False, yaw=0, flip=0, scale=0, shift_xy=0, shift_z=0, noise=0, color_scale=0, color_shift=0,
    brightness=0, color_noise=0, color_drop=0,
)  # fmt: skip


def scene(seed: int = 0, objects: int = 4, each: int = 30, view_dependent: bool = False) -> SceneSample:
    rng = np.random.default_rng(seed)
    xyz = rng.uniform(-2, 2, (objects * each + 50, 3)).astype(np.float32)
    instance = np.concatenate([np.repeat(np.arange(objects), each), np.full(50, -1)])
    order = rng.permutation(len(xyz))
    xyz, instance = xyz[order], instance[order]
    lower, upper, _ = extents(xyz, instance, objects)
    boxes = np.concatenate([(lower + upper) / 2, upper - lower], 1).astype(np.float32)
    rgb = rng.random(xyz.shape, dtype=np.float32)
    queries = (Query("the chair on the left", (0,), view_dependent=view_dependent),)
    return SceneSample("s", xyz, rgb, instance, boxes, np.zeros(objects, int), np.zeros(objects, int), queries)


def assert_boxes_are_extents(sample: SceneSample, slack: float = 2e-5) -> None:
    for place, box in enumerate(sample.boxes):
        own = sample.xyz[sample.instance == place]
        np.testing.assert_allclose(box[:3] - box[3:] / 2, own.min(0), atol=slack)
        np.testing.assert_allclose(box[:3] + box[3:] / 2, own.max(0), atol=slack)


def test_extents_against_a_loop() -> None:
    sample = scene(3, objects=6)
    sample.instance[sample.instance == 2] = -1
    lower, upper, present = extents(sample.xyz, sample.instance, 6)
    assert present.tolist() == [True, True, False, True, True, True]
    for place in (0, 1, 3, 4, 5):
        own = sample.xyz[sample.instance == place]
        np.testing.assert_array_equal(lower[place], own.min(0))
        np.testing.assert_array_equal(upper[place], own.max(0))


@given(seed=st.integers(0, 1000), tilt=st.sampled_from([0.0, 2.5]), view=st.booleans())
def test_boxes_are_the_extents_of_the_moved_points(seed: int, tilt: float, view: bool) -> None:
    config = AugmentConfig(noise=0, tilt=tilt)
    moved = augment(scene(seed, view_dependent=view), config, np.random.default_rng(seed))
    assert_boxes_are_extents(moved)


def test_noise_moves_points_by_no_more_than_its_bound() -> None:
    sample = scene(1)
    moved = augment(sample, replace(STILL, noise=0.005), np.random.default_rng(5))
    error = moved.xyz - sample.xyz
    assert 0 < np.abs(error).max() <= 0.005 + 1e-6 and abs(error.mean()) < 0.1 * np.abs(error).max()  # either way
    np.testing.assert_array_equal(moved.boxes, sample.boxes)


def test_turns_scales_and_shifts_use_all_of_their_range() -> None:
    sample = scene(1)

    def drawn(**amounts: float) -> tuple[np.ndarray, np.ndarray]:
        """Matrices (40, 3, 3) and shifts (40, 3) of as many seeds."""
        ones = np.column_stack([sample.xyz, np.ones(len(sample.xyz))])
        moved = [augment(sample, replace(STILL, **amounts), np.random.default_rng(seed)).xyz for seed in range(40)]
        found = np.stack([np.linalg.lstsq(ones, xyz, rcond=None)[0] for xyz in moved])
        return found[:, :3], found[:, 3]

    _, shift = drawn(shift_xy=0.5, shift_z=0.05)
    assert (np.abs(shift).max(0) / [0.5, 0.5, 0.05] == pytest.approx(0.9, abs=0.1)) and (shift.min(0) < 0).all()
    scale = np.cbrt(np.linalg.det(drawn(scale=0.1)[0]))
    assert 0.9 <= scale.min() < 0.92 and 1.08 < scale.max() <= 1.1
    turns, _ = drawn(yaw=5)
    yaw = np.rad2deg(np.arctan2(turns[:, 0, 1], turns[:, 0, 0]))
    assert -5 <= yaw.min() < -4 and 4 < yaw.max() <= 5
    quarters, _ = drawn(quarter_turns=True)
    assert {tuple(turn[0, :2].round(4) + 0.0) for turn in quarters} == {(1, 0), (0, 1), (-1, 0), (0, -1)}


def test_nothing_changes_where_every_amount_is_zero() -> None:
    sample = scene(2)
    for config in (STILL, AugmentConfig(enabled=False)):
        moved = augment(sample, config, np.random.default_rng(0))
        np.testing.assert_allclose(moved.xyz, sample.xyz, atol=1e-6)
        np.testing.assert_allclose(moved.rgb, sample.rgb, atol=1e-6)
        np.testing.assert_allclose(moved.boxes, sample.boxes, atol=1e-6)


@pytest.mark.parametrize("quarter", range(4))
@pytest.mark.parametrize("mirror", [(1, 1), (-1, 1), (1, -1)])
def test_quarter_turns_and_mirrors_move_stored_boxes_exactly(quarter: int, mirror: tuple[int, int]) -> None:
    """Also where the stored box exceeds its points unevenly, and where an object has no points."""
    sample = scene(4)
    boxes = sample.boxes.copy()
    boxes[0, 0] += 0.2
    boxes[0, 3] += 0.4 + 0.1
    instance = np.where(sample.instance == 3, -1, sample.instance)
    linear = rotation(0, quarter=quarter) * np.array([*mirror, 1])
    got = transform_boxes(boxes, sample.xyz, sample.xyz @ linear.T.astype(np.float32), instance, linear)
    want = np.concatenate([boxes[:, :3] @ linear.T, boxes[:, 3:] @ np.abs(linear).T], 1)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_an_object_without_points_gets_a_box_around_its_turned_box() -> None:
    box = np.array([[1, 0, 0, 2, 1, 1]], dtype=np.float32)
    empty = np.zeros((0, 3), np.float32)
    got = transform_boxes(box, empty, empty, np.zeros(0, int), rotation(45))[0]
    root = np.sqrt(0.5)
    np.testing.assert_allclose(got, [root, root, 0, 3 * root, 3 * root, 1], atol=1e-6)


def test_only_scenes_without_view_dependent_texts_are_mirrored() -> None:
    def mirrored(view: bool) -> set[bool]:
        sample = scene(0, view_dependent=view)
        found = set()
        for seed in range(40):
            moved = augment(sample, replace(STILL, flip=0.5, quarter_turns=True, yaw=5), np.random.default_rng(seed))
            linear = np.linalg.lstsq(sample.xyz, moved.xyz, rcond=None)[0]
            found.add(bool(np.linalg.det(linear) < 0))
        return found

    assert mirrored(True) == {False}
    assert mirrored(False) == {False, True}


def test_colour_stays_in_range_and_can_be_dropped() -> None:
    sample = scene(0)
    wild = replace(STILL, color_scale=0.5, color_shift=0.5, brightness=0.5, color_noise=0.5)
    moved = augment(sample, wild, np.random.default_rng(0))
    assert moved.colored and moved.rgb.min() >= 0 and moved.rgb.max() <= 1
    dropped = augment(sample, replace(STILL, color_drop=1), np.random.default_rng(0))
    assert not dropped.colored
    np.testing.assert_allclose(dropped.rgb, np.broadcast_to(np.array(NEUTRAL_RGB, np.float32), sample.rgb.shape))


def test_each_amount_of_colour_counts() -> None:
    sample = scene(0).replace(rgb=np.full((170, 3), 0.5, np.float32))

    def change(**amounts: float) -> np.ndarray:
        return augment(sample, replace(STILL, **amounts), np.random.default_rng(0)).rgb - sample.rgb  # (N, 3)

    for name, channels in (("color_scale", 3), ("color_shift", 3), ("brightness", 1)):
        found = change(**{name: 0.1})
        assert len(np.unique(found, axis=0)) == 1 and len(np.unique(found[0].round(5))) == channels, name
        assert 0 < np.abs(found).max() <= (0.1 if name == "color_shift" else 0.05) + 1e-6, name
    assert change(color_noise=0.1).std() == pytest.approx(0.1, rel=0.2)


def test_a_scan_without_colour_stays_without() -> None:
    bare = drop_color(scene(0))
    moved = augment(bare, AugmentConfig(color_drop=0), np.random.default_rng(0))
    assert not moved.colored and np.array_equal(moved.rgb, bare.rgb)


def test_the_seed_decides() -> None:
    first, second, third = (augment(scene(0), AugmentConfig(), np.random.default_rng(s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.xyz, second.xyz)
    np.testing.assert_array_equal(first.rgb, second.rgb)
    assert np.abs(first.xyz - third.xyz).max() > 0.01


def test_the_neutral_colour_is_what_the_network_subtracts() -> None:
    assert RGB_MEAN == NEUTRAL_RGB


def test_a_cut_scan_lacks_its_lowest_part() -> None:
    """100 points each: a tall object, a low one of which a quarter is left, another of its class, one high above."""
    heights = np.array([[0.0, 2.0], [0.0, 0.4], [0.5, 1.0], [1.5, 2.5]])
    z = np.concatenate([np.linspace(low, high, 100) for low, high in heights]).astype(np.float32)
    xyz = np.stack([np.arange(400) / 100, np.zeros(400), z], 1).astype(np.float32)
    instance = np.repeat(np.arange(4), 100)
    lower, upper, _ = extents(xyz, instance, 4)
    boxes = np.concatenate([(lower + upper) / 2, upper - lower], 1).astype(np.float32)
    queries = tuple(
        Query(str(t), t, a) for t, a in (((0,), ()), ((1,), ()), ((2,), ()), ((3,), (1,)), ((0, 3), ()), ((), ()))
    )
    whole = SceneSample(
        "s", xyz, xyz, instance, boxes, np.array([5, 7, 7, 9]), np.arange(4), queries, labels=("a", "b", "b", "c")
    )
    cut = cut_below(whole, 0.3)
    assert [query.targets for query in cut.queries] == [(0,), (0, 3), ()]  # the second of class 7 may be the first now
    assert cut.classes.tolist() == [5, -1, 7, 9] and cut.colors.tolist() == [0, -1, 2, 3]
    assert cut.names() == ["a", "", "b", "c"] and set(cut.instance) == {0, 1, 2, 3}
    level = np.percentile(z[z >= 0.3], 1)
    for place in (0, 2, 3):
        low, high = np.maximum(heights[place], 0.3) - level
        own = cut.xyz[cut.instance == place, 2]
        np.testing.assert_allclose([cut.boxes[place, 2] - cut.boxes[place, 5] / 2, own.min()], low, atol=0.025)
        np.testing.assert_allclose([cut.boxes[place, 2] + cut.boxes[place, 5] / 2, own.max()], high, atol=1e-5)
    assert cut_below(whole, 5.0) is whole
    np.testing.assert_array_equal(whole.xyz[:, 2], z)
