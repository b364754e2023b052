"""Text encoders behind one interface: sentences in, ragged token features out.

Two kinds: any Hugging Face encoder (RoBERTa-base for ``tsp3d-base``) and a small one of our own
(:mod:`tsp3d.models.text_small`) that ships with the package and needs no network.
"""

from __future__ import annotations

import json
import logging
import os
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

BUNDLED = Path(__file__).resolve().parent.parent / "weights"
"""Folder of the encoders that ship with the package; ``TextConfig(name="text-small")`` names one of them."""

_HF_SETTINGS = "text_encoder.json"  # ours, beside Hugging Face's own config.json


@dataclass
class TextConfig:
    """Which text encoder to build. Sizes left at 0 mean "as the named encoder has it"."""

    kind: str = "small"
    """``"small"`` (our own) or ``"huggingface"``."""
    name: str = "text-small"
    """small: a bundled encoder or a folder to start from, ``""`` for random weights of the sizes below.
    huggingface: a local folder or a hub id, e.g. ``"roberta-base"``."""
    frozen: bool = False
    """No gradients, and evaluation mode also in training."""
    keep_dropout: bool = False
    """compat: a frozen encoder's dropout stays on in training, as in the public release."""
    dim: int = 0
    layers: int = 0
    heads: int = 0
    ffn: int = 0
    """Width of the feed-forward layers (small only)."""
    dropout: float = 0.1
    """Dropout of the small encoder in training."""
    vocab_size: int = 0
    max_tokens: int = 128
    """Longer sentences are cut to this many tokens, the sentence token included, with one warning. A small encoder
    that is loaded by name keeps the limit that it was trained with."""


@dataclass(frozen=True)
class TextFeatures:
    """Token features of Q sentences, concatenated without padding; token 0 of each is its sentence token."""

    tokens: Tensor
    """(T_total, dim)."""
    lengths: list[int]
    """Q token counts, all at least 2; they sum to T_total."""

    @property
    def offsets(self) -> list[int]:
        """Row of each sentence's token 0 in ``tokens``: Q entries."""
        starts, row = [], 0
        for length in self.lengths:
            starts.append(row)
            row += length
        return starts

    @property
    def sentence(self) -> Tensor:
        """The sentence tokens: (Q, dim)."""
        return self.tokens[torch.tensor(self.offsets, dtype=torch.int64, device=self.tokens.device)]

    def split(self) -> list[Tensor]:
        """Q tensors of (lengths[q], dim)."""
        return list(self.tokens.split(self.lengths))


class TextEncoder(nn.Module):
    """What every text encoder offers: ``dim``, ``config``, ``forward(texts)``, ``save(folder)``."""

    dim: int
    config: TextConfig

    def __init__(self) -> None:
        super().__init__()
        self._warned_truncation = False

    def forward(self, texts: Sequence[str], device: torch.device | str | None = None) -> TextFeatures:
        """Encode Q sentences.

        Args:
            texts: Q sentences, none of them empty.
            device: where the features go; by default the device of the encoder's own weights.

        Raises:
            ValueError: a sentence is empty.
            TypeError: ``texts`` is one string, or holds something else than strings.
        """
        ids = [self._clip(row) for row in self.tokenize(texts)]
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.frozen):
            features = self.encode_ids(ids)
        if device is not None:
            features = TextFeatures(features.tokens.to(device), features.lengths)
        return features

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each sentence, sentence token first, not yet cut to ``max_tokens``."""
        if isinstance(texts, str):
            raise TypeError(f"texts is one string ({texts!r}); pass a list of sentences: [{texts!r}]")
        rows = []
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise TypeError(f"texts[{i}] is a {type(text).__name__}, not a string")
            row = self._ids(text) if text.strip() else []
            if len(row) < 2:  # nothing but the sentence token
                raise ValueError(
                    f"texts[{i}] is empty ({text!r}); pass a description such as 'the chair next to the desk'"
                )
            rows.append(row)
        return rows

    @abstractmethod
    def _ids(self, text: str) -> list[int]:
        """Token ids of one sentence, sentence token first; only that one if nothing of the text is left."""

    @abstractmethod
    def encode_ids(self, ids: list[list[int]]) -> TextFeatures:
        """Features of tokenised sentences."""

    @abstractmethod
    def save(self, folder: str | os.PathLike[str], half: bool = False) -> None:
        """Write everything that :func:`load_text_encoder` needs into ``folder``, created if missing.

        ``half`` stores the weights as float16; they are float32 again when loaded.
        """

    @property
    def max_tokens(self) -> int:
        return self.config.max_tokens

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def _clip(self, row: list[int]) -> list[int]:
        if len(row) <= self.max_tokens:
            return row
        if not self._warned_truncation:
            self._warned_truncation = True
            log.warning(
                "a sentence has %d tokens, of which the first %d are read; shorten it (further cuts are not reported)",
                len(row), self.max_tokens,
            )  # fmt: skip
        return row[: self.max_tokens]

    def _freeze(self) -> None:
        if self.config.frozen:
            self.requires_grad_(False)
            self.train(self.training)

    def train(self, mode: bool = True) -> TextEncoder:
        """As ``nn.Module.train``, except that a frozen encoder stays in evaluation mode (see ``keep_dropout``)."""
        return super().train(mode and (not self.config.frozen or self.config.keep_dropout))


def length_buckets(lengths: Sequence[int], step: int = 8) -> list[list[int]]:
    """Group rows whose lengths round up to the same multiple of ``step``: padding costs at most ``step - 1`` tokens."""
    buckets: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        buckets.setdefault(-(-length // step), []).append(row)
    return [buckets[key] for key in sorted(buckets)]


class HuggingFaceTextEncoder(TextEncoder):
    """Any encoder that ``transformers.AutoModel`` loads and whose token 0 stands for the sentence (BERT, RoBERTa…).

    Args:
        name: local folder or hub id. A folder is read without any network access.
        frozen: no gradients, and evaluation mode even in training.
        keep_dropout: with ``frozen``, leave dropout on in training as the public release does.
        max_tokens: sentences are cut to this many tokens, or to the model's own limit where that is less.

    Raises:
        ImportError: transformers is not installed.
        OSError: the model cannot be found or read.
    """

    def __init__(
        self, name: str | os.PathLike[str], frozen: bool = True, keep_dropout: bool = False, max_tokens: int = 128
    ) -> None:
        super().__init__()
        self.tokenizer, self.model = _load_transformers(os.fspath(name))
        hf = self.model.config
        self.dim = int(hf.hidden_size)
        # RoBERTa's positions start at 2, so two fewer tokens than positions fit; for the others it costs nothing.
        limit = int(getattr(hf, "max_position_embeddings", 0) or 10**9) - 2
        limit = min(max_tokens, limit, int(self.tokenizer.model_max_length))
        self.config = TextConfig(
            kind="huggingface", name=os.fspath(name), frozen=frozen, keep_dropout=keep_dropout, dim=self.dim,
            layers=int(getattr(hf, "num_hidden_layers", 0)), heads=int(getattr(hf, "num_attention_heads", 0)),
            vocab_size=int(getattr(hf, "vocab_size", 0)), max_tokens=limit,
        )  # fmt: skip
        self._freeze()

    def _ids(self, text: str) -> list[int]:
        encoded = self.tokenizer(text, return_special_tokens_mask=True, verbose=False)
        ids = list(encoded["input_ids"])
        return ids if 0 in encoded["special_tokens_mask"] else ids[:1]

    def _clip(self, row: list[int]) -> list[int]:
        cut = super()._clip(row)
        return cut if len(cut) == len(row) else [*cut[:-1], row[-1]]  # keep the closing </s> or [SEP]

    def encode_ids(self, ids: list[list[int]]) -> TextFeatures:
        lengths = [len(row) for row in ids]
        pad = self.tokenizer.pad_token_id or 0
        parts: list[Tensor] = [torch.empty(0)] * len(ids)
        for rows in length_buckets(lengths):
            longest = max(lengths[row] for row in rows)
            padded = [ids[row] + [pad] * (longest - lengths[row]) for row in rows]
            mask = [[1] * lengths[row] + [0] * (longest - lengths[row]) for row in rows]
            hidden = self.model(
                input_ids=torch.tensor(padded, device=self.device),  # (n, L)
                attention_mask=torch.tensor(mask, device=self.device),  # (n, L)
            ).last_hidden_state  # (n, L, dim)
            for i, row in enumerate(rows):
                parts[row] = hidden[i, : lengths[row]]
        tokens = torch.cat(parts) if parts else torch.zeros(0, self.dim, device=self.device)
        return TextFeatures(tokens, lengths)

    def save(self, folder: str | os.PathLike[str], half: bool = False) -> None:
        state = {k: v.half() if half and v.is_floating_point() else v for k, v in self.model.state_dict().items()}
        self.model.save_pretrained(folder, state_dict=state)
        self.tokenizer.save_pretrained(folder)
        Path(folder, _HF_SETTINGS).write_text(json.dumps(asdict(self.config), indent=2) + "\n")


def _load_transformers(name: str) -> tuple[Any, Any]:
    try:
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        raise ImportError("a Hugging Face text encoder needs transformers: pip install transformers") from error
    local = Path(name).is_dir()
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=local)
        model = AutoModel.from_pretrained(name, local_files_only=local).float()  # some are stored in half precision
    except (OSError, ValueError) as error:
        raise OSError(
            f"the text encoder {name!r} cannot be loaded: {error}\n"
            "Give a folder with config.json, tokenizer files and model.safetensors, or a hub id with network access."
        ) from error
    return tokenizer, model


def build_text_encoder(config: TextConfig) -> TextEncoder:
    """The encoder that ``config`` describes.

    Raises:
        ValueError: unknown kind, or sizes that contradict the named encoder's.
        OSError: the named encoder cannot be read.
    """
    if config.kind == "huggingface":
        if not config.name:
            raise ValueError("text.name is empty: name a folder or a hub id, e.g. 'roberta-base'")
        encoder: TextEncoder = HuggingFaceTextEncoder(
            config.name, config.frozen, config.keep_dropout, config.max_tokens
        )
    elif config.kind == "small":
        from tsp3d.models.text_small import SmallTextEncoder  # it imports this module's interface

        if config.name:
            folder = BUNDLED / config.name if (BUNDLED / config.name).is_dir() else Path(config.name)
            encoder = SmallTextEncoder.load(
                folder, frozen=config.frozen, keep_dropout=config.keep_dropout, dropout=config.dropout
            )
        else:
            encoder = SmallTextEncoder(config)
    else:
        raise ValueError(f"text.kind is {config.kind!r}; it must be 'small' or 'huggingface'")
    for key in ("dim", "layers", "heads", "ffn", "vocab_size"):
        wanted, found = getattr(config, key), getattr(encoder.config, key)
        if wanted and found and wanted != found:
            raise ValueError(
                f"text.{key} is {wanted}, but the encoder {config.name!r} has {found}; "
                f"leave text.{key} at 0, or name another encoder"
            )
    return encoder


def load_text_encoder(folder: str | os.PathLike[str]) -> TextEncoder:
    """Read what :meth:`TextEncoder.save` wrote, or any Hugging Face model folder (then frozen).

    Raises:
        OSError: there is no text encoder in ``folder``.
    """
    path = Path(folder)
    if not (path / "config.json").is_file():
        raise FileNotFoundError(f"no text encoder in {path}: config.json is missing")
    if json.loads((path / "config.json").read_text()).get("kind") == "small":
        from tsp3d.models.text_small import SmallTextEncoder

        return SmallTextEncoder.load(path)
    settings: dict[str, Any] = {}
    if (path / _HF_SETTINGS).is_file():
        settings = json.loads((path / _HF_SETTINGS).read_text())
    return HuggingFaceTextEncoder(
        path,
        frozen=settings.get("frozen", True),
        keep_dropout=settings.get("keep_dropout", False),
        max_tokens=settings.get("max_tokens", 128),
    )


def config_from_dict(values: dict[str, Any]) -> TextConfig:
    """A :class:`TextConfig` from stored JSON; unknown keys are an error that names them."""
    known = {f.name for f in fields(TextConfig)}
    if unknown := sorted(set(values) - known):
        raise ValueError(f"unknown text encoder setting(s) {unknown}; known are {sorted(known)}")
    return TextConfig(**values)
