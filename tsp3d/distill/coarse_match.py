"""The coarse step of WS-3DVG (Wang et al., ICCV 2023): which of a scene's proposals a sentence may mean."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsp3d.data.parse import names, parse

OUT = float("-inf")


class CoarseMatcher(nn.Module):
    """Puts sentences and proposals into one space, and reads the class that a sentence asks for.

    Args:
        text_dim: C of the sentence tokens. feature_dim: F of the proposals. classes: K.
        dim: D of the common space. heads, feedforward: of the attention among a scene's proposals.
    """

    def __init__(self, text_dim: int, feature_dim: int, classes: int, dim: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.sentence = nn.Linear(text_dim, dim)
        self.proposal = nn.Sequential(nn.LayerNorm(feature_dim), nn.Linear(feature_dim, dim))
        # Relations are between objects: a proposal's feature has to know of the others, as GroupFree's do.
        self.among = nn.TransformerEncoderLayer(dim, heads, feedforward, dropout=0.0, batch_first=True)
        self.classify = nn.Linear(text_dim, classes)
        self.scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def embed(self, features: Tensor, mask: Tensor) -> Tensor:
        """features (B, N, F), mask (B, N) bool -> (B, N, D)."""
        return self.among(self.proposal(features), src_key_padding_mask=~mask)

    def similarity(self, sentence: Tensor, embedded: Tensor) -> Tensor:
        """Scaled cosine of sentence tokens (Q, C) and the proposals of all scenes (B, N, D) -> (Q, B, N)."""
        asked, seen = F.normalize(self.sentence(sentence), dim=1), F.normalize(embedded, dim=2)
        return torch.einsum("qd,bnd->qbn", asked, seen) * self.scale.exp().clamp(max=50)


def coarse_scores(similarity: Tensor, sentence_class: Tensor, proposal_class: Tensor, mask: Tensor) -> Tensor:
    """0.5 softmax(similarity) + softmax over proposals of the logit of the sentence's class + cosine of class logits.

    Args:
        similarity: (Q, N) of each sentence and the proposals of its scene.
        sentence_class: (Q, K) class logits; the sentence's class is the greatest.
        proposal_class: (Q, N, K) class logits.
        mask: (Q, N) bool, what counts as an object.

    Returns:
        (Q, N), minus infinity where the mask is False.
    """
    meant = sentence_class.argmax(1)[:, None, None].expand(-1, proposal_class.shape[1], 1)
    of_class = proposal_class.gather(2, meant).squeeze(2)  # (Q, N)
    alike = F.cosine_similarity(sentence_class[:, None], proposal_class, dim=2)
    shares = [values.masked_fill(~mask, OUT).softmax(1) for values in (similarity, of_class)]
    return (0.5 * shares[0] + shares[1] + alike).masked_fill(~mask, OUT)


def mil_nce(similarity: Tensor, scene: Tensor, mask: Tensor) -> Tensor:
    """MIL-NCE (Miech et al., CVPR 2020): the share that a sentence's own scene has in the sum of
    exp(similarity) over the proposals of all scenes, minus its log, mean over sentences.

    Args:
        similarity: (Q, B, N). scene: (Q,) int64. mask: (B, N) bool, at least one True in each row.
    """
    of_scene = similarity.masked_fill(~mask, OUT).logsumexp(2)  # (Q, B)
    return F.cross_entropy(of_scene, scene)


def sentence_classes(texts: Sequence[str], classes: Sequence[str]) -> Tensor:
    """Which classes the noun that a sentence is about may name (Q, K) bool; none for a noun that we do not know."""
    rows = []
    for text in texts:
        noun = parse(text).main
        rows.append([bool(noun) and names(noun, name) for name in classes])
    return torch.tensor(rows, dtype=torch.bool).reshape(len(texts), len(classes))


def class_loss(logits: Tensor, allowed: Tensor) -> Tensor:
    """Cross-entropy of class logits (Q, K) where several classes may be meant, ``allowed`` (Q, K) bool: minus the log
    of their share, mean over the sentences that allow one."""
    known = allowed.any(1)
    if not bool(known.any()):
        return logits.sum() * 0.0
    share = logits.masked_fill(~allowed, OUT)[known].logsumexp(1) - logits[known].logsumexp(1)
    return -share.mean()
