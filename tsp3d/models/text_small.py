"""The small text encoder of ``tsp3d-tiny``: a few transformer layers over its own WordPiece vocabulary.

Its features are distilled from a sentence encoder (``tools/distill_text.py``), so that synonyms lie together.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from tsp3d.models.text import BUNDLED, TextConfig, TextEncoder, TextFeatures, config_from_dict, length_buckets

SENTENCE_TOKEN = "[CLS]"


class RaggedLayout:
    """Where the rows of concatenated sentences go in padded buckets of similar length, and back."""

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        self.shape: tuple[int, int] | None = None
        if lengths and min(lengths) == max(lengths):
            self.shape = (len(lengths), lengths[0])  # rectangular already: views instead of gathers
            return
        starts = [0]
        for length in lengths:
            starts.append(starts[-1] + length)
        self.buckets: list[tuple[Tensor, Tensor]] = []
        inverse, base = [0] * starts[-1], 0
        for rows in length_buckets(lengths):
            longest = max(lengths[row] for row in rows)
            # A padded place repeats the sentence's first row; the mask keeps it from being seen.
            index = [[starts[r] + (t if t < lengths[r] else 0) for t in range(longest)] for r in rows]
            mask = [[t < lengths[r] for t in range(longest)] for r in rows]
            for i, r in enumerate(rows):
                inverse[starts[r] : starts[r + 1]] = range(base + i * longest, base + i * longest + lengths[r])
            base += len(rows) * longest
            index_t = torch.tensor(index, device=device)  # (n, L)
            mask_t = torch.tensor(mask, device=device)[:, None, None, :]  # (n, 1, 1, L)
            self.buckets.append((index_t, mask_t))
        self.inverse = torch.tensor(inverse, dtype=torch.int64, device=device)  # (T,)

    def attend(self, qkv: Tensor, heads: int, dropout: float) -> Tensor:
        """Self-attention within each sentence. qkv: (T, 3C) → (T, C)."""
        channels = qkv.shape[1] // 3
        if self.shape is not None:
            return _attend(qkv.view(*self.shape, 3, heads, -1), None, dropout).reshape(-1, channels)
        outs = []
        for index, mask in self.buckets:
            rows = qkv.index_select(0, index.flatten()).view(*index.shape, 3, heads, -1)
            outs.append(_attend(rows, mask, dropout).reshape(-1, channels))
        if not outs:
            return qkv[:, :channels]
        return torch.cat(outs).index_select(0, self.inverse)


class PaddedLayout:
    """The same for sentences that are padded to one length, which torch.export can trace. mask: (Q, L) bool, True at
    tokens."""

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask

    def attend(self, qkv: Tensor, heads: int, dropout: float) -> Tensor:
        """As :meth:`RaggedLayout.attend`, over all Q * L rows."""
        rows = qkv.unflatten(0, self.mask.shape).unflatten(2, (3, heads, -1))
        return _attend(rows, self.mask[:, None, None, :], dropout).flatten(2).flatten(0, 1)


def _attend(qkv: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """qkv: (n, L, 3, heads, d) → (n, L, heads, d)."""
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (n, heads, L, d) each
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout).transpose(1, 2)


class Block(nn.Module):
    """Pre-norm transformer layer on ragged rows."""

    def __init__(self, dim: int, heads: int, ffn: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, ffn), nn.Linear(ffn, dim)

    def forward(self, x: Tensor, layout: RaggedLayout | PaddedLayout) -> Tensor:
        """x: (T, dim) → (T, dim)."""
        p = self.dropout if self.training else 0.0
        x = x + F.dropout(self.out(layout.attend(self.qkv(self.norm1(x)), self.heads, p)), p)
        return x + F.dropout(self.down(F.gelu(self.up(self.norm2(x)))), p)


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
        return TextFeatures(self.encode_rows(flat, places, RaggedLayout(lengths, self.device)), lengths)

    def encode_rows(self, ids: Tensor, places: Tensor, layout: RaggedLayout | PaddedLayout) -> Tensor:
        """Token ids (T,) and places in the sentence (T,) -> (T, dim)."""
        x = self.embed(ids) + self.position(places)  # (T, dim)
        for block in self.blocks:
            x = block(x, layout)
        return self.norm(x)

    def save(self, folder: str | os.PathLike[str], half: bool = False) -> None:
        """Write config.json, tokenizer.json and model.safetensors (as float16 if ``half``)."""
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        # Where it started from means nothing in the folder that now holds the weights.
        (path / "config.json").write_text(json.dumps({**asdict(self.config), "name": ""}, indent=2) + "\n")
        self.tokenizer.save(str(path / "tokenizer.json"), pretty=False)
        dtype = torch.float16 if half else torch.float32
        state = {key: value.detach().to("cpu", dtype).contiguous() for key, value in self.state_dict().items()}
        save_file(state, path / "model.safetensors")

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
