"""Cameras against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tsp3d.views.cameras import COCOON, JITTER, ObjectViews, look_at, object_cameras, scene_cameras

CENTRE = torch.tensor([0.0, 0.0, 1.2])
WARDROBE = [2.0, 0.5, 1.0, 0.6, 1.5, 2.0]  # its larger upright faces lie across x, and the room is at its -x side
SHELF = [0.5, -3.0, 1.0, 1.2, 0.3, 1.8]  # across y, the room at +y
RUG = [0.2, 0.3, 0.01, 2.0, 1.5, 0.02]
CEILING = [0.0, 0.0, 2.5, 5.0, 4.0, 0.1]
SIN, COS = 0.5, math.sqrt(0.75)


def eyes(box: list[float], **settings) -> Tensor:
    return object_cameras(torch.tensor([box]), CENTRE, ObjectViews(**settings)).eye


def test_the_eye_is_two_metres_before_the_larger_face_and_one_up() -> None:
    assert eyes(WARDROBE, angles=(0.0,)).tolist() == [[0.0, 0.5, 2.0]]
    assert eyes(SHELF, angles=(0.0,)).tolist() == [[0.5, -1.0, 2.0]]


def test_cocoon_turns_about_the_vertical_through_the_centre() -> None:
    found = eyes(WARDROBE)
    expected = [
        [2 - 2 * SIN, 0.5 + 2 * COS, 2.0],
        [2 - 2 * COS, 0.5 + 2 * SIN, 2.0],
        [0.0, 0.5, 2.0],
        [2 - 2 * COS, 0.5 - 2 * SIN, 2.0],
        [2 - 2 * SIN, 0.5 - 2 * COS, 2.0],
    ]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_flat_boxes_are_seen_from_above_or_below_and_tilted() -> None:
    found = eyes(RUG, angles=(0.0, 30.0))
    torch.testing.assert_close(found[0], torch.tensor([0.2, 0.3, 3.01]))
    torch.testing.assert_close(found[1], torch.tensor([0.2, 0.3 - 3 * SIN, 0.01 + 3 * COS]))  # its long side is along x
    torch.testing.assert_close(eyes(CEILING, angles=(0.0,))[0], torch.tensor([0.0, 0.0, -0.5]))


@pytest.mark.parametrize("fit", [False, True])
@pytest.mark.parametrize("seed", [None, 3])
def test_the_box_centre_is_the_image_centre_and_up_is_up(fit: bool, seed: int | None) -> None:
    boxes = torch.tensor([WARDROBE, SHELF, RUG, CEILING])
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    cameras = object_cameras(boxes, CENTRE, ObjectViews(fit=fit), generator)
    assert len(cameras) == len(boxes) * len(COCOON)
    eye = torch.eye(3).expand(len(cameras), 3, 3)
    torch.testing.assert_close(cameras.rotation @ cameras.rotation.mT, eye, atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.linalg.det(cameras.rotation), torch.ones(len(cameras)))
    for number, box in enumerate(boxes):
        own = cameras[number * 5 : number * 5 + 5]
        pixels, above = own.project(box[:3] + torch.tensor([[0, 0, 0], [0, 0, 0.1]]))[0].unbind(1)
        torch.testing.assert_close(pixels, torch.full((5, 2), 111.5), atol=1e-3, rtol=0)
        # Straight from above or below, up has no direction in the image.
        assert (above[:, 1] < pixels[:, 1] + 0.1).all()


def test_intrinsics_follow_the_image_size() -> None:
    box = torch.tensor([[4.0, 0.0, 0.0, 0.2, 1.0, 1.0]])
    views = {size: ObjectViews((0.0,), lift=0.0, size=size) for size in (720, 224, 32)}
    # The eye is at (2, 0, 0) and looks along +x, so that right is -y and down is -z.
    point = torch.tensor([[4.0, -0.5, -0.25]])
    for size, setting in views.items():
        camera = object_cameras(box, torch.zeros(3), setting)
        pixels, depth = camera.project(point)
        scale, middle = 623.54 * size / 720, (size - 1) / 2
        torch.testing.assert_close(pixels[0, 0], torch.tensor([middle + scale / 4, middle + scale / 8]))
        assert depth.item() == pytest.approx(2.0)


def test_fitted_views_hold_the_whole_box() -> None:
    signs = torch.tensor([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    for box in (WARDROBE, SHELF, RUG, [1.0, 1.0, 0.5, 0.05, 0.05, 0.25]):
        values = torch.tensor(box)
        cameras = object_cameras(values[None], CENTRE, ObjectViews(fit=True))
        pixels, depth = cameras.project(values[:3] + signs * values[3:] / 2)
        assert (depth > 0).all() and (pixels >= -0.5).all() and (pixels <= 223.5).all()
        assert (pixels.amax(1) - pixels.amin(1)).amax(1).min() > 80  # and it is not small in them


def test_augmentation_stays_in_its_ranges_and_repeats() -> None:
    boxes = torch.tensor([WARDROBE]).repeat(200, 1)

    def draw(seed: int) -> Tensor:
        return object_cameras(boxes, CENTRE, ObjectViews((0.0,)), torch.Generator().manual_seed(seed)).eye

    offset = draw(0) - boxes[:, :3]
    assert -offset[:, 0].max() >= 1.5 - JITTER and -offset[:, 0].min() <= 4 + JITTER
    assert offset[:, 2].min() >= 0.5 - JITTER and offset[:, 2].max() <= 2.5 + JITTER
    assert 0 < offset[:, 1].abs().max() <= JITTER
    assert offset[:, 0].std() > 0.5 and offset[:, 2].std() > 0.4
    assert draw(0).equal(draw(0)) and not draw(0).equal(draw(1))


@pytest.mark.parametrize(
    "boxes",
    [torch.zeros(6), torch.zeros(1, 7), torch.tensor([[0, 0, math.nan, 1, 1, 1]]), torch.tensor([[0.0] * 5 + [-1]])],
)
def test_bad_boxes_are_refused(boxes: Tensor) -> None:
    with pytest.raises(ValueError, match="box"):
        object_cameras(boxes, CENTRE)


def test_an_eye_on_its_target_is_refused() -> None:
    with pytest.raises(ValueError, match="target apart"):
        look_at(torch.zeros(1, 3), torch.zeros(3), 100.0, 8, 8)


def test_scene_cameras_stand_free_inside_and_look_across() -> None:
    generator = torch.Generator().manual_seed(0)
    walls = torch.rand(8000, 3, generator=generator) * torch.tensor([5.0, 4.0, 2.5])
    side = torch.arange(8000) % 4
    walls[side == 0, 0], walls[side == 1, 0] = 0.0, 5.0
    walls[side == 2, 1], walls[side == 3, 1] = 0.0, 4.0
    wardrobe = torch.rand(4000, 3, generator=generator) * torch.tensor([1.2, 1.2, 2.2]) + torch.tensor([3.8, 2.8, 0.0])
    points = torch.cat([walls, wardrobe])
    cameras = scene_cameras(points, 8, 60, 80)
    assert len(cameras) == 8 and (cameras.height, cameras.width) == (60, 80)
    assert (torch.cdist(cameras.eye, points).amin(1) > 0.5).all()
    assert ((cameras.eye > 0) & (cameras.eye < torch.tensor([5.0, 4.0, 2.5]))).all()
    pixels, depth = cameras.project(torch.tensor([[2.5, 2.0, 1.0]]))
    assert (depth > 0).all() and ((pixels >= 0) & (pixels < torch.tensor([80, 60]))).all()
    assert cameras.focal[0] == pytest.approx(40 / math.tan(math.radians(40)))


def test_scene_cameras_of_hardly_anything() -> None:
    lone = torch.tensor([[1.0, 2.0, 3.0], [math.nan, 0, 0]])
    assert scene_cameras(lone, 3).eye.isfinite().all()
    with pytest.raises(ValueError, match="finite point"):
        scene_cameras(lone[1:])
