"""The small text encoder of ``tsp3d-tiny``: a few transformer layers over its own WordPiece vocabulary.

Its features are distilled from a sentence encoder (``tools/distill_text.py``), so that synonyms lie together.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from tsp3d.files import save_tensors
from tsp3d.models.ragged import PaddedPlan, RaggedPlan
from tsp3d.models.text import BUNDLED, TextConfig, TextEncoder, TextFeatures, config_from_dict
from tsp3d.sparse.linear import attention_layer, layers_of, linear, packed

SENTENCE_TOKEN = "[CLS]"


class Block(nn.Module):
    """Pre-norm transformer layer on ragged rows."""

    def __init__(self, dim: int, heads: int, ffn: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, nn.Dropout(dropout)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, ffn), nn.Linear(ffn, dim)

    def forward(self, x: Tensor, plan: RaggedPlan | PaddedPlan) -> Tensor:
        """x: (T, dim) → (T, dim)."""
        p = self.dropout.p if self.training else 0.0
        parts = [(layer.weight, layer.bias) for layer in (self.qkv, self.out)]
        layers = layers_of(self, x, [*parts[0], *parts[1]], lambda: parts)
        if packed(layers, self.dropout) and isinstance(plan, RaggedPlan):
            x = attention_layer(layers, x, None, plan.splits, self.heads, before=self.norm1, residual=x)
        else:
            q, k, v = linear(x, self.qkv, self.norm1).unflatten(1, (3, self.heads, -1)).unbind(1)  # (T, heads, d) each
            x = linear(plan.attend(q, k, v, dropout=p).flatten(1), self.out, dropout=self.dropout, residual=x)
        hidden = linear(x, self.up, self.norm2, "gelu")
        return linear(hidden, self.down, dropout=self.dropout, residual=x)


class SmallTextEncoder(TextEncoder):
    """Random weights of the sizes in ``config`` (dim 128, 3 layers, 4 heads, ffn 2·dim where it says 0).

    Args:
        config: sizes and training switches.
        tokenizer: defaults to the bundled one. Any script works: unknown characters become bytes.

    Raises:
        ValueError: the tokenizer lacks the sentence token, or the vocabulary size contradicts ``config``.
    """

    def __init__(self, config: TextConfig, tokenizer: Tokenizer | None = None) -> None:
        super().__init__()
        if tokenizer is None:
            tokenizer = Tokenizer.from_file(str(BUNDLED / "text-small" / "tokenizer.json"))
        self.tokenizer = tokenizer
        vocab = tokenizer.get_vocab_size()
        start = tokenizer.token_to_id(SENTENCE_TOKEN)
        if start is None:
            raise ValueError(f"the tokenizer has no {SENTENCE_TOKEN} token, which stands for the whole sentence")
        if config.vocab_size not in (0, vocab):
            raise ValueError(f"text.vocab_size is {config.vocab_size}, but the tokenizer has {vocab} entries")
        dim = config.dim or 128
        self.config = replace(
            config, kind="small", dim=dim, layers=config.layers or 3, heads=config.heads or 4,
            ffn=config.ffn or 2 * dim, vocab_size=vocab,
        )  # fmt: skip
        if dim % self.config.heads:
            raise ValueError(f"text.dim {dim} is not a multiple of text.heads {self.config.heads}")
        self.dim, self._start = dim, start
        self.embed = nn.Embedding(vocab, dim)
        self.position = nn.Embedding(config.max_tokens, dim)
        self.blocks = nn.ModuleList(
            Block(dim, self.config.heads, self.config.ffn, config.dropout) for _ in range(self.config.layers)
        )
        self.norm = nn.LayerNorm(dim)
        nn.init.normal_(self.embed.weight)  # as large as a normalised row, so that the words are not drowned
        nn.init.normal_(self.position.weight, std=0.1)
        self._freeze()

    def _ids(self, text: str) -> list[int]:
        return [self._start, *self.tokenizer.encode(text, add_special_tokens=False).ids]

    def encode_ids(self, ids: list[list[int]]) -> TextFeatures:
        lengths = [len(row) for row in ids]
        flat = torch.tensor([i for row in ids for i in row], dtype=torch.int64, device=self.device)  # (T,)
        places = torch.tensor([p for n in lengths for p in range(n)], dtype=torch.int64, device=self.device)  # (T,)
        return TextFeatures(self.encode_rows(flat, places, RaggedPlan(lengths, lengths, self.device)), lengths)

    def encode_rows(self, ids: Tensor, places: Tensor, plan: RaggedPlan | PaddedPlan) -> Tensor:
        """Token ids (T,) and places in the sentence (T,) -> (T, dim)."""
        x = self.embed(ids) + self.position(places)  # (T, dim)
        for block in self.blocks:
            x = block(x, plan)
        return self.norm(x)

    def save(self, folder: str | os.PathLike[str], half: bool = False) -> None:
        """Write config.json, tokenizer.json and model.safetensors (as float16 if ``half``)."""
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        # Where it started from means nothing in the folder that now holds the weights.
        (path / "config.json").write_text(json.dumps({**asdict(self.config), "name": ""}, indent=2) + "\n")
        self.tokenizer.save(str(path / "tokenizer.json"), pretty=False)
        dtype = torch.float16 if half else torch.float32
        save_tensors(path / "model.safetensors", {key: value.to(dtype) for key, value in self.state_dict().items()})

    @classmethod
    def load(cls, folder: str | os.PathLike[str], **changes: object) -> SmallTextEncoder:
        """Read what :meth:`save` wrote; ``changes`` replace fields of the stored config.

        Raises:
            OSError: a file is missing.
            ValueError: the files do not belong together.
        """
        path = Path(folder)
        for name in ("config.json", "tokenizer.json", "model.safetensors"):
            if not (path / name).is_file():
                raise FileNotFoundError(
                    f"no text encoder in {path}: {name} is missing; give a folder that tools/distill_text.py or "
                    "SmallTextEncoder.save wrote, 'text-small' for the bundled one, or '' for random weights"
                )
        config = config_from_dict({**json.loads((path / "config.json").read_text()), **changes})
        encoder = cls(config, Tokenizer.from_file(str(path / "tokenizer.json")))
        try:
            encoder.load_state_dict(load_file(path / "model.safetensors"))  # copies into float32
        except RuntimeError as error:
            raise ValueError(f"{path}/model.safetensors does not fit config.json beside it: {error}") from error
        return encoder
