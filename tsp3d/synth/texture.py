"""Colours of scanned points: light of the room, shading, procedural textures and camera noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tsp3d.synth.mesh import Surface


def _hash(*parts: NDArray[np.integer]) -> NDArray[np.float64]:
    """Pseudo-random values 0..1 of integer cells, the same for equal cells."""
    mixed = np.zeros(parts[0].shape, dtype=np.uint64)
    for index, part in enumerate(parts):
        mixed ^= (part.astype(np.int64).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)) * np.uint64(
            (0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93)[index % 3]
        )
        mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    return (mixed >> np.uint64(40)).astype(np.float64) / float(1 << 24)


def _relief(points: NDArray[np.floating], surface: NDArray[np.uint8], seed: int) -> NDArray[np.float32]:
    """Brightness factor (N,) of each point's texture."""
    factor = np.ones(len(points), dtype=np.float32)

    def where(kind: Surface) -> NDArray[np.intp]:
        return np.flatnonzero(surface == kind)

    chosen = where(Surface.PLANKS)
    if len(chosen):
        p = points[chosen]
        along, across = (0, 1) if seed % 2 else (1, 0)
        row = np.floor(p[:, across] / 0.14).astype(int)
        plank = np.floor((p[:, along] + _hash(row, row * 0 + seed) * 1.2) / 1.2).astype(int)
        tone = 0.82 + 0.34 * _hash(row, plank, row * 0 + seed)
        seam = (p[:, across] / 0.14) % 1.0 < 0.06
        factor[chosen] = (
            tone * (1 + 0.04 * np.sin(p[:, across] * 260 + 5 * np.sin(p[:, along] * 3))) * np.where(seam, 0.75, 1.0)
        )
    chosen = where(Surface.TILES)
    if len(chosen):
        p = points[chosen]
        size = (0.3, 0.2, 0.45)[seed % 3]
        cell = np.floor(p / size).astype(int)
        grout = ((p / size) % 1.0 < 0.03 / size * 0.3).sum(axis=1) > 0
        factor[chosen] = (0.95 + 0.08 * _hash(cell[:, 0], cell[:, 1], cell[:, 2] + seed)) * np.where(grout, 0.78, 1.0)
    chosen = where(Surface.CARPET)
    if len(chosen):
        cell = np.floor(points[chosen] / 0.012).astype(int)
        factor[chosen] = 0.9 + 0.2 * _hash(cell[:, 0], cell[:, 1], cell[:, 2])
    chosen = where(Surface.FABRIC)
    if len(chosen):
        cell = np.floor(points[chosen] / 0.01).astype(int)
        factor[chosen] = 0.94 + 0.12 * _hash(cell[:, 0], cell[:, 1], cell[:, 2])
    chosen = where(Surface.WOOD)
    if len(chosen):
        p = points[chosen]
        factor[chosen] = 1 + 0.06 * np.sin(p[:, 2] * 70 + p[:, 1] * 90 + 2.5 * np.sin(p[:, 0] * 9) + seed)
    chosen = where(Surface.LEAF)
    if len(chosen):
        cell = np.floor(points[chosen] / 0.05).astype(int)
        factor[chosen] = 0.8 + 0.35 * _hash(cell[:, 0], cell[:, 1], cell[:, 2])
    chosen = where(Surface.BRICK)
    if len(chosen):
        p = points[chosen]
        row = np.floor(p[:, 2] / 0.075).astype(int)
        column = np.floor((p[:, 0] + p[:, 1] + 0.11 * (row % 2)) / 0.22).astype(int)
        mortar = (p[:, 2] / 0.075) % 1.0 < 0.13
        factor[chosen] = (0.82 + 0.3 * _hash(row, column)) * np.where(mortar, 1.25, 1.0)
    return factor


def shade_points(
    points: NDArray[np.floating],
    normals: NDArray[np.floating],
    base: NDArray[np.float32],
    surface: NDArray[np.uint8],
    owner: NDArray[np.integer],
    frame: NDArray[np.integer],
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Colours (N, 3) that the camera records.

    Args:
        points: (N, 3) true surface points, metres.
        normals: (N, 3) unit normals towards the camera.
        base: (N, 3) sRGB of the faces.
        surface: (N,) :class:`Surface` codes.
        owner: (N,) piece of each point, for a tone of its own.
        frame: (N,) frame of each point: exposure differs a little between frames.
        rng: Source of the room's light and of noise.
    """
    seed = int(rng.integers(1 << 20))
    warmth = rng.normal(0, 0.022)
    tint = np.array([1 + warmth, 1.0 + rng.normal(0, 0.008), 1 - warmth]) * rng.uniform(0.93, 1.04)
    sun = rng.normal(0, 1, 3)
    sun /= np.linalg.norm(sun)
    exposure = 1 + 0.035 * rng.standard_normal(int(frame.max(initial=0)) + 1)
    light = 0.87 + 0.1 * np.clip(normals[:, 2], -0.6, 1) + 0.06 * (normals @ sun)
    # Corners and the floor beneath furniture are a little darker.
    slow = 0.03 * np.sin(points[:, 0] * 1.7 + seed) * np.sin(points[:, 1] * 1.3 + seed % 7)
    tone = 1 + 0.04 * (_hash(owner.astype(np.int64), owner * 0 + seed) - 0.5)
    factor = _relief(points, surface, seed) * (light + slow) * tone * exposure[frame]
    color = base * tint * factor[:, None] + rng.normal(0, 4.0, (len(base), 1)) + rng.normal(0, 3.0, base.shape)
    return np.clip(color, 0, 255).astype(np.uint8)
