"""Views of a scene's objects: of each box, the points within it alone, seen from around."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tsp3d.views.cameras import ObjectViews, check_boxes, object_cameras
from tsp3d.views.render import Rendering, check_cloud, render, spacing_radius


def points_in_boxes(points: Tensor, boxes: Tensor, enlarge: float = 1.0) -> Iterator[Tensor]:
    """Of each box (M, 6), enlarged about its centre, the indices of the points (P, 3) within it, ascending."""
    columns = points.T.contiguous()  # (3, P)
    for box in boxes:
        inside = torch.arange(len(points), device=points.device)
        for axis in range(3):
            away = (columns[axis] if axis == 0 else columns[axis][inside]) - box[axis]
            inside = inside[away.abs_() <= box[3 + axis] / 2 * enlarge]
        yield inside


def iter_object_views(
    points: Tensor,
    rgb: Tensor | None,
    boxes: Tensor,
    views: ObjectViews | None = None,
    scene_centre: Tensor | None = None,
    radius: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Rendering]:
    """Render the A views of each of M objects, one object at a time, on white.

    Args:
        points: (P, 3) metres, z up: the whole scene.
        rgb: (P, 3) float 0…1 or uint8.
        boxes: (M, 6) centre and full size. A box without points, such as one of no size, gives white images.
        scene_centre: (3,), which the cameras stand towards; the mean of the points unless given.
        radius: (P,) half-widths of the points in metres; from their spacing in the scene unless given.
        generator: for augmentation, see :func:`tsp3d.views.cameras.object_cameras`.

    Yields:
        M renderings of A images; ``index`` counts the points of the scene.

    Raises:
        ValueError: wrong shapes, no colours, boxes that are not finite.
    """
    views = views or ObjectViews()
    points, rgb = check_cloud(points, rgb)
    boxes = check_boxes(boxes).to(points)
    kept = points.isfinite().all(1).nonzero()[:, 0]
    finite = points[kept]
    if scene_centre is None:
        scene_centre = finite.mean(0) if len(finite) else finite.new_zeros(3)
    half = spacing_radius(finite) if radius is None else radius[kept]
    cameras = object_cameras(boxes, scene_centre, views, generator)
    count = len(views.angles)
    for number, inside in enumerate(points_in_boxes(finite, boxes, views.enlarge)):
        own = cameras[number * count : (number + 1) * count]
        seen = render(finite[inside], rgb[kept[inside]], own, half[inside])
        back = torch.cat([kept[inside], kept.new_tensor([-1])])  # row -1 stays -1
        yield Rendering(seen.images, seen.depth, back[seen.index])


def object_views(points: Tensor, rgb: Tensor | None, boxes: Tensor, views: ObjectViews | None = None, **more) -> Tensor:
    """Images (M, A, 3, S, S) float32 of all objects; arguments and errors as :func:`iter_object_views`."""
    views = views or ObjectViews()
    images = [seen.images for seen in iter_object_views(points, rgb, boxes, views, **more)]
    return torch.stack(images) if images else torch.empty(0, len(views.angles), 3, views.size, views.size)
