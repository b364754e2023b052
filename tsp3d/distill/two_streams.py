"""Both streams of LAR at test: the boxes that a network finds for a sentence, ranked anew by what they look like.

Training with "lar" teaches a network by a 2D stream that is dropped at inference; the paper keeps it (Bakr et al.,
"Look Around and Refer", NeurIPS 2022). There both rank the true objects of a scene. Here the network finds the boxes,
and the 2D stream looks at its best few.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tsp3d.distill.view_stream import ViewStream, load_stream
from tsp3d.io import UserError
from tsp3d.models.config import ModelConfig
from tsp3d.models.net import EncodedScene, GroundingNet, RawGrounding
from tsp3d.pretrained import find_weights, load_network
from tsp3d.turning import turned
from tsp3d.views.cameras import ObjectViews
from tsp3d.views.encoders import ImageEncoder
from tsp3d.views.objects import iter_object_views
from tsp3d.views.render import spacing_radius

CANDIDATES = 8


@dataclass(frozen=True)
class VisibleScene:
    """A scene as the network encodes it, and its points on the CPU, for views of any box."""

    encoded: EncodedScene
    xyz: Tensor
    """(P, 3) metres."""
    rgb: Tensor
    """(P, 3) of 0 to 1."""
    radius: Tensor
    """(P,) half-widths of the points, metres."""


class TwoStreams:
    """A network and the 2D stream that it was trained with, which answer together. It has the network's methods.

    Args:
        net: in evaluation mode.
        stream, encoder, views: as :func:`tsp3d.distill.view_stream.load_stream` gives them.
        weight: of the 2D stream, see :func:`rank_anew`. With 0 the network answers alone, as it would without.
        candidates: boxes of a sentence that are looked at; otherwise no answer has more.

    Raises:
        UserError: a weight below 0, or a stream that reads words of another width than the network's.
    """

    def __init__(
        self, net: GroundingNet, stream: ViewStream, encoder: ImageEncoder, views: ObjectViews, weight: float,
        candidates: int = CANDIDATES,
    ) -> None:  # fmt: skip
        if not 0 <= weight < math.inf:
            raise UserError(f"the weight of the 2D stream is {weight}; it must be 0 or more")
        width, own = stream.words.in_features, net.config.fusion.dim
        if width != own:
            raise UserError(f"the 2D stream reads words of width {width}, the network's have {own}: it is another's")
        self.net, self.stream, self.encoder = net, stream.to(net.device), encoder.to(net.device)
        self.views, self.weight, self.candidates = views, weight, candidates

    @classmethod
    def from_pretrained(cls, net: GroundingNet, name: str, weight: float) -> TwoStreams:
        """``net`` with the stream beside its weights (:func:`tsp3d.pretrained.find_weights`). Raises UserError, as
        :func:`tsp3d.distill.view_stream.load_stream` does."""
        return cls(net, *load_stream(find_weights(name)), weight)

    @property
    def config(self) -> ModelConfig:
        """The network's."""
        return self.net.config

    @torch.inference_mode()
    def encode(self, xyz: Tensor, rgb: Tensor | None = None) -> VisibleScene:
        """As :meth:`GroundingNet.encode`. Raises UserError for a scan without colour."""
        if rgb is None:
            raise UserError("the 2D stream looks at colours, and the scan has none: leave the 2D stream out")
        encoded, points = self.net.encode(xyz, rgb), xyz.float().cpu()
        return VisibleScene(encoded, points, rgb.cpu(), spacing_radius(points))

    @torch.inference_mode()
    def ground(
        self, scene: VisibleScene, texts: list[str], top_k: int = 1, several: bool = False
    ) -> list[RawGrounding]:
        """As :meth:`GroundingNet.ground`: at most ``candidates`` boxes for each sentence.

        Raises:
            UserError: ``several``: the 2D stream tells the one object that is meant from others.
        """
        if self.weight == 0 or not texts:
            return self.net.ground(scene.encoded, texts, top_k, several=several)
        if several:
            raise UserError("the 2D stream chooses one object, not several: leave the one or the other out")
        found = self.net.ground(scene.encoded, texts, self.candidates)
        # One by one: neither padding nor other sentences then change an answer, and boxes are too seldom the same for
        # several sentences for views to be kept (1 of 768 within 1 cm, on generated rooms).
        words = self.net._text(texts).split()
        return [self._judge(scene, raw, own, top_k) for raw, own in zip(found, words, strict=True)]

    def masks(self, scene: VisibleScene, raw: RawGrounding, which: Sequence[int] | None = None) -> list[Tensor] | None:
        """As :meth:`GroundingNet.masks`."""
        return self.net.masks(scene.encoded, raw, which)

    @torch.inference_mode()
    def logits(self, scene: VisibleScene, boxes: Tensor, words: Tensor) -> Tensor:
        """What the 2D stream thinks of boxes (k, 6), at least one, and a sentence's words (T, C): (k,)."""
        seen = iter_object_views(scene.xyz, scene.rgb, boxes.cpu(), self.views, radius=scene.radius)
        features = torch.stack([self.encoder(view.images).pooled.float() for view in seen])  # (k, A, D)
        return self.stream([self.stream.look(features)], [boxes], [words])[0]

    def _judge(self, scene: VisibleScene, raw: RawGrounding, words: Tensor, top_k: int) -> RawGrounding:
        if not len(raw.boxes):
            return raw
        order, scores = rank_anew(raw.scores, self.logits(scene, raw.boxes, words), self.weight)
        kept = order[:top_k]
        return replace(raw, boxes=raw.boxes[kept], scores=scores[kept], features=raw.features[kept])


def rank_anew(scores: Tensor, logits: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """The order of candidates by both streams, and their scores.

    Of candidate i, s_i is the network's score and p_i the softmax of the 2D stream's logits over the candidates; the
    order is that of log s_i + weight · log p_i, and the new score is s_i · (p_i / max p) ** weight: that of the
    candidate which the 2D stream likes best stays, all others fall. For the order, s_i is the least score from the
    first candidate to i: the network may put a box before one with a higher score
    (:func:`tsp3d.models.decode.best_boxes`), and where the 2D stream has no opinion its order stays.

    Args:
        scores: (k,) in 0..1, in the network's order.
        logits: (k,) of the 2D stream, finite.

    Returns:
        Rows (k,) int64, best first; scores (k,) in 0..1, in the order in which they came.
    """
    seen = weight * (logits - logits.max())
    fused = scores.log().cummin(0).values + seen
    return fused.argsort(descending=True, stable=True), scores * seen.exp()


def load_model(
    name: str, device: torch.device, precision: str = "float32", two_streams: float = 0.0, turns: int = 1
) -> Any:
    """A network as :func:`tsp3d.pretrained.load_network` gives it, with its 2D stream unless the weight
    ``two_streams`` is 0, or in ``turns`` copies of a scan (:func:`tsp3d.turning.turned`). Raises UserError, as these
    do, and for both together."""
    net = load_network(name, device, precision)
    return turned(TwoStreams.from_pretrained(net, name, two_streams) if two_streams else net, turns)
