"""A z-buffered point renderer in numpy: parallel and perspective cameras, splats, shading by depth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import spatial

BACKGROUND = np.array([255, 255, 255], dtype=np.uint8)


@dataclass(frozen=True)
class Camera:
    """Looks along ``rotation[2]``; ``rotation`` rows are right, down and forward in the world's axes."""

    eye: np.ndarray
    """(3,) metres."""
    rotation: np.ndarray
    """(3, 3)."""
    width: int
    height: int
    focal: float
    """Pixels (perspective), or pixels per metre (parallel)."""
    perspective: bool
    centre: tuple[float, float] | None = None
    """Pixel that the eye looks at; the middle if None."""

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """World points (N, 3) → pixels (N, 2) as column, row, and depth (N,) in metres."""
        local = (points - self.eye) @ self.rotation.T
        depth = local[:, 2]
        scale = self.focal / np.maximum(depth, 1e-6) if self.perspective else np.full(len(depth), self.focal)
        centre = np.array(self.centre or (self.width / 2, self.height / 2))
        return local[:, :2] * scale[:, None] + centre, depth


def top_camera(low: np.ndarray, high: np.ndarray, width: int, height: int) -> Camera:
    """Straight down on the extents ``low``…``high`` (3,), with x to the right and y up the picture."""
    extent = np.maximum(high - low, 0.2)
    focal = 0.92 * min(width / extent[0], height / extent[1])
    middle = (low + high) / 2
    eye = np.array([middle[0], middle[1], high[2] + 1.0])
    rotation = np.array([[1.0, 0, 0], [0, -1.0, 0], [0, 0, -1.0]])
    return Camera(eye, rotation, width, height, focal, perspective=False)


def orbit_camera(
    low: np.ndarray, high: np.ndarray, azimuth: float, elevation: float, width: int, height: int
) -> Camera:
    """From outside and above, fitted so that the whole extents are in the picture. Angles in radians."""
    toward = -np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    right = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
    rotation = np.stack([right, np.cross(toward, right), toward])
    middle = (low + high) / 2
    corners = box_corners(np.concatenate([middle, np.maximum(high - low, 0.2)])) - middle
    local = corners @ rotation.T
    focal = 1.1 * max(width, height)
    # The nearest distance from which every corner falls inside the picture, with a small margin.
    reach = np.abs(local[:, :2]) * focal / (0.48 * np.array([width, height]))
    distance = float((reach.max(axis=1) - local[:, 2]).max())
    return Camera(middle - toward * distance, rotation, width, height, focal, perspective=True)


def fitted(camera: Camera, points: np.ndarray, share: float = 0.94) -> Camera:
    """The same view, zoomed and shifted so that the points (N, 3) fill ``share`` of the picture."""
    pixels, _ = camera.project(points)
    low, high = np.percentile(pixels, [0.1, 99.9], axis=0)
    size = np.array([camera.width, camera.height], dtype=float)
    zoom = float((share * size / np.maximum(high - low, 1.0)).min())
    old = np.array(camera.centre or size / 2)
    centre = size / 2 - ((low + high) / 2 - old) * zoom
    return replace(camera, focal=camera.focal * zoom, centre=(float(centre[0]), float(centre[1])))


def box_corners(box: np.ndarray) -> np.ndarray:
    """(6,) centre and size → corners (8, 3); corner i has the signs of the bits of i (x lowest)."""
    bits = (np.arange(8)[:, None] >> np.arange(3)) & 1
    return box[:3] + (bits - 0.5) * box[3:6]


BOX_EDGES = tuple((a, a | (1 << axis)) for axis in range(3) for a in range(8) if not a & (1 << axis))
"""The twelve edges as pairs of corners."""


def splat(camera: Camera, points: np.ndarray, radius_m: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Draw each point as a square of half-width ``radius_m`` (N,) or one for all, nearest in front.

    Returns:
        Index of the point seen at each pixel (H, W) int64, -1 where none; depth (H, W) float32, infinite where none.
    """
    height, width = camera.height, camera.width
    pixels, depth = camera.project(points)
    columns, rows = np.floor(pixels[:, 0]).astype(np.int64), np.floor(pixels[:, 1]).astype(np.int64)
    inside = (depth > 0.05) & (columns >= -8) & (columns < width + 8) & (rows >= -8) & (rows < height + 8)
    chosen = np.flatnonzero(inside)
    chosen = chosen[np.argsort(-depth[chosen], kind="stable")]  # far to near: later writes win
    columns, rows, near = columns[chosen], rows[chosen], depth[chosen].astype(np.float32)
    scale = camera.focal / near if camera.perspective else np.full(len(near), camera.focal)
    reach = np.clip(np.round(np.broadcast_to(radius_m, len(points))[chosen] * scale), 0, 6).astype(np.int64)
    index = np.full((height, width), -1, dtype=np.int64)
    zbuffer = np.full((height, width), np.inf, dtype=np.float32)
    limit = int(reach.max(initial=0))
    for dy in range(-limit, limit + 1):
        for dx in range(-limit, limit + 1):
            ring = max(abs(dx), abs(dy))
            use = reach >= ring if ring else slice(None)
            c, r, z, i = columns[use] + dx, rows[use] + dy, near[use], chosen[use]
            ok = (c >= 0) & (c < width) & (r >= 0) & (r < height)
            flat = r[ok] * width + c[ok]
            layer = np.full(height * width, -1, dtype=np.int64)
            layer[flat] = np.flatnonzero(ok)
            hit = np.flatnonzero(layer >= 0)
            source = layer[hit]
            closer = z[source] < zbuffer.ravel()[hit]
            zbuffer.ravel()[hit[closer]] = z[source[closer]]
            index.ravel()[hit[closer]] = i[source[closer]]
    return index, zbuffer


def shade(zbuffer: np.ndarray, strength: float = 6.0) -> np.ndarray:
    """Eye-dome lighting: brightness (H, W) in 0…1, darker where neighbours are nearer, so that edges stand out."""
    log_depth = np.where(np.isfinite(zbuffer), np.log2(np.maximum(zbuffer, 1e-3)), np.inf).astype(np.float32)
    total = np.zeros_like(log_depth)
    for dy, dx in ((0, 2), (0, -2), (2, 0), (-2, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)):
        neighbour = np.roll(log_depth, (dy, dx), axis=(0, 1))
        with np.errstate(invalid="ignore"):
            drop = np.where(np.isfinite(neighbour), log_depth - neighbour, 0.0)
        total += np.clip(np.nan_to_num(drop, posinf=0.0, neginf=0.0), 0.0, 0.3)
    return np.exp(-strength * total / 8)


def paint(index: np.ndarray, zbuffer: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Picture (H, W, 3) uint8 of what :func:`splat` saw, with colours (N, 3) uint8."""
    image = np.broadcast_to(BACKGROUND, (*index.shape, 3)).copy()
    seen = index >= 0
    bright = shade(zbuffer)[seen][:, None]
    image[seen] = np.clip(colours[index[seen]] * bright, 0, 255).astype(np.uint8)
    return image


def fill_pinholes(index: np.ndarray, zbuffer: np.ndarray) -> None:
    """Give empty pixels that most neighbours surround a neighbour's point, in place."""
    height, width = index.shape
    padded = np.pad(index, 1, constant_values=-1)
    shifts = [(dy, dx) for dy in (0, 1, 2) for dx in (0, 1, 2) if (dy, dx) != (1, 1)]
    around = np.stack([padded[dy : dy + height, dx : dx + width] for dy, dx in shifts])  # (8, H, W)
    holes = (index < 0) & ((around >= 0).sum(axis=0) >= 5)
    rows, columns = np.nonzero(holes)
    first = (around[:, rows, columns] >= 0).argmax(axis=0)
    offsets = np.array(shifts)[first] - 1
    index[rows, columns] = around[first, rows, columns]
    zbuffer[rows, columns] = zbuffer[rows + offsets[:, 0], columns + offsets[:, 1]]


def point_radius(points: np.ndarray, sample: int = 8000, cell: float = 0.25) -> np.ndarray:
    """Half-widths (N,) in metres with which points cover the surface they lie on: half their local spacing.

    The spacing is that of some points' 24 nearest neighbours, averaged in cells of ``cell`` metres.
    """
    if len(points) < 50:
        return np.full(len(points), 0.02)
    step = max(1, len(points) // 200_000)
    thin = points[::step]
    queries = thin[:: max(1, len(thin) // sample)]
    distance = spatial.KDTree(thin).query(queries, k=25)[0][:, -1]
    spacing = distance * np.sqrt(np.pi / 24 / step)  # 24 points on a disc of this radius, `step` times as dense
    cells = np.floor((points - points.min(axis=0)) / cell).astype(np.int64)
    keys = (cells[:, 0] << 40) + (cells[:, 1] << 20) + cells[:, 2]
    asked = keys[::step][:: max(1, len(thin) // sample)]
    unique, inverse = np.unique(asked, return_inverse=True)
    mean = np.bincount(inverse, weights=spacing) / np.bincount(inverse)
    place = np.minimum(np.searchsorted(unique, keys), len(unique) - 1)
    local = np.where(unique[place] == keys, mean[place], np.median(spacing))
    return np.clip(0.75 * local, 0.003, 0.06)
