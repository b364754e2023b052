"""Augmentation of a scene with its boxes. The release's jitter of boxes is left out: it is label noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tsp3d.data.sample import Query, SceneSample, subsample

NEUTRAL_RGB = (109.8 / 256, 97.2 / 256, 83.8 / 256)
"""Colour given to scans without colour: the mean that the network subtracts, so that its features are 0."""


@dataclass
class AugmentConfig:
    """How far each change may go. Angles in degrees, lengths in metres."""

    enabled: bool = True
    quarter_turns: bool = True
    """Rotate about z by a random multiple of 90 degrees…"""
    yaw: float = 5.0
    """…and by up to this more either way."""
    tilt: float = 0.0
    """Rotation about x and y, up to this either way."""
    flip: float = 0.5
    """Probability of mirroring x, and of mirroring y, where no text depends on the view."""
    scale: float = 0.02
    shift_xy: float = 0.5
    shift_z: float = 0.05
    noise: float = 0.005
    """Each scene's points are moved by a uniform error whose half-width is drawn from 0 to this."""
    color_scale: float = 0.02
    """Factor on each colour channel, 1 ± this."""
    color_shift: float = 0.03
    """Added to each channel, whole scene."""
    brightness: float = 0.1
    """Factor on all channels together, 1 ± this."""
    color_noise: float = 0.02
    """Standard deviation of each point's colour error."""
    color_drop: float = 0.05
    """Probability that the scene loses its colour."""
    cut: float = 0.0
    """Probability that the scan lacks its lowest part, as one from a camera that never looked down…"""
    cut_height: float = 0.5
    """…up to so many metres above the floor. What is left is levelled anew, by its lowest points."""


def rotation(yaw: float, tilt_x: float = 0.0, tilt_y: float = 0.0, quarter: int = 0) -> np.ndarray:
    """Matrix (3, 3) float64: ``quarter`` exact turns of 90 and ``yaw`` about z, then tilts about x and y; degrees."""
    cos, sin = ((1, 0), (0, 1), (-1, 0), (0, -1))[quarter % 4]
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], dtype=np.float64)
    a, b, c = np.deg2rad([yaw, tilt_x, tilt_y])
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    about_y = np.array([[np.cos(c), 0, np.sin(c)], [0, 1, 0], [-np.sin(c), 0, np.cos(c)]])
    return about_y @ about_x @ about_z @ turn


def extents(xyz: np.ndarray, instance: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least and greatest coordinates of each object's points.

    Args:
        xyz: (N, C) coordinates. instance: (N,) object index, -1 none. count: number of objects M.

    Returns:
        lower (M, C), upper (M, C) float64 (zeros where the object has no point) and present (M,) bool.
    """
    lower, upper = np.zeros((count, xyz.shape[1])), np.zeros((count, xyz.shape[1]))
    present = np.zeros(count, dtype=bool)
    own = np.flatnonzero(instance >= 0)
    order = own[np.argsort(instance[own].astype(np.int16), kind="stable")]  # 16 bits: radix sort
    if len(order):
        owners, starts = np.unique(instance[order], return_index=True)
        points = xyz[order]
        lower[owners] = np.minimum.reduceat(points, starts, axis=0)
        upper[owners] = np.maximum.reduceat(points, starts, axis=0)
        present[owners] = True
    return lower, upper, present


def transform_boxes(
    boxes: np.ndarray, xyz: np.ndarray, moved: np.ndarray, instance: np.ndarray, linear: np.ndarray
) -> np.ndarray:
    """Boxes of the objects after their points were moved by ``linear`` (3, 3): the extents of the moved points.

    A stored box can exceed its stored points (they are a part of the scan). The excess of each side is carried over to
    the side that it turns into, so that quarter turns and mirrors move the stored box exactly. Objects without points
    get the bounding box of their turned box.

    Args:
        boxes: (M, 6). xyz, moved: (N, 3) points before and after. instance: (N,) object index or -1.

    Returns:
        (M, 6) float32.
    """
    count = len(boxes)
    centre, half = boxes[:, :3].astype(np.float64), boxes[:, 3:].astype(np.float64) / 2
    turned_centre, turned_half = centre @ linear.T, half @ np.abs(linear).T
    lower, upper, present = extents(np.concatenate([xyz, moved], axis=1), instance, count)  # one sort for both
    (before_lower, after_lower), (before_upper, after_upper) = np.split(lower, 2, axis=1), np.split(upper, 2, axis=1)
    excess_lower = np.where(present[:, None], before_lower - (centre - half), 0.0)
    excess_upper = np.where(present[:, None], (centre + half) - before_upper, 0.0)
    # The axis that each new axis mostly comes from, and whether it is reversed.
    source = np.abs(linear).argmax(axis=1)
    reverse = linear[np.arange(3), source] < 0
    factor = np.abs(linear[np.arange(3), source])
    lower = after_lower - factor * np.where(reverse, excess_upper[:, source], excess_lower[:, source])
    upper = after_upper + factor * np.where(reverse, excess_lower[:, source], excess_upper[:, source])
    lower = np.where(present[:, None], lower, turned_centre - turned_half)
    upper = np.where(present[:, None], upper, turned_centre + turned_half)
    return np.concatenate([(lower + upper) / 2, upper - lower], axis=1).astype(np.float32)


def augment(sample: SceneSample, config: AugmentConfig, rng: np.random.Generator, points: int = 0) -> SceneSample:
    """Turn, mirror, scale, shift and disturb a scene; boxes follow the points, texts stay true.

    Turning keeps every sentence true, because viewpoints are given by objects of the scene. Mirroring swaps left and
    right: it happens only where no query of the sample depends on the view.

    Args:
        points: random points to keep, 0 for all. Boxes are measured on all points, whichever are kept.
    """
    if not config.enabled:
        return subsample(sample, points, rng)
    quarter = int(rng.integers(4)) if config.quarter_turns else 0
    yaw = rng.uniform(-config.yaw, config.yaw)
    tilt_x, tilt_y = rng.uniform(-config.tilt, config.tilt, size=2)
    mirror = np.where(rng.random(2) < config.flip, -1.0, 1.0)
    scale = 1 + rng.uniform(-config.scale, config.scale)
    shift = rng.uniform(-1, 1, size=3) * (config.shift_xy, config.shift_xy, config.shift_z)
    linear = rotation(yaw, tilt_x, tilt_y, quarter)
    if not any(query.view_dependent for query in sample.queries):
        linear = linear * np.array([mirror[0], mirror[1], 1.0])  # mirror first, then turn
    linear = linear * scale
    moved = sample.xyz @ linear.T.astype(np.float32)
    boxes = transform_boxes(sample.boxes, sample.xyz, moved, sample.instance, linear)
    boxes[:, :3] += shift.astype(np.float32)
    sample = subsample(sample.replace(xyz=moved, boxes=boxes), points, rng)
    xyz = sample.xyz + shift.astype(np.float32)
    half_width = np.float32(rng.uniform(0, config.noise))
    if half_width > 0:
        xyz += (rng.random(xyz.shape, dtype=np.float32) * 2 - 1) * half_width
    rgb, colored = _augment_color(sample, config, rng)
    return sample.replace(xyz=xyz, rgb=rgb, colored=colored)


def cut_below(sample: SceneSample, height: float) -> SceneSample:
    """The scene without its points below a height in metres; itself where no point would be left.

    Boxes end there, and what is left is levelled: its lowest points (1st percentile) lie at 0. Objects of which less
    than a third of the points are left have no class, colour and label any more. Queries that mention one of them, or
    mean an object of the same name as one of them, are left out.
    """
    keep = sample.xyz[:, 2] >= height
    if not keep.any():
        return sample
    count = len(sample.boxes)
    before, after = (np.bincount(own[own >= 0], minlength=count) for own in (sample.instance, sample.instance[keep]))
    low, high = sample.boxes[:, 2] - sample.boxes[:, 5] / 2, sample.boxes[:, 2] + sample.boxes[:, 5] / 2
    lost = (after * 3 < before) | (high <= height)
    names = np.array(sample.names(), dtype=object)
    doubtful = np.isin(names, names[lost])

    def holds(query: Query) -> bool:
        return not lost[list(query.targets + query.anchors)].any() and not doubtful[list(query.targets)].any()

    level = float(np.percentile(sample.xyz[keep, 2], 1.0))
    xyz, boxes = sample.xyz[keep], sample.boxes.copy()
    xyz[:, 2] -= level
    low, high = np.maximum(low, height), np.maximum(high, height)
    boxes[:, 2], boxes[:, 5] = (low + high) / 2 - level, high - low
    return sample.replace(
        xyz=xyz, rgb=sample.rgb[keep], boxes=boxes, instance=sample.instance[keep],
        classes=np.where(lost, -1, sample.classes), colors=np.where(lost, -1, sample.colors),
        labels=tuple("" if gone else label for label, gone in zip(sample.labels, lost, strict=False)),
        queries=tuple(query for query in sample.queries if holds(query)),
    )  # fmt: skip


def drop_color(sample: SceneSample) -> SceneSample:
    """The same scene as a scan without colour."""
    return sample.replace(
        rgb=np.broadcast_to(np.array(NEUTRAL_RGB, np.float32), sample.rgb.shape).copy(), colored=False
    )


def _augment_color(sample: SceneSample, config: AugmentConfig, rng: np.random.Generator) -> tuple[np.ndarray, bool]:
    factor = 1 + rng.uniform(-config.color_scale, config.color_scale, size=3)
    factor *= 1 + rng.uniform(-config.brightness, config.brightness)
    shift = rng.uniform(-config.color_shift, config.color_shift, size=3)
    if rng.random() < config.color_drop or not sample.colored:
        return drop_color(sample).rgb, False
    rgb = sample.rgb * factor.astype(np.float32) + shift.astype(np.float32)
    if config.color_noise > 0:
        rgb += rng.standard_normal(rgb.shape, dtype=np.float32) * np.float32(config.color_noise)
    return np.clip(rgb, 0, 1, out=rgb), True
