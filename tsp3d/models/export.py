"""The text and head work of a network as modules of tensors only, for ``torch.export``, in any size.

What lies between them, pruning and the sparse convolutions, depends on the data and stays with the engine; a stage of
the backbone compiles in one graph (tests/sparse/test_compile.py). A tokenizer is no tensor work either: feed its ids.

>>> exported = export(TextWork(net))
>>> tokens = exported.module()(ids, mask)  # (Q, L, C)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from tsp3d.sparse import CoordinateSet, SparseTensor

from .head import GroundingHead
from .net import GroundingNet
from .ragged import PaddedPlan
from .spatial import Place
from .text import HuggingFaceTextEncoder
from .text_small import SmallTextEncoder


class Exportable(nn.Module):
    """A module of tensors, with inputs to trace it by and the sizes that may change."""

    def example(self) -> tuple[Tensor, ...]:
        """Inputs of a usual size."""
        raise NotImplementedError

    def sizes(self) -> tuple[dict[int, Dim], ...]:
        """For each input the dimensions that may change."""
        raise NotImplementedError


def export(work: Exportable) -> ExportedProgram:
    """The program of a part, in evaluation mode, for all sizes of its inputs."""
    work = work.eval()
    with torch.no_grad():
        return torch.export.export(work, work.example(), dynamic_shapes=work.sizes(), strict=False)


class TextWork(Exportable):
    """Token ids (Q, L) int64 and mask (Q, L) bool, True at tokens -> token features (Q, L, C); rows past a sentence's
    end mean nothing."""

    def __init__(self, net: GroundingNet) -> None:
        super().__init__()
        self.encoder, self.projector = net.text_encoder, net.text_projector

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        encoder = self.encoder
        if isinstance(encoder, SmallTextEncoder):
            places = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
            rows = encoder.encode_rows(ids.flatten(), places.flatten(), PaddedPlan(mask))  # (Q * L, dim)
            hidden = rows.unflatten(0, ids.shape)
        else:
            assert isinstance(encoder, HuggingFaceTextEncoder)
            hidden = encoder.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return self.projector(hidden)

    def example(self) -> tuple[Tensor, ...]:
        mask = torch.ones(3, 12, dtype=torch.bool, device=self.encoder.device)
        return torch.ones_like(mask, dtype=torch.int64), mask

    def sizes(self) -> tuple[dict[int, Dim], ...]:
        both = {0: Dim("sentences", min=1, max=1024), 1: Dim("tokens", min=2, max=self.encoder.max_tokens)}
        return both, both


class AttentionWork(Exportable):
    """A text-voxel attention stack of the head for one sentence: voxels (N, C), their positions (N, 3) in metres and
    tokens (T, C) -> both updated.

    level: 1 or 2, or 0 for the stack of the completion.
    """

    def __init__(self, head: GroundingHead, level: int) -> None:
        super().__init__()
        self.stack = head.keep_trans[level - 1] if level else head.com_trans
        self.pos_embed = head.pos_embed
        self.dim = head.config.fusion.dim

    def forward(self, voxels: Tensor, xyz: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        place = Place(xyz, self.pos_embed(xyz))
        return self.stack(voxels, place, [voxels.shape[0]], text, [text.shape[0]])

    def example(self) -> tuple[Tensor, ...]:
        like = next(self.parameters())
        return tuple(like.new_ones(shape) for shape in ((40, self.dim), (40, 3), (9, self.dim)))

    def sizes(self) -> tuple[dict[int, Dim], ...]:
        voxels = {0: Dim("voxels", min=2, max=2**20)}
        return voxels, voxels, {0: Dim("tokens", min=2, max=1024)}


class BoxWork(Exportable):
    """The head's last step, as :meth:`GroundingHead.boxes`: voxel features (N, C), coordinates (N, 4) int32 at level 0,
    the backbone's features (N, C), sentences (Q, 2C) and that of each voxel (N,) int64 -> boxes (N, 6) in metres and
    score logits (N,)."""

    def __init__(self, net: GroundingNet) -> None:
        super().__init__()
        self.head, self.stride = net.head, 4 * net.vision_backbone.stride

    def forward(
        self, feats: Tensor, coords: Tensor, backbone: Tensor, said: Tensor, query: Tensor
    ) -> tuple[Tensor, Tensor]:
        x = SparseTensor.over(feats, CoordinateSet(coords, self.stride))
        return self.head.boxes(x, backbone, said, query)[1:3]

    def example(self) -> tuple[Tensor, ...]:
        like, dim = next(self.parameters()), self.head.config.fusion.dim
        coords, query = like.new_ones(40, 4, dtype=torch.int32), like.new_zeros(40, dtype=torch.int64)
        return like.new_ones(40, dim), coords, like.new_ones(40, dim), like.new_ones(3, 2 * dim), query

    def sizes(self) -> tuple[dict[int, Dim], ...]:
        voxels = {0: Dim("voxels", min=2, max=2**20)}
        return voxels, voxels, voxels, {0: Dim("sentences", min=1, max=1024)}, voxels
