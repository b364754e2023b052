"""Named colours: choosing a shade of a name, and naming the colour that points show."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tsp3d.synth.types import COLORS

Rgb = tuple[int, int, int]

SHADES: dict[str, tuple[Rgb, ...]] = {
    "white": ((242, 242, 240), (232, 232, 228)),
    "black": ((26, 26, 28), (38, 37, 38)),
    "gray": ((128, 128, 130), (148, 149, 151), (104, 105, 108)),
    "red": ((178, 32, 36), (202, 42, 44), (150, 24, 32)),
    "orange": ((228, 118, 32), (236, 138, 48)),
    "yellow": ((228, 198, 56), (238, 212, 84)),
    "green": ((58, 128, 64), (88, 146, 82), (40, 100, 62)),
    "blue": ((44, 80, 164), (62, 112, 186), (34, 60, 124), (92, 146, 206)),
    "purple": ((104, 58, 142), (130, 84, 166)),
    "pink": ((228, 136, 164), (238, 166, 188)),
    "brown": ((108, 68, 40), (134, 88, 52), (88, 56, 36)),
    "beige": ((216, 196, 160), (226, 210, 180), (206, 184, 146)),
}
"""Typical sRGB values of each name under neutral light."""

WOODS: dict[str, tuple[Rgb, ...]] = {
    "brown": ((92, 58, 34), (124, 80, 46), (142, 96, 58)),
    "beige": ((210, 180, 136), (204, 172, 128)),
    "white": ((236, 234, 228),),
    "black": ((40, 36, 34),),
}
"""Wooden surfaces by colour name."""

# Extra sightings of a name: how it looks in shade or in bright light.
_SEEN: dict[str, tuple[Rgb, ...]] = {
    "white": ((206, 206, 202), (222, 218, 208), (194, 194, 191)),
    "black": ((54, 53, 52), (12, 12, 12)),
    "gray": ((160, 160, 160), (84, 84, 86)),
    "green": ((36, 66, 38), (120, 170, 100)),
    "blue": ((150, 180, 215), (28, 40, 80)),
    "brown": ((150, 105, 68), (64, 44, 30)),
    "beige": ((186, 164, 130),),
    "red": ((115, 22, 26),),
    "yellow": ((190, 160, 45),),
    "pink": ((200, 112, 138),),
    "orange": ((190, 95, 25),),
    "purple": ((80, 45, 108),),
}


def sample_shade(name: str, rng: np.random.Generator, wooden: bool = False) -> Rgb:
    """A shade of the named colour with some jitter (0..255 sRGB)."""
    shades = WOODS[name] if wooden and name in WOODS else SHADES[name]
    base = np.array(shades[int(rng.integers(len(shades)))], dtype=float)
    jittered = base * rng.uniform(0.94, 1.06) + rng.normal(0.0, 3.0, 3)
    red, green, blue = np.clip(jittered, 8, 250).astype(int)
    return int(red), int(green), int(blue)


def to_lab(rgb: NDArray[np.generic]) -> NDArray[np.float64]:
    """CIE Lab (D65) of sRGB values 0..255, shape (..., 3)."""
    value = np.asarray(rgb, dtype=np.float64) / 255.0
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ matrix.T / np.array([0.9505, 1.0, 1.089])
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16.0 / 116.0)
    return np.stack(
        [116 * root[..., 1] - 16, 500 * (root[..., 0] - root[..., 1]), 200 * (root[..., 1] - root[..., 2])], axis=-1
    )


_PROTOTYPES = [(index, rgb) for index, name in enumerate(COLORS) for rgb in SHADES[name] + _SEEN.get(name, ())]
_PROTOTYPE_NAME = np.array([index for index, _ in _PROTOTYPES])
_PROTOTYPE_LAB = to_lab(np.array([rgb for _, rgb in _PROTOTYPES]))
# Lightness counts less than hue: shading changes it, while nobody renames a chair that stands in the shade.
_WEIGHTS = np.array([0.6, 1.0, 1.0])


def color_distances(rgb: NDArray[np.generic]) -> NDArray[np.float64]:
    """Distance of each colour (N, 3) to each name of ``COLORS``: (N, 12), smaller is closer."""
    lab = to_lab(rgb) * _WEIGHTS
    gap = np.linalg.norm(lab[:, None] - _PROTOTYPE_LAB[None] * _WEIGHTS, axis=-1)  # (N, P)
    return np.stack([gap[:, index == _PROTOTYPE_NAME].min(axis=1) for index in range(len(COLORS))], axis=1)


def name_colors(rgb: NDArray[np.generic]) -> NDArray[np.int64]:
    """Index in ``COLORS`` of the nearest name of each colour (N, 3)."""
    return color_distances(rgb).argmin(axis=1)


def dominant_color(rgb: NDArray[np.generic], intended: str | None = None, share: float = 0.55) -> str | None:
    """Name that is true of an object's points, or None where no name dominates.

    Args:
        rgb: (N, 3) colours of the object's points, 0..255.
        intended: The name its paint was chosen by; kept where the points' median agrees with it nearly as well as with
            the nearest name and enough of the points do, too.
        share: Least share of points that must be of the name.
    """
    if len(rgb) == 0:
        return None
    values = np.asarray(rgb if len(rgb) <= 600 else rgb[:: len(rgb) // 600 + 1], np.float64)
    distances = color_distances(values)
    median = color_distances(np.median(values, axis=0, keepdims=True))[0]
    best = int(median.argmin())
    if intended is not None:
        index = COLORS.index(intended)
        fits = distances[:, index] <= distances.min(axis=1) * 1.3 + 4.0
        if median[index] <= median[best] * 1.3 + 3.0 and fits.mean() >= share:
            return intended
    agreeing = (distances.argmin(axis=1) == best).mean()
    return COLORS[best] if agreeing >= share and median[best] < 22.0 else None
