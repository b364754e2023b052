"""Points on the faces of a mesh: deterministic, with colours."""

from __future__ import annotations

import numpy as np

from tsp3d.io.cloud import Chunk
from tsp3d.io.errors import ScanError

MIN_VERTICES = 50_000
"""A mesh with at least this many vertices is a scan as it stands; one with fewer gets its faces sampled."""

SAMPLES = 200_000
"""Points sampled on a mesh."""


def spread_over_faces(
    vertices: np.ndarray, triangles: np.ndarray, count: int, source: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``count`` places on the mesh, in proportion to area, always the same ones.

    Args:
        vertices: (V, 3). Those that are not finite take their triangles out.
        triangles: (F, 3) indices.

    Returns:
        Face index (P,), barycentric weights (P, 3), points (P, 3) float64.

    Raises:
        ScanError: an index outside the vertices, or no face with an area.
    """
    if len(triangles) and (triangles.min() < 0 or triangles.max() >= len(vertices)):
        wrong = int(triangles.min() if triangles.min() < 0 else triangles.max())
        raise ScanError(f"{source}: a face points to vertex {wrong}, but there are {len(vertices)}")
    corners = np.asarray(vertices, dtype=np.float64)[triangles]  # (F, 3, 3)
    with np.errstate(all="ignore"):
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    area[~np.isfinite(area)] = 0.0
    if area.sum() <= 0:
        raise ScanError(f"{source}: the mesh has no face with an area; export it with faces, or as points")
    cumulative = np.cumsum(area)
    rng = np.random.default_rng(0)
    # One draw in each of `count` equal strips of the total area: even cover, no clumps.
    strips = (np.arange(count) + rng.random(count)) / count * cumulative[-1]
    face = np.minimum(np.searchsorted(cumulative, strips, side="right"), len(area) - 1)
    root, along = np.sqrt(rng.random(count)), rng.random(count)
    weights = np.stack([1 - root, root * (1 - along), root * along], axis=1)  # (P, 3)
    points = np.einsum("pc,pcd->pd", weights, corners[face])
    return face, weights, points


def sample_surface(
    vertices: np.ndarray, triangles: np.ndarray, source: str, rgb: np.ndarray | None = None, count: int = SAMPLES
) -> Chunk:
    """Points on the faces, with the vertices' colours (V, 3) blended where given."""
    face, weights, points = spread_over_faces(vertices, triangles, count, source)
    if rgb is None:
        return Chunk(points)
    blended = np.einsum("pc,pcd->pd", weights, np.asarray(rgb, dtype=np.float64)[triangles[face]])
    kind = np.asarray(rgb).dtype
    return Chunk(points, np.round(blended).astype(kind) if kind.kind in "iu" else blended.astype(kind))
