"""Points of depth images: what a camera saw, from its intrinsics and its pose."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from tsp3d.io.cloud import Chunk, as_array
from tsp3d.io.errors import ScanError

FAR_M = 100.0
"""No depth camera sees so far: numbers beyond are no metres."""


def unproject(
    depth: ArrayLike, intrinsics: ArrayLike, rgb: ArrayLike | None, pose: ArrayLike | None, source: str
) -> Iterator[Chunk]:
    """The points of each of F depth images, in metres, in the frame that ``pose`` leads to.

    A pixel (u, v) of depth d is the point ((u - cx) d / fx, (v - cy) d / fy, d) of its camera, whose x points right, y
    down and z forward (the pinhole model, as of OpenCV and ROS); depth is along z, not along the ray.

    Args:
        depth: (H, W) or (F, H, W); integers are millimetres, floats metres. 0, negative, NaN and the
            greatest integer of the type are no measurement.
        intrinsics: (3, 3) matrix of fx, fy, cx, cy in pixels of the depth image, or one for each image (F, 3, 3).
        rgb: (H, W, 3) or (F, H, W, 3), registered to the depth image pixel by pixel; or None.
        pose: (4, 4) or (F, 4, 4), camera to world; None for the camera's own frame.

    Raises:
        ScanError: shapes that do not belong together, or matrices that are none of a camera.
    """
    images = as_array(depth, source, 0)
    if images.ndim == 2:
        images = images[None]
    if images.ndim != 3 or 0 in images.shape or images.shape[2] == 1 or images.dtype.kind not in "fiu":
        raise ScanError(
            f"{source}: depth must be numbers of shape (H, W) or (F, H, W), got {images.dtype} {images.shape}"
        )
    count, height, width = images.shape
    cameras = _each(intrinsics, count, (3, 3), "intrinsics", source)
    poses = _each(np.eye(4) if pose is None else pose, count, (4, 4), "pose", source)
    if (cameras[:, [0, 1], [0, 1]] <= 0).any() or np.abs(cameras[:, 2] - [0, 0, 1]).max() > 1e-6:
        raise ScanError(
            f"{source}: intrinsics must be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels, focal lengths above 0; "
            "transpose them if they are stored by columns"
        )
    turns = poses[:, :3, :3]
    if np.abs(turns @ turns.swapaxes(1, 2) - np.eye(3)).max() > 1e-2 or (np.linalg.det(turns) < 0).any():
        raise ScanError(f"{source}: pose must hold a rotation and a shift in metres, camera to world")
    if np.abs(poses[:, 3] - [0, 0, 0, 1]).max() > 1e-6:
        raise ScanError(
            f"{source}: pose must have the shift in its last column and 0 0 0 1 in its last row; transpose it if it is "
            "stored by columns"
        )
    measured = images[(images > 0) & np.isfinite(images)] if images.dtype.kind == "f" else ()
    if len(measured) and np.median(measured) > FAR_M:
        raise ScanError(
            f"{source}: most depths are beyond {FAR_M:g} m, which floats are in; give millimetres as integers, or "
            "divide them by 1000"
        )
    colours = None
    if rgb is not None:
        colours = as_array(rgb, source, 0)
        if colours.shape not in ((count, height, width, 3), (height, width, 3) if count == 1 else ()):
            raise ScanError(
                f"{source}: depth of shape {images.shape} but colours of shape {colours.shape}; register the colour "
                "image to the depth image, pixel by pixel"
            )
        colours = colours.reshape(count, height * width, 3)
    v, u = np.divmod(np.arange(height * width), width)
    for k, (image, camera, matrix) in enumerate(zip(images, cameras, poses, strict=True)):
        d = image.reshape(-1)
        seen = np.isfinite(d) & (d > 0)
        if d.dtype.kind == "f":
            d = d[seen].astype(np.float64)
        else:
            seen &= d < np.iinfo(d.dtype).max
            d = d[seen] * 0.001
        x, y = (u[seen] - camera[0, 2]) * d / camera[0, 0], (v[seen] - camera[1, 2]) * d / camera[1, 1]
        points = np.stack([x, y, d], axis=1) @ matrix[:3, :3].T + matrix[:3, 3]
        yield Chunk(points, None if colours is None else colours[k, seen])


def _each(value: ArrayLike, count: int, shape: tuple[int, int], name: str, source: str) -> np.ndarray:
    """A matrix for each image, (F, *shape) float64."""
    try:
        matrices = as_array(value, source).astype(np.float64)
    except (TypeError, ValueError):
        matrices = np.empty(0)
    if matrices.shape not in (shape, (count, *shape)) or not np.isfinite(matrices).all():
        raise ScanError(
            f"{source}: {name} must be finite, of shape {shape} or ({count}, {shape[0]}, {shape[1]}), got "
            f"{np.shape(value)}"
        )
    return np.broadcast_to(matrices, (count, *shape))
