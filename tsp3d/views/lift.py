"""From images to points: which views see a point, and the mean of their features there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tsp3d.views.cameras import Cameras
from tsp3d.views.render import NEAR

TOLERANCE = 0.1
"""Metres by which a point may lie off the surface that its pixel shows: on slanted surfaces a pixel covers some depth.
On ten generated rooms of 60,000 points, eight views of 640 × 480 then see 83 % of the points (74 % at 5 cm)."""


@dataclass(frozen=True)
class Visibility:
    """Where P points fall in V images, and whether they are what is seen there."""

    pixels: Tensor
    """(V, P, 2) float32 column and row; whole numbers are the pixels' centres."""
    visible: Tensor
    """(V, P) bool."""
    height: int
    width: int


def visibility(points: Tensor, cameras: Cameras, depth: Tensor, tolerance: float = TOLERANCE) -> Visibility:
    """Which points the images show.

    A point is visible where its pixel is in the image and shows a surface within ``tolerance`` of the point's depth.
    Nearer than that, too, it is not what the image shows.

    Args:
        points: (P, 3) metres: points, or centres of voxels (give a tolerance of at least half a voxel then). Those
            that are not finite are never visible.
        depth: (V, H, W) of the same cameras' rendering.
    """
    if depth.shape != (len(cameras), cameras.height, cameras.width):
        raise ValueError(
            f"depth is {tuple(depth.shape)}, but the cameras make ({len(cameras)}, {cameras.height}, {cameras.width})"
        )
    pixels, distance = cameras.project(points.float())
    column, row = (pixels + 0.5).floor_().unbind(-1)  # (V, P)
    inside = (distance > NEAR) & (column >= 0) & (column < cameras.width) & (row >= 0) & (row < cameras.height)
    view, point = inside.nonzero(as_tuple=True)
    shown = depth[view, row[inside].long(), column[inside].long()]
    visible = torch.zeros_like(inside)
    visible[view, point] = (distance[inside] - shown).abs() <= tolerance  # an empty pixel is infinitely far
    return Visibility(pixels, visible, cameras.height, cameras.width)


def lift(features: Tensor, seen: Visibility, mode: str = "bilinear") -> tuple[Tensor, Tensor]:
    """Features of points: the mean over the views that see them.

    Args:
        features: (V, C, h, w), maps that cover the whole images at any resolution.
        mode: "bilinear", or "nearest" for the map's cell that the point's pixel lies in.

    Returns:
        (P, C) float32, zeros where no view sees the point; (P,) int64 count of the views that do.
    """
    views, points = seen.visible.shape
    if features.ndim != 4 or len(features) != views:
        raise ValueError(f"features must be ({views}, C, h, w), a map for each view, got {tuple(features.shape)}")
    total = features.new_zeros((points, features.shape[1]), dtype=torch.float32)
    # From -1 to 1 between the images' outer edges; a pixel's centre is half a pixel from its own.
    extent = seen.pixels.new_tensor([seen.width, seen.height])
    for view in range(views):
        rows = seen.visible[view].nonzero()[:, 0]
        place = (2 * seen.pixels[view, rows] + 1) / extent - 1  # (n, 2)
        sampled = F.grid_sample(
            features[view : view + 1].float(), place[None, None], mode=mode, padding_mode="border", align_corners=False
        )  # (1, C, 1, n)
        total[rows] += sampled[0, :, 0].T
    count = seen.visible.sum(0)
    return total / count.clamp(min=1)[:, None], count
