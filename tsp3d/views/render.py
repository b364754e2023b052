"""Z-buffered rendering of coloured points: every point a square of its size in the world, the nearest in front."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tsp3d.views.cameras import Cameras
from tsp3d.viz.render import point_radius

NEAR = 0.05
"""Metres in front of the eye that nothing is drawn in."""
MAX_REACH = 40
"""Greatest half-width of a square in pixels."""
# A key of 63 bits, lowest is seen: the depth's leading bits, the rings (pixels) from the square's centre, the rest of
# the depth, the point's index. Bits of positive floats are ordered like the floats. Points of one surface share the
# leading bits (1.6 to 3.1 % of the depth), and each is seen around its own centre; with all of the depth first,
# squares of nearer points would cover the centres of their neighbours.
INDEX_BITS, LOW_BITS, RING_BITS = 26, 18, 6
RING = INDEX_BITS + LOW_BITS
BIN = RING + RING_BITS
EMPTY = ((1 << (31 - LOW_BITS)) - 1) << BIN
_CHUNK = 4_000_000  # points times views in work at once: some 400 MB


@dataclass(frozen=True)
class Rendering:
    """What V cameras see."""

    images: Tensor
    """(V, 3, H, W) float32, 0…1."""
    depth: Tensor
    """(V, H, W) float32 metres along the viewing axis, infinite where nothing is."""
    index: Tensor
    """(V, H, W) int64, the point seen at each pixel, -1 where none."""


def spacing_radius(points: Tensor) -> Tensor:
    """Half-widths (P,) float32 in metres with which finite points cover their surface: 1.1 times the local spacing.

    Squares of randomly strewn points then leave under 1 % of a surface open. They can be that wide because each point
    is seen around its own centre only.
    """
    found = 1.5 * point_radius(points.detach().cpu().double().numpy())
    return torch.from_numpy(found).to(points.device, torch.float32)


def render(
    points: Tensor, rgb: Tensor | None, cameras: Cameras, radius: Tensor | float | None = None, background: float = 1.0
) -> Rendering:
    """Draw points as squares, nearest in front.

    Args:
        points: (P, 3) metres. Points that are not finite are not drawn.
        rgb: (P, 3) float 0…1 or uint8.
        radius: half-width of a square in metres, (P,) or one for all; at least one pixel is drawn. None: from the
            points' spacing.
        background: brightness where nothing is.

    Raises:
        ValueError: wrong shapes, no colours, or colours that are not finite.
    """
    points, rgb = check_cloud(points, rgb)
    index, depth = rasterise(points, cameras, radius)
    table = torch.cat([rgb.new_full((1, 3), background), rgb]).T.contiguous()  # (3, 1 + P); the background first
    images = table.index_select(1, (index + 1).flatten()).view(3, *index.shape).transpose(0, 1)  # (V, 3, H, W)
    return Rendering(images, depth, index)


def rasterise(points: Tensor, cameras: Cameras, radius: Tensor | float | None = None) -> tuple[Tensor, Tensor]:
    """Which point each pixel sees, (V, H, W) int64 or -1, and its depth (V, H, W) float32 or infinity.

    Among points of one surface (depths within about 2 %) a pixel sees the one whose centre is nearest to it in whole
    pixels along the longer axis, then the nearer in depth, then the one of lower index.

    Raises:
        ValueError: more points than 2^26.
    """
    if len(points) >= 1 << INDEX_BITS:
        raise ValueError(f"{len(points)} points are too many to render at once; the most is {(1 << INDEX_BITS) - 1}")
    points = points.float()
    finite = points.isfinite().all(1)
    if radius is None:
        radius = points.new_zeros(len(points))
        radius[finite] = spacing_radius(points[finite])
    half = torch.as_tensor(radius, dtype=torch.float32, device=points.device).expand(len(points))
    shape = (len(cameras), cameras.height, cameras.width)
    index = torch.full(shape, -1, dtype=torch.int64, device=points.device)
    depth = torch.full(shape, torch.inf, device=points.device)
    step = max(1, _CHUNK // max(len(points), cameras.height * cameras.width))
    for start in range(0, len(cameras), step):
        part = slice(start, start + step)
        _draw(points, half, cameras[part], index[part], depth[part])
    return index, depth


def check_cloud(points: Tensor, rgb: Tensor | None) -> tuple[Tensor, Tensor]:
    """Points (P, 3) float32 and colours (P, 3) float32 0…1. Raises ValueError as :func:`render` says."""
    points = torch.as_tensor(points)
    if points.ndim != 2 or points.shape[1] != 3 or not points.is_floating_point():
        raise ValueError(f"points must be floating-point (P, 3), got {points.dtype} {tuple(points.shape)}")
    if rgb is None:
        raise ValueError("the points have no colour; give rgb (P, 3), such as tsp3d.viz.png.height_colours(xyz)")
    rgb = torch.as_tensor(rgb, device=points.device)
    if rgb.shape != points.shape:
        raise ValueError(f"{len(points)} points need as many colours, got rgb of shape {tuple(rgb.shape)}")
    rgb = rgb.float() / 255 if rgb.dtype == torch.uint8 else rgb.float()
    if not bool(((rgb >= 0) & (rgb <= 1)).all()):  # false for NaN
        raise ValueError("rgb must be uint8, or finite floats from 0 to 1")
    return points.float(), rgb


def _draw(points: Tensor, half: Tensor, cameras: Cameras, index: Tensor, nearest: Tensor) -> None:
    """Write the index (V, H, W) and depth (V, H, W) of the lowest key of all squares over each pixel, where there is
    one.

    Keys start in the pixels of the points' centres, and spread by one pixel a step: a point that reaches r pixels
    comes in when r steps are left. All keys in the picture have as many steps left and gain as much by each, so one
    that loses a pixel would lose whatever lies behind it, too: the result is that of drawing every square in full.
    """
    height, width = cameras.height, cameras.width
    pixels, depth = cameras.project(points)
    column, row = (pixels + 0.5).floor_().unbind(-1)  # (V, P)
    reach = (half * (cameras.focal[:, None] / depth)).round_().clamp_(max=MAX_REACH)  # (V, P)
    # Comparisons with NaN are false, so points that are not finite fall out here.
    seen = (depth > NEAR) & (column >= -reach) & (column < width + reach) & (row >= -reach) & (row < height + reach)
    chosen = seen.view(-1).nonzero()[:, 0]  # (S,)
    if not len(chosen):
        return
    depth = depth.flatten()[chosen].view(torch.int32).long()
    column, row, reach = (values.flatten()[chosen].long() for values in (column, row, reach))
    key = (depth >> LOW_BITS << BIN) | ((depth & ((1 << LOW_BITS) - 1)) << INDEX_BITS) | (chosen % len(points))
    # Work in the rectangle that the squares cover: an object's views are mostly background.
    most = int(reach.max())
    margin = most + 1  # a step leaves the outermost pixels as they are
    left, top = int(column.min()) - margin, int(row.min()) - margin
    shape = (len(cameras), int(row.max()) + margin + 1 - top, int(column.max()) + margin + 1 - left)
    place = ((chosen // len(points)) * shape[1] + (row - top)) * shape[2] + (column - left)
    found = key.new_full(shape, EMPTY)
    for steps in range(most, -1, -1):
        if steps < most:
            found[:, 1:-1, 1:-1] = torch.minimum(found[:, 1:-1, 1:-1], _around(found) + (1 << RING))
        use = (reach == steps).nonzero()[:, 0]
        found.view(-1).scatter_reduce_(0, place[use], key[use], "amin")
    y, x = max(top, 0), max(left, 0)
    found = found[:, y - top : height - top, x - left : width - left]
    empty = found >= EMPTY
    bits = (found >> BIN << LOW_BITS) | ((found >> INDEX_BITS) & ((1 << LOW_BITS) - 1))
    window = (slice(None), slice(y, y + found.shape[1]), slice(x, x + found.shape[2]))
    index[window] = (found & ((1 << INDEX_BITS) - 1)).masked_fill_(empty, -1)
    nearest[window] = bits.int().view(torch.float32).masked_fill_(empty, torch.inf)


def _around(values: Tensor) -> Tensor:
    """(V, h, w) → (V, h - 2, w - 2): the least of each 3 × 3."""
    rows = torch.minimum(torch.minimum(values[:, :-2], values[:, 1:-1]), values[:, 2:])
    return torch.minimum(torch.minimum(rows[..., :-2], rows[..., 1:-1]), rows[..., 2:])
