"""From a seed to a labelled scene: room, scan, boxes and names of what was seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tsp3d.synth.assets import Asset, AssetLibrary
from tsp3d.synth.palette import dominant_color
from tsp3d.synth.room import MAX_OBJECTS, Room, build_room
from tsp3d.synth.scanner import RawScan, ScannerConfig, scan_room
from tsp3d.synth.types import SceneDescription, SceneObject

MIN_SCANNED = 60
"""Scanned points below which an object stays without a label."""
MIN_KEPT = 15
"""The same for the points that are left after thinning to ``max_points``."""
_SPLIT_CODES = {"train": 0, "val": 1}


@dataclass(frozen=True)
class SynthScene:
    """A labelled cloud and its description."""

    description: SceneDescription
    xyz: NDArray[np.float32]  # (N, 3) metres
    rgb: NDArray[np.uint8]  # (N, 3)
    instance: NDArray[np.int16]  # (N,) object id or -1
    scanned: int
    """Points of the fused cloud before thinning."""


def without_strays(xyz: NDArray[np.floating], gap: float = 0.03) -> NDArray[np.bool_]:
    """(N,) False for points of one object that noise threw clear of all others along an axis."""
    keep = np.ones(len(xyz), dtype=bool)
    slack = max(1, len(xyz) // 500)
    for axis in range(3):
        ordered = np.sort(xyz[:, axis])
        low, high = ordered[slack], ordered[-1 - slack]
        keep &= (xyz[:, axis] >= low - gap) & (xyz[:, axis] <= high + gap)
    return keep


def _color(asset: Asset, rgb: NDArray[np.uint8]) -> str | None:
    """The colour that the points show; of windows and mirrors it is the frame's, so theirs must be the paint's."""
    if asset.name not in ("window", "mirror"):
        return dominant_color(rgb, asset.color)
    seen = dominant_color(rgb, asset.color, share=0.4)
    return seen if seen == asset.color and asset.name == "window" else None


def label_scan(
    scene_id: str, room: Room, scan: RawScan, max_points: int | None, rng: np.random.Generator
) -> SynthScene:
    """Names and boxes of a room's scanned objects.

    Args:
        scene_id: Name of the scene.
        room: The scanned room.
        scan: Its fused cloud.
        max_points: Thin the cloud to at most so many points by a random choice; boxes come from all of them.
        rng: Source of that choice.
    """
    owner = scan.owner.copy()
    counts = np.bincount(owner[owner >= 0], minlength=len(room.placed))
    kept = np.arange(len(owner))
    if max_points is not None and len(kept) > max_points:
        kept = np.sort(rng.permutation(len(owner))[:max_points])
    left = np.bincount(owner[kept][owner[kept] >= 0], minlength=len(room.placed))
    known = [
        i for i, piece in enumerate(room.placed)
        if piece.labelled and counts[i] >= MIN_SCANNED and left[i] >= MIN_KEPT
    ]  # fmt: skip
    known = sorted(sorted(known, key=lambda i: -counts[i])[:MAX_OBJECTS])
    ids = {index: number for number, index in enumerate(known)}
    instance = np.full(len(owner), -1, dtype=np.int16)
    objects: list[SceneObject] = []
    by_owner = np.argsort(owner, kind="stable")
    starts = np.searchsorted(owner[by_owner], np.arange(len(room.placed) + 1))
    for index in known:
        rows = by_owner[starts[index] : starts[index + 1]]
        rows = rows[without_strays(scan.xyz[rows])]
        instance[rows] = ids[index]
        # Boxes are of the millimetres that are written, so that they hold for the stored points exactly.
        points = np.round(scan.xyz[rows] * 1000) / 1000
        low, high = points.min(axis=0), points.max(axis=0)
        piece = room.placed[index]
        center, size = ((low + high) / 2).tolist(), (high - low).tolist()
        box = tuple(round(float(value), 4) for value in (*center, *size))
        front = float((piece.yaw - np.pi / 2 + np.pi) % (2 * np.pi) - np.pi) if piece.asset.has_front else None
        parent = ids.get(piece.parent, -1)
        objects.append(
            SceneObject(
                id=ids[index],
                name=piece.asset.name,
                box=box,  # type: ignore[arg-type]
                color=_color(piece.asset, scan.rgb[rows]),
                material=piece.asset.material,
                front=front if front is None else round(front, 4),
                support=piece.support,
                support_id=parent,
                model=piece.asset.model,
            )
        )
    outline = room.outline
    description = SceneDescription(
        scene_id,
        tuple(objects),
        (0.0, 0.0, outline.height / 2, outline.width, outline.depth, outline.height),
        room.entrance,
    )
    return SynthScene(description, scan.xyz[kept], scan.rgb[kept], instance[kept], len(owner))


def generate_scene(
    library: AssetLibrary, seed: int, index: int, max_points: int | None = 60000, kind: str | None = None,
    config: ScannerConfig | None = None,
) -> SynthScene:  # fmt: skip
    """Scene ``index`` of the library's split under ``seed``: always the same for the same arguments."""
    streams = np.random.SeedSequence([seed, _SPLIT_CODES[library.split], index]).spawn(3)
    build, look, thin = (np.random.default_rng(stream) for stream in streams)
    room = build_room(library, build, kind)
    scan = scan_room(room, look, config)
    return label_scan(f"synth-{library.split}-{seed}-{index:05d}", room, scan, max_points, thin)
