"""Training without the sentences' boxes, after "Distilling Coarse-to-Fine Semantic Matching Knowledge for Weakly
Supervised 3D Visual Grounding" (Wang et al., ICCV 2023, "WS-3DVG").

What is weak: of a sentence only the scene that it belongs to is known. The boxes and classes of the scenes' objects
have trained the frozen proposer, on detection alone, and may have trained the weights that the student starts from; no
box of an object is seen in this training itself. The class that a sentence asks for is parsed from its words;
``sentence_class=annotated`` takes that of the annotated object instead, as the paper does.

Unlike the paper's, the student has no proposals: it is the single-stage network as it is, whose voxels, boxes, pruning
and completion learn from the candidates, so that nothing is added at inference.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tsp3d.distill.base import DistillConfig, Frozen, Method
from tsp3d.distill.coarse_match import CoarseMatcher, class_loss, coarse_scores, mil_nce, sentence_classes
from tsp3d.distill.controls import other_sentences
from tsp3d.distill.matching import segment_logsumexp
from tsp3d.distill.proposals import Proposals, feature_dim, load_proposer, propose
from tsp3d.distill.reconstruction import Reconstructor
from tsp3d.losses import diou_loss, nearest_assignment, paired_iou
from tsp3d.models.head import Focus, VoxelBoxes
from tsp3d.models.supervision import Targets, completion_loss, pruning_losses

if TYPE_CHECKING:
    from tsp3d.data.annotated import SceneSet
    from tsp3d.data.collate import GroundingBatch
    from tsp3d.models.net import GroundingNet
    from tsp3d.models.supervision import TrainingOutputs

RANKINGS = ("reconstruction", "coarse", "chance")
SENTENCE_CLASSES = ("parsed", "annotated")
OVERLAP = 0.25  # IoU from which a voxel's box speaks for a candidate


@dataclass
class CoarseToFineConfig(DistillConfig):
    """Settings of "coarse-to-fine"."""

    proposer: str = ""
    """Folder of a run of ``stage=detection``."""
    proposals: int = 64
    """Most proposals of a scene."""
    nms_iou: float = 0.25
    objectness: float = 0.5
    """Proposals below it are left out, except the best of a scene, as many as there are candidates."""
    candidates: int = 8
    """Proposals of a sentence that the coarse step leaves."""
    best: int = 4
    """Of these the ones that the decoder goes on learning from…"""
    all_steps: int = 1000
    """…after so many steps with all of them. Also how many candidates are kept from being pruned."""
    ranking: str = "reconstruction"
    """What ranks the candidates: "reconstruction", "coarse" (without the fine step), or "chance" (any proposals of the
    scene in any order, which shows what the proposals alone are worth)."""
    sentence_class: str = "parsed"
    """"parsed" from the sentence, or "annotated": that of the object meant, which is no longer known from the scene
    alone."""
    dim: int = 64
    heads: int = 8
    layers: int = 3
    """Of the decoder."""
    feedforward: int = 128
    words: int = 2048
    """Words that the decoder tells apart, the most frequent of the training sentences."""
    match_weight: float = 2.0
    """Of the sentence with its scene against the batch's other scenes."""
    class_weight: float = 2.0
    """Of the class that a sentence asks for."""
    reconstruction_weight: float = 1.0
    weight: float = 1.0
    """Of the candidates' reward for the student's softmax over voxels."""
    box_weight: float = 1.0
    """Of the distance to the candidates' boxes."""
    region_weight: float = 1.0
    """Of the pruning and the completion, to which the candidates are what boxes are in plain training."""


@dataclass
class Candidates:
    """What the two steps found for Q sentences, best first; without gradients except in ``losses``."""

    proposals: Proposals
    rows: Tensor
    """(Q, K) int64, proposals of the sentence's scene."""
    valid: Tensor
    """(Q, K) bool, False where the scene has fewer."""
    losses: dict[str, Tensor]
    """Those of the two steps themselves."""

    def boxes(self, scene: Tensor) -> Tensor:
        """Their boxes for sentences of these scenes (Q,) -> (Q, K, 6)."""
        return self.proposals.boxes[scene[:, None], self.rows]


class CoarseToFine(Method):
    """Two steps that are trained beside the student choose candidates; the student learns from their ranks."""

    config_type = CoarseToFineConfig
    config: CoarseToFineConfig
    steps: Tensor
    reward: Tensor

    def __init__(self, config: CoarseToFineConfig, student: GroundingNet) -> None:
        super().__init__(config, student)
        for key, known in (("ranking", RANKINGS), ("sentence_class", SENTENCE_CLASSES)):
            if getattr(config, key) not in known:
                raise ValueError(f"distill.{key} is {getattr(config, key)!r}; it must be one of {', '.join(known)}")
        proposer = load_proposer(config.proposer)
        self.proposer = Frozen(proposer)
        self.classes = proposer.config.auxiliary.classes
        self.student_config = student.config
        sizes = config.dim, config.heads
        self.matcher = self.reconstructor = None
        if config.ranking != "chance":
            dims = student.config.fusion.dim, feature_dim(proposer), len(self.classes)
            self.matcher = CoarseMatcher(*dims, *sizes, config.feedforward)
        if config.ranking == "reconstruction":
            self.reconstructor = Reconstructor(*sizes, config.layers, config.feedforward, config.words)
        self.learns = config.control != "random"
        self.requires_grad_(self.learns)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        falling = torch.linspace(1, 0.1, config.candidates).square()
        self.register_buffer("reward", falling, persistent=False)

    # ---- the batch, without what must not be known

    def forward(self, net: GroundingNet, batch: GroundingBatch) -> dict[str, Tensor]:
        """As every method's, on the points and the sentences alone."""
        return super().forward(net, blind(batch, self.config.sentence_class == "annotated"))

    def prepare(self, net: GroundingNet, scenes: SceneSet) -> None:
        """The decoder's vocabulary."""
        if self.reconstructor is not None:
            self.reconstructor.learn_words(q.text for index in range(len(scenes)) for q, _ in scenes.queries(index))

    def student_losses(self, net: GroundingNet, batch: GroundingBatch) -> tuple[TrainingOutputs, dict[str, Tensor]]:
        """The student has no losses of its own."""
        return net.forward_training(batch, supervised=False), {}

    def after_step(self, net: GroundingNet) -> None:
        """Counts the steps, by which the decoder's candidates become fewer."""
        self.steps += 1

    # ---- the teacher

    def teach(self, batch: GroundingBatch, outputs: TrainingOutputs) -> Candidates:
        """Candidates of each sentence, and the losses of what finds them."""
        config, scene = self.config, batch.text_scene
        proposer = self.proposer.net.to(batch.xyz.device)
        limits = config.proposals, config.nms_iou, config.objectness, config.candidates
        proposals = propose(proposer, batch, *limits)
        mask = proposals.mask[scene]  # (Q, N)
        count = min(config.candidates, mask.shape[1])
        if self.matcher is None:
            rows = torch.rand(mask.shape, device=mask.device).masked_fill(~mask, -1).topk(count, dim=1).indices
            return Candidates(proposals, rows, mask.gather(1, rows), {})
        if batch.num_scenes < 2:
            raise ValueError(
                "coarse-to-fine tells a sentence's scene from others, of which a step has none; set "
                "data.scenes_per_step=2, or data.bare_scenes=1"
            )
        embedded = self.matcher.embed(proposals.features, proposals.mask)  # (B, N, D)
        sentence = outputs.text.sentence  # (Q, C)
        similarity, asked = self.matcher.similarity(sentence, embedded), self.matcher.classify(sentence)
        allowed = self.allowed(batch).to(asked.device)
        losses = {"match": mil_nce(similarity, scene, proposals.mask), "class": class_loss(asked, allowed)}
        with torch.no_grad():
            own = similarity[torch.arange(len(scene), device=scene.device), scene]  # (Q, N)
            scores = coarse_scores(own, asked, proposals.logits[scene], mask)
            rows = scores.topk(count, dim=1).indices
        valid = mask.gather(1, rows)
        if self.reconstructor is not None:
            nll = self.reconstructor(embedded[scene[:, None], rows], batch.texts)  # (Q, K)
            order = nll.detach().masked_fill(~valid, float("inf")).argsort(dim=1, stable=True)
            rows, valid, nll = (values.gather(1, order) for values in (rows, valid, nll))
            some = valid[:, : config.best] if int(self.steps) >= config.all_steps else valid
            losses["reconstruction"] = nll[:, : some.shape[1]][some].mean()
        return Candidates(proposals, rows, valid, losses if self.learns else {})

    def allowed(self, batch: GroundingBatch) -> Tensor:
        """Classes (Q, K) bool that each sentence may ask for."""
        if self.config.sentence_class == "parsed":
            return sentence_classes(batch.texts, self.classes)
        meant = torch.tensor([meta["class"] for meta in batch.meta])
        return meant[:, None] == torch.arange(len(self.classes))

    def shuffle(self, taught: Candidates, batch: GroundingBatch) -> Candidates:
        """Proposals of the own scene by the numbers that a sentence of another scene has chosen; what the steps learn
        stays."""
        donor = other_sentences(batch)
        mask = taught.proposals.mask[batch.text_scene]  # (Q, N)
        numbered = mask.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
        rows = numbered.gather(1, taught.rows[donor] % mask.sum(1, keepdim=True))
        return replace(taught, rows=rows, valid=taught.valid[donor])

    # ---- the student

    def losses(self, batch: GroundingBatch, outputs: TrainingOutputs, taught: Candidates) -> dict[str, Tensor]:
        """ "score", "box", "keep1", "keep2" and "completion" of the student; "match", "class" and "reconstruction" of
        the teacher."""
        config, out, sentences = self.config, outputs.head, len(batch.texts)
        weights = {"match": config.match_weight, "class": config.class_weight}
        weights["reconstruction"] = config.reconstruction_weight
        losses = {name: weights[name] * value for name, value in taught.losses.items()}
        boxes = taught.boxes(batch.text_scene)
        losses["score"] = config.weight * reward_loss(out, boxes, taught.valid, self.reward)
        sure = taught.proposals.objectness[batch.text_scene[:, None], taught.rows] * self.reward[: boxes.shape[1]]
        head = self.student_config.head
        losses["box"] = config.box_weight * box_loss(
            out, boxes, taught.valid, sure, head.positives, head.positive_margin
        )
        if config.region_weight:
            targets = self.regions(batch, boxes, taught)
            regions = pruning_losses(self.student_config, out, targets.focus, sentences)
            if out.completion is not None:
                regions["completion"] = completion_loss(self.student_config, out.completion, targets)
            losses |= {name: config.region_weight * value for name, value in regions.items()}
        return losses

    def regions(self, batch: GroundingBatch, boxes: Tensor, taught: Candidates) -> Targets:
        """The best candidate in the place of the target, the next ones in that of what else the sentence names, and all
        proposals in that of the scene's objects."""
        best, best_query = _listed(boxes[:, :1], taught.valid[:, :1])
        near, near_query = _listed(boxes[:, : self.config.best], taught.valid[:, : self.config.best])
        scene = batch.text_scene
        everything, every_query = _listed(taught.proposals.boxes[scene], taught.proposals.mask[scene])
        centers = (best[:, :3], best_query, near[:, :3], near_query, everything[:, :3], every_query)
        return Targets(Focus(*centers), best, best_query)


def blind(batch: GroundingBatch, keep_class: bool = False) -> GroundingBatch:
    """The points and the sentences of a batch, without its objects and what the sentences mean.

    Detection prompts, which mean many objects, and sentences that are said to be true of nothing are left out.

    Args:
        keep_class: leave the class of the object meant, -1 where there is none, as "class" in ``meta``.

    Raises:
        ValueError: no sentence is left.
    """
    kept = [q for q, meta in enumerate(batch.meta) if meta.get("kind", "sentence") == "sentence"]
    if not kept:
        raise ValueError("coarse-to-fine needs sentences, and a step has none: set data.sentences_per_scene=1 or more")
    batch = batch.with_sentences(kept)
    scene = batch.text_scene
    meta: list[dict] = [{} for _ in kept]
    if keep_class:
        objects = [(batch.classes[s], meant) for s, meant in zip(scene.tolist(), batch.targets, strict=True)]
        meta = [{"class": int(classes[meant[0]]) if len(meant) else -1} for classes, meant in objects]
    empty = batch.xyz.new_zeros(0, 6)
    nobody = torch.zeros(0, dtype=torch.int64, device=batch.xyz.device)
    nothing = {name: [nobody] * batch.num_scenes for name in ("classes", "colors")}
    nothing |= {name: [nobody] * len(kept) for name in ("targets", "anchors")}
    instance = torch.full_like(batch.instance, -1)
    return replace(batch, meta=meta, boxes=[empty] * batch.num_scenes, instance=instance, **nothing)


def reward_loss(out: VoxelBoxes, boxes: Tensor, valid: Tensor, reward: Tensor) -> Tensor:
    """Sum over candidates of reward times minus log of the student's probability, over how many rewards there are (as
    WS-3DVG distils), mean over sentences.

    A candidate's probability is the share of the voxels in the sentence's softmax that lie in its box, or whose box
    overlaps it. One without voxels teaches nothing.

    Args:
        boxes: (Q, K, 6) best first. valid: (Q, K) bool. reward: (K or more,) by rank.
    """
    sentences, count = valid.shape
    candidate = boxes[out.query]  # (N, K, 6)
    inside = ((out.positions[:, None] - candidate[..., :3]).abs() <= candidate[..., 3:] / 2).all(2)
    predicted = out.boxes.detach()[:, None].expand_as(candidate)
    overlap = paired_iou(predicted.reshape(-1, 6), candidate.reshape(-1, 6)).view_as(inside) > OVERLAP
    voxel, rank = ((inside | overlap) & valid[out.query]).nonzero(as_tuple=True)
    logits = out.logits.float()
    mass = segment_logsumexp(logits[voxel], out.query[voxel] * count + rank, sentences * count).view(-1, count)
    seen, rank = mass.isfinite().nonzero(as_tuple=True)
    everything = segment_logsumexp(logits, out.query, sentences)
    log_share = mass[seen, rank] - everything[seen]
    return -(reward[rank] * log_share).sum() / len(reward) / sentences


def box_loss(
    out: VoxelBoxes, boxes: Tensor, valid: Tensor, confidence: Tensor, positives: int, margin: float
) -> Tensor:
    """1 - DIoU of the voxels near candidates, assigned as to targets, weighted by the candidates' confidence.

    boxes (Q, K, 6), valid (Q, K) bool, confidence (Q, K) in 0..1; the rest as in :func:`nearest_assignment`.
    """
    flat, query = _listed(boxes, valid)
    assigned = nearest_assignment(out.positions, out.query, flat, query, positives, margin)
    near = (assigned >= 0).nonzero().squeeze(1)
    weight = confidence[valid][assigned[near]]
    apart = diou_loss(out.boxes[near].float(), flat[assigned[near]])
    return (weight * apart).sum() / weight.sum().clamp(min=1e-6)


def _listed(boxes: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """The valid ones of (Q, K, 6) as (M, 6), and the sentence (M,) of each."""
    return boxes[valid], valid.nonzero()[:, 0]
