"""The fine step of WS-3DVG (Wang et al., ICCV 2023): a sentence is rebuilt best from the object that it means."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsp3d.data.annotated import plain_words
from tsp3d.data.parse import parse
from tsp3d.synth.types import COLORS
from tsp3d.synth.vocabulary import COLOR_WORDS, MATERIAL_WORDS, NOUNS, SIZE_WORDS

MAX_WORDS = 64  # of a sentence, the rest is cut off
MASKED = 0.3
KEYWORD_SHARE = 0.7
SMOOTHING = 0.1
UNKNOWN, START = 0, 1
ADJECTIVES = frozenset(
    part
    for words in (COLORS, *COLOR_WORDS.values(), *MATERIAL_WORDS.values(), *SIZE_WORDS.values())
    for word in words
    for part in word.split()
)


def keyword_mask(text: str) -> list[bool]:
    """Which words of ``plain_words(text)`` tell one object from another: adjectives, and what the object is related to.

    Adjectives of all sentences count, not of the first alone: "it is a bag. it is brown."
    """
    words = plain_words(text)
    marked = [word in ADJECTIVES for word in words]
    for noun in parse(text).auxiliary:
        for form in {noun, NOUNS[noun].plural if noun in NOUNS else noun}:
            parts = form.split()
            for start in range(len(words) - len(parts) + 1):
                if words[start : start + len(parts)] == parts:
                    marked[start : start + len(parts)] = [True] * len(parts)
    return marked


class Reconstructor(nn.Module):
    """A causal decoder that rebuilds a masked sentence from one candidate's feature.

    Args:
        dim: D of the candidates and of the decoder. words: how many words, the most frequent, it can tell apart.
    """

    vocabulary: Tensor

    def __init__(self, dim: int, heads: int, layers: int, feedforward: int, words: int) -> None:
        super().__init__()
        # A word is known by the checksum of its letters, so that checkpoints hold the vocabulary as a tensor.
        self.register_buffer("vocabulary", torch.full((words,), -1, dtype=torch.int64))
        self.embed, self.position = nn.Embedding(words + 2, dim), nn.Embedding(MAX_WORDS, dim)
        self.hidden = nn.Parameter(torch.zeros(dim))
        # Without dropout, whose noise would rank candidates.
        layer = nn.TransformerDecoderLayer(dim, heads, feedforward, dropout=0.0, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, layers)
        self.out = nn.Linear(dim, words + 2)
        for table in (self.embed, self.position):
            nn.init.normal_(table.weight, std=dim**-0.5)

    def learn_words(self, texts: Iterable[str]) -> None:
        """Fill the vocabulary with the most frequent words; the others are all one to it."""
        counts = Counter(word for text in texts for word in plain_words(text))
        ranked = sorted(counts, key=lambda word: (-counts[word], word))[: len(self.vocabulary)]
        self.vocabulary.fill_(-1)
        self.vocabulary[: len(ranked)] = torch.tensor([_checksum(word) for word in ranked], dtype=torch.int64)

    def read(self, texts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Word ids (Q, L) int64, which of them are keywords and which are words at all, (Q, L) bool."""
        known = {checksum: index + 2 for index, checksum in enumerate(self.vocabulary.tolist())}
        rows = [[known.get(_checksum(word), UNKNOWN) for word in plain_words(text)[:MAX_WORDS]] for text in texts]
        marks = [keyword_mask(text)[:MAX_WORDS] for text in texts]
        longest = max(map(len, rows), default=0)
        device = self.vocabulary.device
        ids = torch.tensor([row + [UNKNOWN] * (longest - len(row)) for row in rows], device=device)
        keywords = torch.tensor([mark + [False] * (longest - len(mark)) for mark in marks], device=device)
        real = torch.arange(longest, device=device) < torch.tensor([[len(row)] for row in rows], device=device)
        return ids, keywords, real

    def forward(self, candidates: Tensor, texts: Sequence[str]) -> Tensor:
        """How badly each sentence is rebuilt from each of its candidates: (Q, K, D) -> (Q, K), lower is better.

        Keywords are zeros to the decoder and 30 % of the other words a learned mask, the same for all candidates.
        """
        ids, keywords, real = self.read(texts)
        (queries, count, dim), length = candidates.shape, ids.shape[1]
        hide = torch.rand(ids.shape, device=ids.device) < MASKED
        told = torch.where(hide[..., None], self.hidden, self.embed(ids)).masked_fill(keywords[..., None], 0.0)
        start = self.embed(ids.new_full((queries, 1), START))
        told = torch.cat([start, told[:, :-1]], 1) + self.position.weight[:length]  # (Q, L, D), each word sees the past
        told = told.repeat_interleave(count, 0)
        # Padding comes last, where no word sees it.
        causal = nn.Transformer.generate_square_subsequent_mask(length, device=ids.device)
        found = self.decoder(told, candidates.reshape(queries * count, 1, dim), tgt_mask=causal, tgt_is_causal=True)
        logits = self.out(found).view(queries, count, length, -1)
        wanted = ids[:, None].expand(-1, count, -1)
        nll = F.cross_entropy(logits.flatten(0, 2), wanted.flatten(), reduction="none", label_smoothing=SMOOTHING)
        return sentence_score(nll.view(queries, count, length), keywords, real)


def sentence_score(nll: Tensor, keywords: Tensor, real: Tensor) -> Tensor:
    """0.7 of the mean over the keywords and 0.3 of that over the other words, 0 for a kind that a sentence lacks.

    nll (Q, K, L), keywords and real (Q, L) bool -> (Q, K).
    """
    means = []
    for chosen in (keywords & real, real & ~keywords):
        weight = chosen[:, None].to(nll.dtype)
        means.append((nll * weight).sum(2) / weight.sum(2).clamp(min=1))
    return KEYWORD_SHARE * means[0] + (1 - KEYWORD_SHARE) * means[1]


def _checksum(word: str) -> int:
    return zlib.crc32(word.encode())
