"""A picture of a result: the scan from above and in perspective, with the boxes drawn and the sentence as title."""

from __future__ import annotations

import os
import textwrap
import warnings

import numpy as np
from scipy import ndimage

from tsp3d.io import Scan
from tsp3d.io.write import replacing
from tsp3d.results import Grounding, lengths, turned
from tsp3d.viz import render

BEST = "#e8112d"
OTHERS = "#f59e0b"
CUT_M = 2.1
"""Points higher than this are left out where the scan has a ceiling, so that one can look in."""
MAX_DRAWN = 1_000_000
PLATE = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.75}
PANEL = (720, 640)
"""Pixels of one view."""


def write_png(path: str | os.PathLike[str], scan: Scan, grounding: Grounding) -> None:
    """Write the picture. Raises UserError if the place cannot be written to."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with replacing(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a script that the font lacks shows as boxes
        figure = draw(scan, grounding)
        FigureCanvasAgg(figure).print_png(str(temporary))


def draw(scan: Scan, grounding: Grounding):
    """The matplotlib figure with both views."""
    from matplotlib.figure import Figure

    boxes = np.asarray(grounding.boxes_m, dtype=np.float64).reshape(-1, 6)
    xyz, colours = scene_points(scan, boxes, grounding.mask)
    low, high = extents(xyz, boxes)
    radius = render.point_radius(xyz)
    views = [
        ("from above", render.top_camera(low, high, *PANEL)),
        ("in perspective", best_view(xyz, boxes, low, high, scan)),
    ]
    figure = Figure(figsize=(15.2, 7.6), dpi=100, facecolor="white")
    for number, (name, camera) in enumerate(views):
        axes = figure.add_axes((0.01 + 0.495 * number, 0.015, 0.485, 0.86))
        shown = np.flatnonzero(~near_walls(xyz, camera)) if camera.perspective else np.arange(len(xyz))
        index, zbuffer = render.splat(camera, xyz[shown], radius[shown])
        render.fill_pinholes(index, zbuffer)
        axes.imshow(render.paint(index, zbuffer, colours[shown]), interpolation="bilinear", aspect="equal")
        for rank in range(len(boxes) - 1, -1, -1):
            _draw_box(axes, camera, zbuffer, boxes[rank], rank, grounding.boxes[rank].score)
        if number == 0:
            _draw_scale(axes, camera)
        axes.set_xlim(0, camera.width)
        axes.set_ylim(camera.height, 0)
        axes.axis("off")
        axes.text(8, camera.height - 10, name, fontsize=10, color="#666666", va="bottom", bbox=PLATE)
    title = textwrap.fill(f"“{grounding.text}”", 110, max_lines=2, placeholder=" …”")
    figure.text(0.5, 0.955, title, ha="center", va="center", fontsize=15, parse_math=False)
    figure.text(
        0.5, 0.9, _subtitle(scan, grounding), ha="center", va="center", fontsize=10, color="#666666", parse_math=False
    )
    return figure


def scene_points(scan: Scan, boxes: np.ndarray, mask: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 3) and colours (N, 3) uint8 to draw: without the ceiling, with the best box's points tinted, or those
    of its mask (indices)."""
    step = -(-len(scan) // MAX_DRAWN)
    xyz, rgb = scan.xyz[::step].astype(np.float64), None if scan.rgb is None else scan.rgb[::step]
    colours = height_colours(xyz) if rgb is None else rgb
    inside = np.zeros(len(xyz), dtype=bool)
    for box in boxes:
        inside |= in_box(xyz, box)
    keep = (
        inside | (xyz[:, 2] < CUT_M)
        if float(np.percentile(xyz[:, 2], 99)) > CUT_M + 0.15
        else np.ones(len(xyz), dtype=bool)
    )
    if len(boxes):
        best = in_box(xyz, boxes[0]) if mask is None else np.isin(np.arange(len(scan))[::step], mask)
        # The sentence may name a colour, which must stay visible.
        colours = tinted(colours, best, (232, 17, 45), 0.35 if rgb is None else 0.1 if mask is None else 0.25)
    return xyz[keep], colours[keep]


def tinted(colours: np.ndarray, which: np.ndarray | slice, color: tuple[int, int, int], share: float) -> np.ndarray:
    """Colours (N, 3) uint8 with a ``share`` of ``color`` in those at ``which`` (indices, mask or slice)."""
    colours = colours.copy()
    colours[which] = ((1 - share) * colours[which] + share * np.array(color)).astype(np.uint8)
    return colours


def in_box(xyz: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Mask (N,) of the points in a box (6,), or within 2 cm of it."""
    return np.all(np.abs(xyz - box[:3]) <= box[3:] / 2 + 0.02, axis=1)


def height_colours(xyz: np.ndarray) -> np.ndarray:
    """Colours (N, 3) uint8 by height, for scans without colour: warm grey floors to blue-grey tops."""
    low, high = np.percentile(xyz[:, 2], [1, 99])
    share = np.clip((xyz[:, 2] - low) / max(high - low, 1e-6), 0, 1)
    stops = np.array([[150, 140, 128], [196, 178, 150], [206, 204, 190], [168, 190, 204], [120, 148, 176]], dtype=float)
    return np.stack([np.interp(share, np.linspace(0, 1, 5), stops[:, c]) for c in range(3)], axis=1).astype(np.uint8)


def extents(xyz: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner (3,) of what to show: the points without strays, and the boxes."""
    low, high = np.percentile(xyz, [0.2, 99.8], axis=0)
    for box in boxes:
        # A box far outside the scan must not shrink the scan to a dot.
        reach = np.maximum(high - low, 1.0)
        low = np.minimum(low, np.maximum(box[:3] - box[3:] / 2, low - reach))
        high = np.maximum(high, np.minimum(box[:3] + box[3:] / 2, high + reach))
    return low, high


def near_walls(xyz: np.ndarray, camera: render.Camera, cell: float = 0.1) -> np.ndarray:
    """Mask (N,) of points in walls on the camera's side, which would hide the room from it.

    A wall is where a column of the floor plan is filled over most of its height; it is on the camera's side if nothing
    of the room lies between it and the camera. The lowest decimetre stays, as an outline.
    """
    low, high = np.percentile(xyz, [0.5, 99.5], axis=0)
    if (high - low)[:2].min() < 2.0 or high[2] - low[2] < 1.5:
        return np.zeros(len(xyz), dtype=bool)  # a fragment, not a room
    cell = max(cell, float((high - low)[:2].max()) / 400)
    size = np.ceil((high - low)[:2] / cell).astype(int) + 1
    plan = np.clip(((xyz[:, :2] - low[:2]) / cell).astype(int), 0, size - 1)
    layer = np.clip((xyz[:, 2] - low[2]) / (high[2] - low[2]) * 10, 0, 9).astype(int)
    filled = np.zeros((*size, 10), dtype=bool)
    filled[plan[:, 0], plan[:, 1], layer] = True
    wall = (filled.sum(axis=2) >= 7) & filled[:, :, 8:].any(axis=2)
    occupied = np.logical_or.reduce(filled, axis=2)
    cells = np.argwhere(wall)
    # Walk from each wall column towards the camera, starting behind the wall's own thickness.
    toward = -camera.rotation[2, :2] / max(float(np.linalg.norm(camera.rotation[2, :2])), 1e-6)
    steps = np.arange(4, 2 * int(size.max()))[None, :, None]
    way = np.round(cells[:, None, :] + steps * toward).astype(int)  # (W, S, 2)
    inside = np.all((way >= 0) & (way < size), axis=2)
    way = np.clip(way, 0, size - 1)
    free = ~np.logical_or.reduce(inside & occupied[way[..., 0], way[..., 1]], axis=1)
    near = np.zeros_like(wall)
    near[cells[free, 0], cells[free, 1]] = True
    near = ndimage.binary_dilation(near, np.ones((3, 3)))  # with the thin rest beside windows and doors
    return near[plan[:, 0], plan[:, 1]] & (xyz[:, 2] > low[2] + 0.1)


def best_view(xyz: np.ndarray, boxes: np.ndarray, low: np.ndarray, high: np.ndarray, scan: Scan) -> render.Camera:
    """The perspective, of eight around the scan, that sees most of the best box's points (or of everything).

    A single view of a camera is seen from where the camera stood: from elsewhere one looks at the backs of things.
    """
    thin = xyz[:: max(1, len(xyz) // 40_000)]
    if len(boxes):
        weight = in_box(thin, boxes[0]) + 1e-3
    else:
        weight = np.ones(len(thin))
    elevation = np.radians(38)
    azimuths = [np.pi / 8 + turn * np.pi / 4 for turn in range(8)]
    sensor = scan.input_frame.to_metres(np.zeros((1, 3)))[0]
    if scan.input_frame.up == "-y" and ((sensor < low) | (sensor > high))[:2].any():
        middle = (low + high) / 2
        azimuths, elevation = [float(np.arctan2(sensor[1] - middle[1], sensor[0] - middle[0]))], np.radians(25)
    best, best_score = None, -1.0
    for azimuth in azimuths:
        small = render.orbit_camera(low, high, azimuth, elevation, PANEL[0] // 6, PANEL[1] // 6)
        keep = np.flatnonzero(~near_walls(thin, small))
        index, _ = render.splat(small, thin[keep], 0.03)
        score = float(weight[keep][index[index >= 0]].sum())
        if score > best_score * 1.02:
            best, best_score = azimuth, score
    camera = render.orbit_camera(low, high, best or azimuths[0], elevation, *PANEL)
    visible = thin[~near_walls(thin, camera)]
    return render.fitted(camera, np.concatenate([visible, *(render.box_corners(box) for box in boxes)]))


def _draw_box(axes, camera: render.Camera, zbuffer: np.ndarray, box: np.ndarray, rank: int, score: float) -> None:
    """Twelve edges: whole lines where in sight, faint and dotted behind something."""
    colour, width = (BEST, 2.4) if rank == 0 else (OTHERS, 1.3)
    corners = render.box_corners(box)
    share = np.linspace(0, 1, 96)[:, None]
    for a, b in render.BOX_EDGES:
        points = corners[a] * (1 - share) + corners[b] * share
        pixels, depth = camera.project(points)
        column = np.clip(pixels[:, 0].astype(int), 0, camera.width - 1)
        row = np.clip(pixels[:, 1].astype(int), 0, camera.height - 1)
        seen = depth <= zbuffer[row, column] + 0.06
        solid = np.where(seen[:, None], pixels, np.nan)
        axes.plot(pixels[:, 0], pixels[:, 1], color=colour, lw=width * 0.55, ls=(0, (1.5, 2.5)), alpha=0.6)
        axes.plot(solid[:, 0], solid[:, 1], color=colour, lw=width, solid_capstyle="round")
    pixels, _ = camera.project(corners)
    x = float(np.clip(pixels[:, 0].mean(), 30, camera.width - 30))
    y = float(np.clip(pixels[:, 1].min() - 6, 18, camera.height - 4))
    label = f"{score:.2f}" if rank == 0 else f"{rank + 1}: {score:.2f}"
    frame = {"boxstyle": "round,pad=0.25", "fc": colour, "ec": "none", "alpha": 0.9}
    axes.text(x, y, label, color="white", fontsize=9, ha="center", va="bottom", bbox=frame)


def _draw_scale(axes, camera: render.Camera) -> None:
    """A bar of one metre, or ten for large scans."""
    metres = 1 if camera.focal > 25 else 10
    length, y = metres * camera.focal, camera.height - 16
    x = camera.width - 20 - length
    axes.plot([x, x + length], [y, y], color="#333333", lw=2.5, solid_capstyle="butt")
    axes.text(x + length / 2, y - 6, f"{metres} m", fontsize=9, color="#333333", ha="center", va="bottom", bbox=PLATE)


def _subtitle(scan: Scan, grounding: Grounding) -> str:
    name = os.path.basename(scan.source)[:60]
    if not grounding.found:
        return f"{name}: {grounding.reason or f'not found (best {grounding.best_score:.2f})'}"
    box, unit = grounding.boxes[0], grounding.frame.unit
    centre, size = (lengths(values, unit) for values in (box.center, box.size))
    return f"{name}: score {box.score:.2f}, centre ({centre}) {unit}, size ({size}) {unit}{turned(box)}"
