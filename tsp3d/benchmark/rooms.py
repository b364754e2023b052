"""Voxel sets of generated rooms: what a scan looks like to the engine, in any size."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tsp3d.sparse import ops
from tsp3d.synth.assets import AssetLibrary
from tsp3d.synth.mesh import Mesh
from tsp3d.synth.room import build_room

VOXEL = 0.02
"""Metres."""
_SPACING = 0.01  # metres between the points of a surface: four for a voxel's face
_NOISE = 0.002  # metres, as a depth camera's at a metre or two
_GAP = 0.5  # metres between rooms
_KIND = "living room"


def surface_points(mesh: Mesh, spacing: float, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    """Random points (P, 3) float32 of a mesh's surface, one for each ``spacing`` squared, and their colours (P, 3)."""
    share = mesh.areas().astype(np.float64) / spacing**2
    counts = np.floor(share + rng.random(len(share))).astype(np.int64)
    face = np.repeat(np.arange(len(counts)), counts)
    u, v = rng.random((2, len(face), 1), dtype=np.float32)
    flip = u + v > 1
    u, v = np.where(flip, 1 - u, u), np.where(flip, 1 - v, v)
    a, b, c = (mesh.vertices[mesh.faces[face, i]] for i in range(3))
    return a + u * (b - a) + v * (c - a), mesh.colors[face]


def room_points(index: int, spacing: float = _SPACING, seed: int = 0) -> tuple[NDArray, NDArray]:
    """Points (P, 3) float32 in metres and colours (P, 3) uint8 of a furnished room; corner at the origin."""
    rng = np.random.default_rng([seed, index])
    mesh, _ = build_room(AssetLibrary("val"), rng, _KIND).mesh()
    xyz, rgb = surface_points(mesh, spacing, rng)
    xyz = xyz + rng.normal(0, _NOISE, xyz.shape).astype(np.float32)
    return xyz - xyz.min(axis=0), rgb


@lru_cache(maxsize=8)
def voxels(count: int, seed: int = 0) -> Tensor:
    """Coordinate set (count, 4) int32 of rooms at 2 cm, none negative: whole rooms in a row, and a corner of the last.

    Raises:
        ValueError: ``count`` is not positive.
    """
    if count < 1:
        raise ValueError(f"voxels must be at least 1, got {count}")
    parts, found, offset = [], 0, 0
    while found < count:
        xyz, _ = room_points(len(parts), seed=seed)
        cells = torch.from_numpy(np.floor(xyz / VOXEL).astype(np.int32))
        coords = torch.cat([torch.zeros(len(cells), 1, dtype=torch.int32), cells], 1)
        unique = ops.unique_coords(coords, 1)[0]
        if found + len(unique) > count:
            unique = _corner(unique, count - found)
        unique[:, 1] += offset
        offset = int(unique[:, 1].max()) + 1 + round(_GAP / VOXEL)
        parts.append(unique)
        found += len(unique)
    return torch.cat(parts)  # in order: every room lies behind the one before


def _corner(coords: Tensor, count: int) -> Tensor:
    """The ``count`` voxels nearest, seen from above, to the corner: floor, two walls, and the furniture that is there.

    Rows stay in order."""
    distance = coords[:, 1:3].amax(1)
    keep = distance.argsort(stable=True)[:count].sort().values
    return coords[keep]


def pyramid(coords: Tensor, levels: int) -> list[Tensor]:
    """The set and its halvings, each as a set of its own at stride 1."""
    result = [coords]
    while len(result) < levels:
        cells = ops.unique_coords(result[-1], 2)[0]
        cells[:, 1:] //= 2
        result.append(cells)
    return result
