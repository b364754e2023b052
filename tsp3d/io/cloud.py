"""Gathers points from a reader chunk by chunk: finite only, capped in number, colours as uint8."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tsp3d.io.errors import ScanError, one_line

log = logging.getLogger(__name__)

MAX_POINTS = 2_000_000
"""More points than this are thinned to one per voxel, the voxel growing until they fit."""


class Chunk(NamedTuple):
    """Some points: ``xyz`` (n, 3) in the file's numbers, ``rgb`` (n, 3) in the file's colour range or None."""

    xyz: np.ndarray
    rgb: np.ndarray | None = None


@dataclass(frozen=True)
class Cloud:
    """What a file held: ``xyz`` (N, 3) float64 in the file's frame and unit, ``rgb`` (N, 3) uint8 or None."""

    xyz: np.ndarray
    rgb: np.ndarray | None


class Collector:
    """Collects chunks in memory bounded by ``max_points`` plus one chunk.

    Thinning keeps the first point of each voxel in file order; as each voxel size is twice the one before, the result
    does not depend on how the file was cut into chunks.
    """

    def __init__(self, source: str, max_points: int = MAX_POINTS, voxel: float = 0.004) -> None:
        """``voxel`` is the first voxel size, in the file's unit."""
        if max_points < 1:
            raise ScanError(f"max_points must be at least 1, got {max_points}")
        self.source, self.max_points, self.voxel = source, max_points, voxel
        self.read = self.dropped = 0
        self.thinned = False
        self._finest, self._step = voxel, 0.0
        self._xyz: list[np.ndarray] = []
        self._rgb: list[np.ndarray] = []
        self._kept = 0
        self._has_rgb: bool | None = None
        self._origin: np.ndarray | None = None

    def add(self, chunk: Chunk) -> None:
        """Take the finite points of a chunk."""
        xyz = np.asarray(chunk.xyz)
        if xyz.ndim != 2 or xyz.shape[1] != 3 or xyz.dtype.kind not in "fiu":
            raise ScanError(f"{self.source}: points must be numbers of shape (N, 3), got {xyz.dtype} {xyz.shape}")
        rgb = chunk.rgb
        if rgb is not None and np.asarray(rgb).shape != xyz.shape:
            raise ScanError(f"{self.source}: {len(xyz)} points but colours of shape {np.shape(rgb)}; make them (N, 3)")
        if self._has_rgb is None:
            self._has_rgb = rgb is not None
        self._has_rgb = self._has_rgb and rgb is not None  # one part without colour: the whole has none
        # Beyond 1e15 a number is an empty slot (e.g. 1e30, FLT_MAX), not a place; squares of it would overflow too.
        kind, xyz = xyz.dtype, xyz.astype(np.float64)
        finite = (np.abs(xyz) < 1e15).all(axis=1)
        self.read += len(xyz)
        self.dropped += len(xyz) - int(finite.sum())
        self._xyz.append(xyz[finite])
        if kind.kind == "f" and finite.any():
            sample = self._xyz[-1][:: -(-len(self._xyz[-1]) // 1000)]
            self._step = max(self._step, float(np.spacing(np.median(np.abs(sample), axis=0).max().astype(kind))))
        if self._has_rgb and rgb is not None:
            self._rgb.append(np.asarray(rgb)[finite])
        else:
            self._rgb.clear()
        self._kept += len(self._xyz[-1])
        if self._kept > self.max_points:
            self._thin()

    def finish(self) -> Cloud:
        """All points kept. Raises ScanError if none are left."""
        if self.dropped:
            log.warning("%s: dropped %d of %d points that are not finite numbers", self.source, self.dropped, self.read)
        if self._step > self._finest:
            log.warning(
                "%s: so far from the origin its numbers are %.2g units apart, and finer shapes are lost; subtract an "
                "offset before they are stored, or store 64 bits of each", self.source, self._step,
            )  # fmt: skip
        if self._kept == 0:
            why = "every point is NaN or infinite" if self.read else "it holds no points"
            raise ScanError(f"{self.source}: {why}; export the scan again with at least one valid point")
        if self.thinned:
            self._thin()  # the last chunks may have fitted as they were
            log.warning(
                "%s: kept %d of %d points (one per %.4g-unit voxel) to bound memory",
                self.source, self._kept, self.read, self.voxel,
            )  # fmt: skip
        self._join()
        xyz = self._xyz[0]
        rgb = to_rgb8(self._rgb[0], self.source) if self._has_rgb and self._rgb else None
        return Cloud(xyz, rgb)

    def _join(self) -> None:
        self._xyz = [np.concatenate(self._xyz)]
        if self._rgb:
            self._rgb = [np.concatenate(self._rgb)]

    def _thin(self) -> None:
        self._join()
        xyz = self._xyz[0]
        origin = self._origin = xyz[0].copy() if self._origin is None else self._origin
        if self.thinned:
            keep = first_per_voxel(xyz, self.voxel, origin)
        else:
            keep = np.arange(len(xyz))
        self.thinned = True
        while len(keep) > self.max_points:
            self.voxel *= 2
            keep = keep[first_per_voxel(xyz[keep], self.voxel, origin)]
        self._xyz = [xyz[keep]]
        if self._rgb:
            self._rgb = [self._rgb[0][keep]]
        self._kept = len(keep)


def as_array(values: Any, source: str, missing: float = np.nan) -> np.ndarray:
    """An array of what a caller has: of a tensor on any device, or of a masked array, whose gaps become ``missing``.
    Raises ScanError for lists of unequal lengths."""
    if hasattr(values, "detach"):  # a tensor, of a library that reading needs not
        values = values.detach().cpu()
        values = values.float() if str(values.dtype) == "torch.bfloat16" else values  # which NumPy has not
    if isinstance(values, np.ma.MaskedArray):
        whole = values.dtype.kind != "f" and not np.isnan(missing)  # integers of depth or colour stay what they are
        return np.ma.filled(values if whole else values.astype(np.float64), missing)
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ScanError(
            f"{source}: no array can be made of it ({one_line(error)}); give lists of one length"
        ) from error


def first_per_voxel(xyz: np.ndarray, voxel: float, origin: np.ndarray) -> np.ndarray:
    """Indices (ascending) of the first point (of N, 3) in each voxel of side ``voxel`` laid from ``origin``."""
    cells = np.clip(np.floor((xyz - origin) / voxel), -(2.0**60), 2.0**60).astype(np.int64)
    # A linear hash modulo 2^64: any range of cells, and of millions of voxels about one pair in 10^13 would collide.
    keys = (cells * np.array([-7046029254386353131, 4354685564936845355, -4658895280553007687])).sum(axis=1)
    return np.sort(np.unique(keys, return_index=True)[1])


def to_rgb8(rgb: np.ndarray, source: str) -> np.ndarray | None:
    """Colours (N, 3) in 0…1, 0…255 or 0…65535 → uint8; None (with a log line) where they say nothing.

    Colours may go beyond 1 or 255, up to twice that, as interpolation and filters make them; a scan whose 0…255 end at
    2, or whose 0…65535 end at 510, is black. A few that go far beyond do not decide for the others.
    """
    rgb = np.asarray(rgb)
    if rgb.dtype.kind == "b" or rgb.dtype.kind not in "fiu":
        raise ScanError(f"{source}: colours must be numbers, got {rgb.dtype}")
    if rgb.dtype != np.uint8:
        values = rgb.astype(np.float64)
        values[~np.isfinite(values)] = 0.0
        lit = values[values > 0]
        sample = lit[:: 1 + len(lit) // 1_000_000]
        top, most = (float(np.percentile(sample, 99.0)), float(lit.max())) if len(lit) else (0.0, 0.0)
        if (low := values.min(initial=0.0)) < 0:
            log.warning("%s: colours begin at %.3g; give 0…1 or 0…255, negative ones count as 0", source, low)
        full = 1.0 if top <= 2.0 and rgb.dtype.kind == "f" else 255.0 if top <= 510.0 else 65535.0
        if most > 2 * full:
            log.warning("%s: colours are of 0…%.0f, but some go to %.3g; those count as %.0f", source, full, most, full)
        values = values * (255.0 / full)
        rgb = np.clip(np.round(values), 0, 255).astype(np.uint8)
    if len(rgb) > 1 and (rgb == rgb[0]).all():
        log.info("%s: every point has the same colour; treated as a scan without colour", source)
        return None
    return rgb


def field_colours(rows: np.ndarray, names: dict[str, str]) -> np.ndarray | None:
    """Colours (N, 3) of a structured array (N,): its ``rgb`` or ``rgba``, packed as PCL does (0x…RRGGBB, an integer or
    the bits of a float), or its fields r, g, b; None without. ``names``: its fields by their lower-case names."""
    for packed in ("rgb", "rgba"):
        if packed in names:
            values = rows[names[packed]]
            column = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
            if column.ndim == 2:
                return column[:, :3]  # a field of three or four numbers
            if column.dtype.kind == "f" and column.dtype.itemsize != 4:
                column = column.astype(np.float32)  # an ascii file may declare 8 bytes for the packed float
            bits = column.view(np.uint32) if column.dtype.itemsize == 4 else column.astype(np.uint32)
            return np.stack([(bits >> shift) & 255 for shift in (16, 8, 0)], axis=1).astype(np.uint8)
    for group in (("r", "g", "b"), ("red", "green", "blue")):
        if set(group) <= set(names):
            return np.stack([rows[names[name]] for name in group], axis=1)
    return None


def explain(source: str, error: BaseException, kind: str) -> ScanError:
    """A reader's exception as one line for the user."""
    if isinstance(error, ScanError):
        return error
    if isinstance(error, MemoryError):
        return ScanError(
            f"{source}: not enough memory to read it; thin the scan first, or check that it is not damaged"
        )
    return ScanError(
        f"{source}: cannot be read as {kind} ({one_line(error)}); the file may be damaged or cut short: export it again"
    )
