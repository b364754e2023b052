"""From a scene to a teacher's features, with an encoder whose features are colours."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tsp3d.views.cache import FeatureCache
from tsp3d.views.cameras import ObjectViews, scene_cameras
from tsp3d.views.encoders import ImageEncoder, ImageFeatures
from tsp3d.views.features import object_features, point_features

SMALL = ObjectViews(size=32)


class Colours(ImageEncoder):
    """The image itself as the map, its mean as the feature; counts its calls."""

    def __init__(self, size: int = 64, maps: bool = True) -> None:
        super().__init__("colours", size, (0.0,) * 3, (1.0,) * 3)
        self.calls, self.has_maps = 0, maps

    def encode(self, images: Tensor) -> ImageFeatures:
        self.calls += 1
        return ImageFeatures(images.mean((2, 3)), images if self.has_maps else None)

    def random_twin(self, seed: int) -> Colours:
        return Colours()


@pytest.fixture
def room() -> tuple[Tensor, Tensor, Tensor]:
    """Points, colours and boxes: a grey floor of 5 m with a red and a blue cube."""
    points = torch.rand(12000, 3) * torch.tensor([5.0, 5.0, 0.0])
    rgb = torch.full((12000, 3), 0.5)
    for number, x in enumerate((1.5, 3.5)):
        rows = slice(3000 * number, 3000 * number + 3000)
        points[rows] = torch.rand(3000, 3) * 0.8 + torch.tensor([x - 0.4, 2.1, 0.1])
        rgb[rows] = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.1, 0.9]][number])
    return (
        points,
        rgb,
        torch.tensor([[1.5, 2.5, 0.5, 0.8, 0.8, 0.8], [3.5, 2.5, 0.5, 0.8, 0.8, 0.8], [9, 9, 9, 1, 1, 1.0]]),
    )


def test_objects_have_a_feature_for_each_view(room: tuple[Tensor, Tensor, Tensor]) -> None:
    features, shown = object_features(Colours(), *room, views=SMALL)
    assert features.shape == (3, 5, 3) and shown.shape == (3, 5)
    assert (features[0, :, 0] > features[0, :, 2]).all() and (features[1, :, 2] > features[1, :, 0]).all()
    assert (features[2] == 1).all() and (shown[2] == 0).all() and (shown[:2] > 50).all()


def test_the_cache_knows_encoder_scene_and_settings(room: tuple[Tensor, Tensor, Tensor], tmp_path: Path) -> None:
    points, rgb, boxes = room
    cache, encoder = FeatureCache(tmp_path), Colours()
    first = object_features(encoder, points, rgb, boxes, SMALL, cache)
    calls = encoder.calls
    again = object_features(encoder, points, rgb, boxes, SMALL, cache)
    assert encoder.calls == calls and again[0].equal(first[0]) and again[1].equal(first[1])
    others = [
        (points, rgb, boxes, ObjectViews(size=32, fit=True)),
        (points, rgb.flip(1), boxes, SMALL),
        (points + 0.01, rgb, boxes, SMALL),
        (points, rgb, boxes[:2], SMALL),
    ]
    for number, (p, c, b, v) in enumerate(others, 2):
        object_features(encoder, p, c, b, v, cache)
        assert encoder.calls > calls and len(list(tmp_path.iterdir())) == number
        calls = encoder.calls
    object_features(Colours(size=48), points, rgb, boxes, SMALL, cache)
    assert len(list(tmp_path.iterdir())) == len(others) + 2


def test_points_get_their_own_colours_back(room: tuple[Tensor, Tensor, Tensor], tmp_path: Path) -> None:
    points, rgb, _ = room
    cameras = scene_cameras(points, 6, 96, 96)
    cache, encoder = FeatureCache(tmp_path), Colours(size=96)
    features, count = point_features(encoder, points, rgb, cameras, cache=cache)
    seen = count > 0
    assert 0.3 < seen.float().mean() and (features[~seen] == 0).all()
    assert ((features - rgb)[seen].abs().amax(1) < 0.15).float().mean() > 0.95  # edges blend two colours
    calls = encoder.calls
    assert point_features(encoder, points, rgb, cameras, cache=cache)[0].equal(features) and encoder.calls == calls
    voxels = torch.tensor([[1.5, 2.5, 0.9], [1.5, 2.5, 0.5], [9.0, 9.0, 9.0]])  # on top, inside, nowhere
    values, count = point_features(encoder, points, rgb, cameras, voxels, cache=cache)
    assert count[0] > 0 and count[1:].tolist() == [0, 0] and values[0].argmax() == 0


def test_what_cannot_be_had_is_said(room: tuple[Tensor, Tensor, Tensor]) -> None:
    points, rgb, boxes = room
    with pytest.raises(ValueError, match="no feature maps"):
        point_features(Colours(maps=False), points, rgb, scene_cameras(points, 2, 32, 32))
    with pytest.raises(ValueError, match="without boxes"):
        object_features(Colours(), points, rgb, boxes[:0])
    with pytest.raises(ValueError, match="no colour"):
        object_features(Colours(), points, None, boxes)
