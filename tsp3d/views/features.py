"""What a 2D teacher says of a scene: features of its objects, and features of its points from whole views; cached."""

from __future__ import annotations

import torch
from torch import Tensor

from tsp3d.views.cache import FeatureCache, content_hash
from tsp3d.views.cameras import Cameras, ObjectViews
from tsp3d.views.encoders import ImageEncoder
from tsp3d.views.lift import TOLERANCE, lift, visibility
from tsp3d.views.objects import iter_object_views
from tsp3d.views.render import render

RENDERING = 1
"""Raise it when the pixels that cameras and renderer give change, so that stored features are not taken for new
ones."""


def object_features(
    encoder: ImageEncoder, points: Tensor, rgb: Tensor | None, boxes: Tensor, views: ObjectViews | None = None,
    cache: FeatureCache | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Features of the A views of each object.

    Args:
        points, rgb, boxes, views: as for :func:`tsp3d.views.objects.iter_object_views`.

    Returns:
        (M, A, D) float32; (M, A) int64, pixels that show the object: 0 where the image is blank.
    """
    settings = views or ObjectViews()

    def compute() -> dict[str, Tensor]:
        features, shown = [], []
        for seen in iter_object_views(points, rgb, boxes, settings):
            features.append(encoder(seen.images).pooled.float())
            shown.append((seen.index >= 0).sum((1, 2)))
        if not features:
            raise ValueError("a scene without boxes has no object features")
        return {"features": torch.stack(features), "shown": torch.stack(shown)}

    found = _get(cache, compute, "objects", encoder.identity, points, rgb, boxes, settings)
    return found["features"], found["shown"]


def point_features(
    encoder: ImageEncoder, points: Tensor, rgb: Tensor | None, cameras: Cameras, targets: Tensor | None = None,
    tolerance: float = TOLERANCE, cache: FeatureCache | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Features of points or voxels, lifted from maps of views of the whole scan.

    Args:
        points, rgb: the scan, as for :func:`tsp3d.views.render.render`.
        cameras: such as :func:`tsp3d.views.cameras.scene_cameras`.
        targets: (T, 3), such as the centres of voxels; the points unless given.
        tolerance: metres, see :func:`tsp3d.views.lift.visibility`.

    Returns:
        (T, C) float32, zeros where no view sees the target; (T,) int64 count of the views that do.

    Raises:
        ValueError: the encoder has no feature maps.
    """

    def compute() -> dict[str, Tensor]:
        seen = render(points, rgb, cameras)
        maps = encoder(seen.images).maps
        if maps is None:
            raise ValueError(f"{encoder.name} has no feature maps to lift; take another encoder")
        where = points if targets is None else targets
        features, count = lift(maps, visibility(where, cameras, seen.depth.to(where.device), tolerance))
        return {"features": features, "count": count}

    found = _get(cache, compute, "points", encoder.identity, points, rgb, cameras, targets, tolerance)
    return found["features"], found["count"]


def _get(cache: FeatureCache | None, compute, *parts) -> dict[str, Tensor]:
    return cache.get(content_hash(RENDERING, *parts), compute) if cache else compute()
