"""Samples to a training batch of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsp3d.data.sample import SceneSample


@dataclass
class GroundingBatch:
    """B scenes with N points in all, and Q queries on them. Metres, z up."""

    xyz: Tensor
    """(N, 3) float32."""
    rgb: Tensor
    """(N, 3) float32 in 0..1."""
    batch: Tensor
    """(N,) int64, scene of each point, ascending."""
    instance: Tensor
    """(N,) int64, index into that scene's objects, -1 where the point belongs to none."""
    texts: list[str]
    """Q texts."""
    text_scene: Tensor
    """(Q,) int64, scene of each text, ascending."""
    boxes: list[Tensor]
    """B tensors (M_b, 6) float32, centre and full size."""
    classes: list[Tensor]
    """B tensors (M_b,) int64, index in CLASSES or -1."""
    colors: list[Tensor]
    """B tensors (M_b,) int64, index in COLORS or -1."""
    targets: list[Tensor]
    """Q tensors int64, indices of the objects meant; several or none allowed."""
    anchors: list[Tensor]
    """Q tensors int64, indices of the other objects mentioned."""
    meta: list[dict[str, Any]]
    """Q dicts: ``kind`` ("sentence", "detection", "absent", "unlabelled"), ``scene_id`` and what the dataset says of
    the sentence."""
    scene_ids: list[str]
    """B names of the scenes; with an index into a scene's objects, which augmentation keeps, they name an object."""

    @property
    def num_scenes(self) -> int:
        """B."""
        return len(self.boxes)

    def with_sentences(self, rows: Sequence[int]) -> GroundingBatch:
        """The same scenes with these of their Q queries."""
        picked = {name: [getattr(self, name)[q] for q in rows] for name in ("texts", "targets", "anchors", "meta")}
        return replace(self, text_scene=self.text_scene[list(rows)], **picked)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> GroundingBatch:
        """The same batch with its tensors on ``device``."""

        def move(value: Any) -> Any:
            if isinstance(value, Tensor):
                return value.to(device, non_blocking=non_blocking)
            if isinstance(value, list) and value and isinstance(value[0], Tensor):
                return [item.to(device, non_blocking=non_blocking) for item in value]
            return value

        return GroundingBatch(**{item.name: move(getattr(self, item.name)) for item in fields(self)})


def collate(samples: Sequence[SceneSample]) -> GroundingBatch:
    """Concatenate scenes in the order given.

    Raises:
        ValueError: no sample.
    """
    if not samples:
        raise ValueError("collate needs at least one scene; the sampler gave an empty batch")
    queries = [(index, sample.scene_id, query) for index, sample in enumerate(samples) for query in sample.queries]
    sizes = torch.tensor([len(sample.xyz) for sample in samples])
    return GroundingBatch(
        xyz=_cat([sample.xyz for sample in samples]),
        rgb=_cat([sample.rgb for sample in samples]),
        batch=torch.repeat_interleave(torch.arange(len(samples)), sizes),
        instance=_cat([sample.instance for sample in samples]),
        texts=[query.text for _, _, query in queries],
        text_scene=torch.tensor([index for index, _, _ in queries], dtype=torch.int64),
        boxes=[torch.from_numpy(sample.boxes).float() for sample in samples],
        classes=[torch.from_numpy(sample.classes) for sample in samples],
        colors=[torch.from_numpy(sample.colors) for sample in samples],
        targets=[torch.tensor(query.targets, dtype=torch.int64) for _, _, query in queries],
        anchors=[torch.tensor(query.anchors, dtype=torch.int64) for _, _, query in queries],
        meta=[{**query.meta, "scene_id": scene_id} for _, scene_id, query in queries],
        scene_ids=[sample.scene_id for sample in samples],
    )


def _cat(arrays: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.concatenate(arrays) if len(arrays) > 1 else np.ascontiguousarray(arrays[0]))
