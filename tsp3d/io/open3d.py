"""Open3D's point clouds and meshes as points and colours. Open3D itself is not imported."""

from __future__ import annotations

from typing import Any

import numpy as np

from tsp3d.io.cloud import Chunk
from tsp3d.io.errors import ScanError
from tsp3d.io.surface import MIN_VERTICES, sample_surface


def read_open3d(geometry: Any, source: str) -> Chunk:
    """Points of a ``PointCloud``, or of the surface of a ``TriangleMesh``; of ``open3d.geometry`` or
    ``open3d.t.geometry``.

    Raises:
        ScanError: another thing, or a mesh without a face that has an area.
    """
    geometry = geometry.to_legacy() if hasattr(geometry, "to_legacy") else geometry
    if hasattr(geometry, "points") and hasattr(geometry, "colors"):
        return Chunk(_rows(geometry.points), _colours(geometry.colors))
    if hasattr(geometry, "vertices") and hasattr(geometry, "triangles") and hasattr(geometry, "vertex_colors"):
        vertices, triangles, rgb = _rows(geometry.vertices), _rows(geometry.triangles), _colours(geometry.vertex_colors)
        if len(vertices) >= MIN_VERTICES:
            return Chunk(vertices, rgb)
        return sample_surface(vertices, triangles.astype(np.int64), source, rgb)
    raise ScanError(f"{source}: a {type(geometry).__name__} is no Open3D PointCloud or TriangleMesh")


def _rows(values: Any) -> np.ndarray:
    return np.asarray(values).reshape(-1, 3)


def _colours(values: Any) -> np.ndarray | None:
    return _rows(values) if len(values) else None
