"""The scan as the rest of the package sees it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from tsp3d.io.cloud import Chunk, Collector, to_rgb8
from tsp3d.io.errors import ScanError
from tsp3d.io.frame import MAX_EXTENT_M, UNITS, Frame, check_unit, check_up, leveling_shift, plausibility_warning

log = logging.getLogger(__name__)


@dataclass(eq=False)  # itself alone: arrays have no one answer
class Scan:
    """A coloured point cloud in metres, z up, floor near z = 0, centred in x and y.

    ``Scan(xyz, rgb)`` takes any array in metres with z up, drops what is not finite, and levels it; the shift is in
    ``frame.transform``, and results come back in the coordinates that were passed. For other units and axes use
    :meth:`from_arrays`; for files :func:`tsp3d.load_scan`.
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
        xyz = _as_points(self.xyz, self.source)
        if len(xyz) == 0 or not np.isfinite(xyz).all():
            raise ScanError(f"{self.source}: a scan with a ready frame needs at least one point, all finite")
        self.xyz = np.array(xyz, dtype=np.float32, order="C")  # a copy: the caller may fill the array anew
        if self.rgb is not None:
            if np.shape(self.rgb) != xyz.shape:
                raise ScanError(
                    f"{self.source}: {len(xyz)} points but colours of shape {np.shape(self.rgb)}; make them (N, 3)"
                )
            self.rgb = to_rgb8(np.array(self.rgb, order="C"), self.source)

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
    ) -> Scan:
        """Scan from points (N, 3) in ``unit`` with axis ``up`` pointing up, and colours (N, 3), 0…1 or 0…255, or None.

        More than ``max_points`` are thinned as by :func:`tsp3d.load_scan`; None keeps all.

        Raises:
            ScanError: wrong shapes, no finite point, or extents beyond any building.
        """
        points = _as_points(xyz, source)
        most = max(len(points), 1) if max_points is None else max_points
        collector = Collector(source, most, voxel=0.004 / UNITS[check_unit(unit)])
        collector.add(Chunk(points, None if rgb is None else np.asarray(rgb)))
        cloud = collector.finish()
        return prepare(cloud.xyz, cloud.rgb, up, unit, source)


def prepare(xyz: np.ndarray, rgb: np.ndarray | None, up: str, unit: str, source: str) -> Scan:
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
    shift = leveling_shift(metres)
    frame = Frame.make(unit, up, shift)
    return Scan(xyz=(metres + shift).astype(np.float32), rgb=rgb, source=source, frame=frame)


def _as_points(xyz: np.ndarray, source: str) -> np.ndarray:
    points = np.asarray(xyz)
    if points.ndim != 2 or points.shape[1] != 3 or points.dtype.kind not in "fiu":
        raise ScanError(
            f"{source}: points must be numbers of shape (N, 3), got {points.dtype} of shape {points.shape}; "
            "make it so (xyz.reshape(-1, 3) of an image of points) and pass colours apart, as Scan(xyz, rgb)"
        )
    return points
