"""Scans larger than a room: cut into overlapping tiles that are encoded and grounded one by one, and merged.

A network attends to all coarse voxels of a scan at once, and has learnt from rooms. A tile is as large as a large room;
time and memory grow with the number of tiles, not with its square.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tsp3d import sparse

if TYPE_CHECKING:
    from tsp3d.grounder import Network

TILE_M = 12.0
"""Side of a tile in metres. Scans that are no wider than one and a half of it stay whole."""
OVERLAP_M = 3.0
"""What neighbouring tiles share: an object smaller than this is whole in one of them."""
BORDER_M = 0.25
"""How far past the middle of the overlap a tile's boxes count, since two tiles need not agree on a centre."""
MIN_POINTS = 50
"""A tile with fewer has nothing to find."""
SAMPLE, STRAY = 20_000, 0.002
"""Points by which a scan's width is judged, and the share of them that may lie far out on either side."""
CANDIDATES = 5
"""Boxes that each tile proposes at least."""
NMS_IOU = 0.25


@dataclass(frozen=True)
class Tile:
    """A part of a scan."""

    rows: Tensor
    """(n,) int64 points of the scan."""
    low: tuple[float, float]
    high: tuple[float, float]
    """The part of the floor plan (m) that is this tile's alone: the centres of its boxes lie here."""
    center: tuple[float, float]
    """Middle of the tile in metres, which the network sees at the origin."""


@dataclass
class TiledScene:
    tiles: list[Tile]
    encoded: list[Any]
    """The network's features of each tile."""


@dataclass
class MergedGrounding:
    """Boxes of one sentence from several parts or copies of a scan, best first."""

    boxes: Tensor
    """(k, 6) metres, in the frame of the scan."""
    scores: Tensor
    """(k,); those of a tile count less, the less sure it is beside the surest one that anything fits."""
    presence: float | None = None
    """Probability that anything fits, where the network says: that of the surest tile."""
    trace: Mapping[str, Tensor] = field(default_factory=dict)
    parts: list[tuple[int, Any, int]] = field(default_factory=list)
    """For each box the tile or copy that it is from, the answer that has it, and its row there."""


def cut(xyz: Tensor, side: float = TILE_M, overlap: float = OVERLAP_M) -> list[Tile]:
    """Tiles of at most ``side`` m by ``side`` m that overlap by ``overlap`` or more; one for a scan that stays whole.

    xyz: (N, 3) metres. A few stray points do not make a scan wide. Raises ValueError unless 0 <= 2 * overlap <= side.
    """
    if not 0 <= 2 * overlap <= side or side == 0:
        raise ValueError(f"the overlap of tiles must be from 0 to half their side, got {overlap} and {side}")
    whole = [Tile(torch.arange(len(xyz), device=xyz.device), (-math.inf, -math.inf), (math.inf, math.inf), (0.0, 0.0))]
    if not len(xyz):
        return whole
    low, high = (end.double() for end in xyz[:, :2].aminmax(dim=0))
    if float((high - low).max()) <= 1.5 * side:
        return whole
    ends = xyz[:: max(1, len(xyz) // SAMPLE), :2].double().quantile(xyz.new_tensor([STRAY, 1 - STRAY]).double(), dim=0)
    if float((ends[1] - ends[0]).max()) <= 1.5 * side:
        return whole
    count = (((high - low - overlap) / (side - overlap)).ceil()).clamp(min=1)  # (2,) tiles along each axis
    size = (high - low + (count - 1) * overlap) / count  # equal tiles, none larger than the side
    step = size - overlap
    # (N, 2) the last tile that has begun; what is no wider than the overlap has a step of nothing, and one tile.
    last = ((xyz[:, :2] - low) / step.clamp(min=1e-9)).floor().minimum(count - 1)
    sharing = range(1 + int((size / step)[count > 1].max()))  # how many tiles back may reach a point too
    numbers, rows = [], []
    for back in product(sharing, repeat=2):
        tile = last - last.new_tensor(back)
        # The last tile has no end but that of the scan, which is not to be missed by a rounding.
        before_end = (tile == count - 1) | (xyz[:, :2] - low <= tile * step + size)
        inside = ((tile >= 0) & before_end).all(1).nonzero().squeeze(1)
        numbers.append((tile[inside, 0] * count[1] + tile[inside, 1]).long())
        rows.append(inside)
    number, order = torch.cat(numbers).sort(stable=True)
    found, points = number.unique_consecutive(return_counts=True)
    tiles = []
    for which, own in zip(found.tolist(), torch.cat(rows)[order].split(points.tolist()), strict=True):
        if len(own) >= MIN_POINTS:
            place = (which // int(count[1]), which % int(count[1]))
            tiles.append(_tile(own.sort().values, place, low.tolist(), step.tolist(), count.tolist(), overlap))
    return tiles or whole


def _tile(
    rows: Tensor, place: tuple[int, int], low: list[float], step: list[float], count: list[float], overlap: float
) -> Tile:
    own_low, own_high, center = [], [], []
    for i, origin, stride, number in zip(place, low, step, count, strict=True):
        start, end = origin + i * stride, origin + (i + 1) * stride + overlap
        own_low.append(-math.inf if i == 0 else start + overlap / 2)
        own_high.append(math.inf if i == number - 1 else end - overlap / 2)
        center.append((start + end) / 2)
    return Tile(rows, tuple(own_low), tuple(own_high), tuple(center))


class TiledNetwork:
    """A network for scans of any size, with the same methods."""

    def __init__(self, network: Network, side: float = TILE_M, overlap: float = OVERLAP_M) -> None:
        self.network, self.side, self.overlap = network, side, overlap

    def encode(self, xyz: Tensor, rgb: Tensor | None) -> Any:
        """Points (N, 3) in metres, colours (N, 3) 0..1 or None -> features: the network's own of a scan that stays
        whole."""
        tiles = cut(xyz, self.side, self.overlap)
        if len(tiles) == 1 and len(tiles[0].rows) == len(xyz):
            return self.network.encode(xyz, rgb)
        encoded = []
        for tile in tiles:
            near = xyz[tile.rows] - xyz.new_tensor([*tile.center, 0.0])
            encoded.append(self.network.encode(near, None if rgb is None else rgb[tile.rows]))
        return TiledScene(tiles, encoded)

    def ground(self, scene: Any, texts: list[str], top_k: int = 1, **options: Any) -> Sequence[Any]:
        """The best boxes of each text over all tiles, without those that overlap a better one. With ``several`` those
        that the network's calibration takes for meant beside the best one of all."""
        if not isinstance(scene, TiledScene):
            return self.network.ground(scene, texts, top_k=top_k, **options)
        count = max(top_k, CANDIDATES)
        answers = [self.network.ground(encoded, texts, top_k=count, **options) for encoded in scene.encoded]
        share = self._share if options.get("several") else 0.0
        return [self._merge(scene.tiles, [answer[q] for answer in answers], top_k, share) for q in range(len(texts))]

    @property
    def _share(self) -> float:
        """Of the best box's score what each of several objects must have, as the network's calibration says."""
        calibration = getattr(getattr(self.network, "config", None), "calibration", None)
        return getattr(calibration, "several_share", 0.0)

    def masks(self, scene: Any, raw: Any, which: Sequence[int]) -> list[Tensor] | None:
        """For the boxes at ``which`` of an answer the points of the scan (int64, ascending) that are the object's; None
        where the network has no masks."""
        predict = getattr(self.network, "masks", None)
        if predict is None:
            return None
        if not isinstance(scene, TiledScene):
            return predict(scene, raw, which)
        result = []
        for row in which:
            tile, answer, place = raw.parts[row]
            found = predict(scene.encoded[tile], answer, [place])
            if found is None:
                return None
            result.append(scene.tiles[tile].rows[found[0]])
        return result

    def _merge(self, tiles: list[Tile], answers: list[Any], top_k: int, share: float) -> MergedGrounding:
        boxes, scores, parts, trace, presences = [], [], [], {}, []
        for number, (tile, answer) in enumerate(zip(tiles, answers, strict=True)):
            shift = answer.boxes.new_tensor([*tile.center, 0.0])
            placed = torch.cat([answer.boxes[:, :3] + shift, answer.boxes[:, 3:]], 1)
            low, high = (placed.new_tensor(ends) for ends in (tile.low, tile.high))
            own = ((placed[:, :2] >= low - BORDER_M) & (placed[:, :2] <= high + BORDER_M)).all(1).nonzero().squeeze(1)
            boxes.append(placed[own])
            scores.append(answer.scores[own])
            presences.append(getattr(answer, "presence", None))
            parts += [(number, answer, row) for row in own.tolist()]
            for stage, xyz in answer.trace.items():
                trace.setdefault(stage, []).append(xyz + shift)
        surest = None if None in presences else max(presences)
        if surest:
            # A score compares the boxes of a tile; how likely that is the tile with the object, its presence says.
            scores = [score * (presence / surest) for score, presence in zip(scores, presences, strict=True)]
        all_boxes, all_scores = torch.cat(boxes), torch.cat(scores)
        kept = sparse.nms_3d(all_boxes, all_scores, NMS_IOU)[:top_k]
        kept = kept[all_scores[kept] >= share * all_scores.max()] if len(kept) else kept
        return MergedGrounding(
            all_boxes[kept], all_scores[kept], surest, {stage: torch.cat(xyz) for stage, xyz in trace.items()},
            [parts[row] for row in kept.tolist()],
        )  # fmt: skip
