"""Pictures of a cloud for looking at generated rooms: a z-buffer splat, written as PNG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def splat(
    xyz: NDArray[np.floating], rgb: NDArray[np.uint8], eye: NDArray[np.floating], target: NDArray[np.floating],
    size: tuple[int, int] = (900, 700), field_of_view: float = 1.0, radius: int = 2,
) -> NDArray[np.uint8]:  # fmt: skip
    """An image (height, width, 3) of the points seen from ``eye`` towards ``target``."""
    width, height = size
    forward = np.asarray(target, dtype=float) - eye
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0] if abs(forward[2]) < 0.999 else [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    view = (np.asarray(xyz) - eye) @ np.stack([right, np.cross(forward, right), forward], axis=1)
    focal = width / 2 / np.tan(field_of_view / 2)
    seen = view[:, 2] > 0.1
    view, colors = view[seen], rgb[seen]
    u, v = view[:, 0] / view[:, 2] * focal + width / 2, view[:, 1] / view[:, 2] * focal + height / 2
    image = np.full((height, width, 3), 255, dtype=np.uint8)
    far_first = np.argsort(-view[:, 2])
    u, v, colors = u[far_first].astype(int), v[far_first].astype(int), colors[far_first]
    for du in range(radius):
        for dv in range(radius):
            x, y = u + du, v + dv
            ok = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            image[y[ok], x[ok]] = colors[ok]
    return image


def save_preview(
    path: Path, xyz: NDArray[np.floating], rgb: NDArray[np.uint8], instance: NDArray[np.integer] | None = None
) -> None:
    """A PNG with a top view (ceiling removed) and perspective views; the last is coloured by instance where given."""
    from PIL import Image

    low, high = xyz.min(axis=0), xyz.max(axis=0)
    middle, extent = (low + high) / 2, float((high - low)[:2].max())
    below = xyz[:, 2] < high[2] - 0.35
    top = splat(xyz[below], rgb[below], middle + [0, -0.01, extent * 1.25], middle)
    views = [top]
    for index, (dx, dy) in enumerate(((-1.0, -1.0), (1.0, 1.0), (1.0, -1.0))):
        eye = middle + np.array([dx * extent * 0.72, dy * extent * 0.72, extent * 0.75])
        # Walls that stand between the eye and the room are left out.
        inside = below & ((xyz[:, 0] - middle[0]) * dx < (high[0] - middle[0]) - 0.12)
        inside &= (xyz[:, 1] - middle[1]) * dy < (high[1] - middle[1]) - 0.12
        colors = rgb
        if index == 2 and instance is not None:
            table = np.random.default_rng(7).integers(60, 255, (int(instance.max(initial=0)) + 2, 3))
            table[0] = 215
            colors = table[np.asarray(instance) + 1].astype(np.uint8)
        views.append(splat(xyz[inside], colors[inside], eye, middle - np.array([0, 0, 0.5])))
    sheet = np.concatenate([np.concatenate(views[:2], axis=1), np.concatenate(views[2:], axis=1)])
    Image.fromarray(sheet).save(path)
