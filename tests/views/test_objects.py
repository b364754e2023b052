"""Views of objects hold the points of the object's box, and nothing else."""

from __future__ import annotations

import torch
from torch import Tensor

from tsp3d.views.cameras import ObjectViews
from tsp3d.views.objects import iter_object_views, object_views, points_in_boxes

SMALL = ObjectViews(size=32)


def scene() -> tuple[Tensor, Tensor, Tensor]:
    """Points, colours and boxes: a red and a green cube of 0.6 m, 3 m apart, on a grey floor, and an empty box."""
    generator = torch.Generator().manual_seed(0)
    cube = (torch.rand(2, 3000, 3, generator=generator) - 0.5) * 0.6 + torch.tensor([0, 0, 0.4])
    cube[0, :, 0] -= 1.5
    cube[1, :, 0] += 1.5
    floor = (torch.rand(6000, 3, generator=generator) - 0.5) * torch.tensor([6.0, 6.0, 0.0])
    points = torch.cat([floor, cube[0], cube[1]])
    rgb = torch.full((12000, 3), 0.5)
    rgb[6000:9000], rgb[9000:] = torch.tensor([1.0, 0, 0]), torch.tensor([0, 1.0, 0])
    boxes = [[-1.5, 0, 0.4, 0.6, 0.6, 0.6], [1.5, 0, 0.4, 0.6, 0.6, 0.6], [0, 2.0, 1.5, 0.4, 0.4, 0.4]]
    return points, rgb, torch.tensor(boxes)


def test_points_in_boxes_are_those_within() -> None:
    points, _, boxes = scene()
    for box, inside in zip(boxes, points_in_boxes(points, boxes, 1.02), strict=True):
        expected = ((points - box[:3]).abs() <= box[3:] / 2 * 1.02).all(1).nonzero()[:, 0]
        assert inside.equal(expected)


def test_each_object_is_alone_on_white() -> None:
    points, rgb, boxes = scene()
    images = object_views(points, rgb, boxes, SMALL)
    assert images.shape == (3, 5, 3, 32, 32)
    for number, colour in enumerate(([1.0, 0, 0], [0, 1.0, 0])):
        for image in images[number]:
            found = {tuple(pixel) for pixel in image.flatten(1).T.tolist()}
            assert found == {tuple(colour), (1.0, 1.0, 1.0)}
            assert image[:, 15:17, 15:17].flatten(1).T.tolist() == [colour] * 4
    assert (images[2] == 1).all()


def test_index_is_that_of_the_scene_also_beside_points_that_are_not_finite() -> None:
    points, rgb, boxes = scene()
    expected = [seen.index for seen in iter_object_views(points, rgb, boxes, SMALL)]
    points[:100] = torch.nan
    moved = [seen.index for seen in iter_object_views(points[6000:], rgb[6000:], boxes, SMALL, torch.zeros(3))]
    for number, (index, other) in enumerate(zip(expected, moved, strict=True)):
        assert other.max() < 6000
        if number < 2:
            assert set(index.unique().tolist()) <= {-1, *range(6000 + 3000 * number, 9000 + 3000 * number)}
    holed = [seen.index for seen in iter_object_views(points, rgb, boxes, SMALL)]
    assert all(index.min() == -1 and (index[index >= 0] >= 6000).all() for index in holed)


def test_a_scene_of_no_boxes_of_one_point_and_of_none() -> None:
    points, rgb, boxes = scene()
    assert object_views(points, rgb, boxes[:0], SMALL).shape == (0, 5, 3, 32, 32)
    one = object_views(points[6000:6001], rgb[6000:6001], torch.cat([points[6000:6001], torch.zeros(1, 3)], 1), SMALL)
    for image in one[0]:
        rows, columns = (image != 1).any(0).nonzero(as_tuple=True)
        assert len(rows) and image[:, rows, columns].T.unique(dim=0).tolist() == [[1, 0, 0]]
        assert (rows.float().mean() - 15.5).abs() <= 0.5 and (columns.float().mean() - 15.5).abs() <= 0.5
    assert (object_views(points[:0], rgb[:0], boxes, SMALL) == 1).all()


def test_augmented_views_repeat_by_seed() -> None:
    points, rgb, boxes = scene()
    first, again, other = (
        object_views(points, rgb, boxes[:1], SMALL, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert first.equal(again) and not first.equal(other)
