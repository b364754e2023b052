"""Grounding in several turned copies of a scan, whose candidates are put to one vote.

A network has learnt from rooms in every quarter turn, but does not answer alike in each: what it is not sure of, it may
find in one and miss in another. Presence is from the mean of the copies' logits, the trace is that of the copy that is
not turned. ``benchmarks/turns.py`` measures what it brings and costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tsp3d.io import UserError
from tsp3d.tiling import MergedGrounding

if TYPE_CHECKING:
    from tsp3d.grounder import Network

TURNS = {1: (0,), 2: (0, 2), 4: (0, 1, 2, 3)}
"""Quarter turns of the copies, by their number: they leave walls along the axes, and boxes exact."""


def turn(values: Tensor, quarters: int) -> Tensor:
    """Points (N, 3) or boxes (N, 6) after ``quarters`` turns of 90 degrees about the vertical through the origin, from
    x to y; exact."""
    x, y = values[:, :1], values[:, 1:2]
    x, y = ((x, y), (-y, x), (-x, -y), (y, -x))[quarters % 4]
    size = values[:, [4, 3, 5]] if values.shape[1] == 6 and quarters % 2 else values[:, 3:]
    return torch.cat([x, y, values[:, 2:3], size], 1)


class TurnedNetwork:
    """A network that looks at turned copies of a scan, with the same methods.

    Args:
        network: with ``candidates`` and ``choose`` as :class:`tsp3d.models.net.GroundingNet` has them.
        turns: how many copies, a key of ``TURNS``.
    """

    def __init__(self, network: Any, turns: int) -> None:
        self.network, self.quarters = network, TURNS[turns]

    @property
    def config(self) -> Any:
        """The network's."""
        return self.network.config

    def encode(self, xyz: Tensor, rgb: Tensor | None = None) -> list[Any]:
        """Points (N, 3) in metres, colours (N, 3) 0..1 or None -> the network's features of each copy."""
        return [self.network.encode(turn(xyz, quarters), rgb) for quarters in self.quarters]

    @torch.inference_mode()
    def ground(self, scene: list[Any], texts: list[str], top_k: int = 1, **options: Any) -> list[MergedGrounding]:
        """The best boxes of each text by the votes of all copies' candidates; options as the network's."""
        found = zip(*(self.network.candidates(encoded, texts) for encoded in scene), strict=True)
        return [self._choose(copies, top_k, **options) for copies in found]

    def masks(self, scene: list[Any], raw: MergedGrounding, which: Sequence[int]) -> list[Tensor] | None:
        """For the boxes at ``which`` of an answer the points (int64, ascending) that are the object's, as they show in
        the copy of each; None where the network has no masks."""
        predict = getattr(self.network, "masks", None)
        result = []
        for row in which:
            copy, answer, place = raw.parts[row]
            there = replace(answer, boxes=turn(answer.boxes, self.quarters[copy]))
            mask = predict(scene[copy], there, [place]) if predict is not None else None
            if mask is None:
                return None
            result += mask
        return result

    def _choose(self, copies: Sequence[Any], top_k: int, **options: Any) -> MergedGrounding:
        presences = [one.presence for one in copies]
        pooled = replace(
            copies[0],
            logits=torch.cat([one.logits for one in copies]),
            boxes=torch.cat([turn(one.boxes, -q) for q, one in zip(self.quarters, copies, strict=True)]),
            features=torch.cat([one.features for one in copies]),
            presence=None if None in presences else sum(presences) / len(presences),
        )
        answer, rows = self.network.choose(pooled, top_k, **options)
        ends = torch.tensor([len(one.logits) for one in copies], device=rows.device).cumsum(0)
        found_in = torch.searchsorted(ends, rows, right=True).tolist()
        parts = [(copy, answer, row) for row, copy in enumerate(found_in)]
        return MergedGrounding(answer.boxes, answer.scores, answer.presence, answer.trace, parts)


def turned(network: Network, turns: int) -> Any:
    """``network`` itself for one turn, or a :class:`TurnedNetwork` for 2 or 4. Raises UserError for another number, or
    a network whose candidates are not to be had."""
    if turns not in list(TURNS):  # in no dictionary: it may be a list
        raise UserError(f"turns must be 1, 2 or 4, got {turns!r}")
    if turns == 1:
        return network
    if not (hasattr(network, "candidates") and hasattr(network, "choose")):
        raise UserError(f"a {type(network).__name__} does not look at turned copies: leave turns out")
    return TurnedNetwork(network, turns)
