"""The scan as the rest of the package sees it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tsp3d.io.align import alignment
from tsp3d.io.cloud import MAX_POINTS, Chunk, Cloud, Collector, as_array, to_rgb8
from tsp3d.io.depth import unproject
from tsp3d.io.errors import ScanError
from tsp3d.io.frame import MAX_EXTENT_M, UNITS, Frame, check_unit, check_up, leveling_shift, plausibility_warning
from tsp3d.io.open3d import read_open3d

log = logging.getLogger(__name__)


@dataclass(eq=False)  # itself alone: arrays have no one answer
class Scan:
    """A coloured point cloud in metres, z up, floor near z = 0, centred in x and y.

    ``Scan(xyz, rgb)`` takes any array in metres with z up, drops what is not finite, levels it and turns its walls
    along the axes; how is in ``frame.transform``, and results come back in the coordinates that were passed. For other
    units and axes use :meth:`from_arrays`; for files :func:`tsp3d.load_scan`.
    """

    xyz: np.ndarray
    """(N, 3) float32, metres."""
    rgb: np.ndarray | None = None
    """(N, 3) uint8, or None where the scan has no colour."""
    source: str = "array"
    """The file it came from, for messages and results."""
    frame: Frame | None = None
    """The input's frame. None: ``xyz`` is input in metres, z up, and is levelled here."""

    def __post_init__(self) -> None:
        if self.frame is None:
            levelled = Scan.from_arrays(self.xyz, self.rgb, source=self.source)
            self.xyz, self.rgb, self.frame = levelled.xyz, levelled.rgb, levelled.frame
            return
        if not isinstance(self.frame, Frame):
            raise ScanError(f"{self.source}: frame must be a tsp3d.io.Frame or None, got {type(self.frame).__name__}")
        xyz = _as_points(self.xyz, self.source)
        if len(xyz) == 0 or not np.isfinite(xyz).all():
            raise ScanError(f"{self.source}: a scan with a ready frame needs at least one point, all finite")
        self.xyz = np.array(xyz, dtype=np.float32, order="C")  # a copy: the caller may fill the array anew
        if self.rgb is not None:
            rgb = as_array(self.rgb, self.source, 0)
            if rgb.shape != xyz.shape:
                raise ScanError(f"{self.source}: {len(xyz)} points but colours of shape {rgb.shape}; make them (N, 3)")
            self.rgb = to_rgb8(np.array(rgb, order="C"), self.source)

    def __len__(self) -> int:
        return len(self.xyz)

    @property
    def input_frame(self) -> Frame:
        """The frame of the input (never None once the scan is made)."""
        assert self.frame is not None
        return self.frame

    @classmethod
    def from_arrays(
        cls,
        xyz: np.ndarray,
        rgb: np.ndarray | None = None,
        up: str = "z",
        unit: str = "m",
        source: str = "array",
        max_points: int | None = None,
        align: bool = True,
    ) -> Scan:
        """Scan from points (N, 3) in ``unit`` with axis ``up`` pointing up, and colours (N, 3), 0…1 or 0…255, or None.

        More than ``max_points`` are thinned as by :func:`tsp3d.load_scan`; None keeps all. ``align``: see there.

        Raises:
            ScanError: wrong shapes, no finite point, or extents beyond any building.
        """
        points = _as_points(xyz, source)
        most = max(len(points), 1) if max_points is None else max_points
        chunk = Chunk(points, None if rgb is None else as_array(rgb, source, 0))
        return _collected([chunk], up, unit, source, most, align)

    @classmethod
    def from_open3d(
        cls,
        geometry: Any,
        up: str = "z",
        unit: str = "m",
        source: str = "open3d",
        max_points: int = MAX_POINTS,
        align: bool = True,
    ) -> Scan:
        """Scan from an Open3D ``PointCloud``, or from the surface of a ``TriangleMesh``; the rest as
        :meth:`from_arrays`."""
        return _collected([read_open3d(geometry, source)], up, unit, source, max_points, align)

    @classmethod
    def from_depth(
        cls,
        depth: ArrayLike,
        intrinsics: ArrayLike,
        rgb: ArrayLike | None = None,
        pose: ArrayLike | None = None,
        up: str | None = None,
        source: str = "depth",
        max_points: int | None = MAX_POINTS,
        align: bool = True,
    ) -> Scan:
        """Scan from one or more depth images; results come back in the frame that ``pose`` leads to.

        Args:
            depth: (H, W), or (F, H, W) for several images of one room; integers are millimetres, floats metres, along
                the camera's z axis. 0, negative, NaN and the greatest integer of the type are no measurement.
            intrinsics: (3, 3) matrix of fx, fy, cx, cy in pixels of the depth image, or (F, 3, 3).
            rgb: (H, W, 3) or (F, H, W, 3), registered to the depth image; or None.
            pose: (4, 4) or (F, 4, 4), camera (x right, y down, z forward) to world. None: the camera's own frame.
            up: the upward axis of that frame. Default z with a pose, -y without.
            max_points, align: as of :func:`tsp3d.load_scan`; None keeps all points.

        Raises:
            ScanError: shapes that do not belong together, no measurement, or extents beyond any building.
        """
        chunks = unproject(depth, intrinsics, rgb, pose, source)
        max_points = np.size(depth) if max_points is None else max_points
        return _collected(chunks, up or ("-y" if pose is None else "z"), "m", source, max_points, align)


def _collected(chunks: Iterable[Chunk], up: str, unit: str, source: str, max_points: int, align: bool) -> Scan:
    cloud = gather(chunks, unit, source, max_points)
    return prepare(cloud.xyz, cloud.rgb, up, unit, source, align)


def gather(chunks: Iterable[Chunk], unit: str, source: str, max_points: int) -> Cloud:
    """All points of some chunks in ``unit``, more than ``max_points`` thinned. Raises ScanError if none are left."""
    collector = Collector(source, max_points, voxel=0.004 / UNITS[check_unit(unit)])
    for chunk in chunks:
        collector.add(chunk)
    return collector.finish()


def prepare(xyz: np.ndarray, rgb: np.ndarray | None, up: str, unit: str, source: str, align: bool) -> Scan:
    """Finite points (N, 3) float64 in the input's frame → a levelled Scan; warns about implausible extents."""
    frame = Frame.make(check_unit(unit), check_up(up))
    metres = frame.to_metres(xyz)
    low, high = np.percentile(metres, [1.0, 99.0], axis=0)
    advice = plausibility_warning(metres, unit, up)
    if float((high - low).max()) > MAX_EXTENT_M:
        raise ScanError(
            f"{source}: {advice or f'it measures {np.ptp(metres, axis=0).max():.3g} m, far more than a room'}"
        )
    near = np.all(np.abs(metres - (low + high) / 2) < MAX_EXTENT_M, axis=1)
    if not near.all():
        log.warning("%s: dropped %d point(s) far away from the rest", source, int((~near).sum()))
        metres, rgb = metres[near], None if rgb is None else rgb[near]
    if advice:
        log.warning("%s: %s", source, advice)
    if len(metres) < 100:
        log.warning("%s: only %d point(s); do not expect to find anything", source, len(metres))
    lies = alignment(metres) if align else None
    if lies:
        metres = metres @ lies.turn.T
        angles = (("its floor is tilted by", lies.tilt), ("its walls are off the axes by", lies.walls))
        found = " and ".join(f"{what} {abs(np.rad2deg(by)):.0f} degrees" for what, by in angles if by)
        log.warning(
            "%s: %s%s; it is turned, and boxes come back turned as it lies (yaw, rotation). To keep it: --no-align, or "
            "align=False", source, "otherwise " if advice and "--up" in advice else "", found,
        )  # fmt: skip
    shift = leveling_shift(metres)
    frame = Frame.make(unit, up, shift, lies.turn if lies else None)
    return Scan(xyz=(metres + shift).astype(np.float32), rgb=rgb, source=source, frame=frame)


def _as_points(xyz: Any, source: str) -> np.ndarray:
    points = as_array(xyz, source)
    if points.ndim != 2 or points.shape[1] != 3 or points.dtype.kind not in "fiu":
        raise ScanError(
            f"{source}: points must be numbers of shape (N, 3), got {points.dtype} of shape {points.shape}; "
            "make it so (xyz.reshape(-1, 3) of an image of points) and pass colours apart, as Scan(xyz, rgb)"
        )
    return points
