"""Contact sheets: pictures to see by eye what a 2D teacher gets."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from tsp3d.io.write import replacing

GAP = 6
LABEL = 20
"""Pixels of a line of text."""


def write_sheet(
    path: str | os.PathLike[str], rows: Sequence[tuple[str, Tensor]], cell: tuple[int, int], columns: int = 1
) -> None:
    """Write a PNG of labelled strips of images, ``columns`` strips side by side.

    Args:
        rows: text and images (A, 3, H, W) of 0…1 of each strip; A is the same in all.
        cell: width and height in pixels that an image is scaled to.

    Raises:
        ValueError: no row. UserError: the place cannot be written to.
    """
    if not rows:
        raise ValueError("a sheet needs at least one row of images")
    width, height = cell
    across = max(len(images) for _, images in rows) * (width + GAP) + 2 * GAP
    down = height + LABEL + GAP
    sheet = Image.new("RGB", (columns * across, -(-len(rows) // columns) * down + GAP), (208, 208, 208))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for number, (text, images) in enumerate(rows):
        left, top = number % columns * across + GAP, number // columns * down + GAP
        draw.text((left, top), text, fill=(20, 20, 20), font=font)
        for place, image in enumerate(images):
            pixels = (image.permute(1, 2, 0).cpu().numpy() * 255).round().astype(np.uint8)
            picture = Image.fromarray(pixels).resize(cell, Image.Resampling.BOX if width < image.shape[2] else None)
            sheet.paste(picture, (left + place * (width + GAP), top + LABEL))
    with replacing(path) as temporary:
        sheet.save(temporary, format="PNG")
