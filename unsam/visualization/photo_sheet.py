"""One picture of one photo: its masks level by level, captions, and the hierarchy strip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from unsam.structures import MaskSet
from unsam.visualization.hierarchy_strip import draw_strip
from unsam.visualization.levels import (
    LEVEL_EDGES,
    draw_levels,
    fit_photo,
    tree_colours,
    tree_depths,
)

PANEL_SIDE = 560
_NARROWEST_CELL = 300
_GAP, _MARGIN, _CAPTION = 16, 24, 30
_HEAD, _FOOT = 44, 30
_FONT_SIZE, _HEAD_SIZE = 17, 24
_INK, _SOFT = (22, 32, 44), (91, 107, 124)
_BEST_ASPECT = 1.6
_STRIP_TITLE = "Hierarchy: parts below their wholes, width by area"


@dataclass(frozen=True)
class _Cell:
    image: np.ndarray
    caption: str


def draw_hierarchy(
    photo: np.ndarray,
    masks: MaskSet,
    *,
    edges: Sequence[float] = LEVEL_EDGES,
    panel_side: int = PANEL_SIDE,
) -> np.ndarray:
    """Draw the photo, its masks from coarse to fine, and the hierarchy strip on one sheet.

    Args:
        photo: ``uint8 [H, W, 3]``, RGB, of any size; panels are scaled to `panel_side`.
        masks: of the photo's size, with parents; none is said on the sheet.
        edges: granularities between the levels, from 1 to 0.1.
        panel_side: longer side of a panel in pixels.

    Returns:
        ``uint8 [h, w, 3]``, RGB, on white.

    Raises:
        ValueError: masks of another size than the photo, or wrong edges.
        DataError: a mask is its own ancestor.
    """
    if masks.size != photo.shape[:2]:
        raise ValueError(f"masks of {masks.size} for a photo of {photo.shape[:2]}")
    small = fit_photo(photo, panel_side)
    palette = tree_colours(masks)
    levels = draw_levels(small, masks, palette, edges)
    cells = [_Cell(small, f"Photo, {photo.shape[1]} x {photo.shape[0]} pixels")]
    cells += [_Cell(level.image, f"Granularity {level.span}: {level.count}") for level in levels]
    grid = _draw_grid(cells)
    parts = [_text_row(grid.shape[1], _HEAD, describe(masks), _HEAD_SIZE, _INK), grid]
    if len(masks):
        parts.append(_text_row(grid.shape[1], _FOOT, _STRIP_TITLE, _FONT_SIZE, _SOFT))
        parts.append(draw_strip(masks, palette, grid.shape[1]))
    sheet = np.concatenate(parts)
    return np.pad(sheet, ((_MARGIN, _MARGIN), (_MARGIN, _MARGIN), (0, 0)), constant_values=255)


def describe(masks: MaskSet) -> str:
    """Return the counts of a set in a line: masks, roots, levels, and masks by source."""
    if not len(masks):
        return "No masks were found in this photo"
    roots = int((masks.parent < 0).sum())
    levels = int(tree_depths(masks.parent).max()) + 1
    names, counts = np.unique(masks.source, return_counts=True)
    sources = ", ".join(f"{count} {name}" for name, count in zip(names, counts, strict=True))
    return (
        f"{len(masks)} mask{'s' * (len(masks) > 1)}, {roots} root{'s' * (roots > 1)}, "
        f"{levels} level{'s' * (levels > 1)} ({sources})"
    )


def _draw_grid(cells: Sequence[_Cell]) -> np.ndarray:
    """Set pictures of one size in rows, each above its caption."""
    height, width = cells[0].image.shape[:2]
    cell_width = max(width, _NARROWEST_CELL)
    step = (height + _CAPTION + _GAP, cell_width + _GAP)
    columns = min(
        range(1, len(cells) + 1),
        key=lambda count: _misfit(count, len(cells), step),
    )
    rows = -(-len(cells) // columns)
    canvas = np.full((rows * step[0], columns * step[1] - _GAP, 3), 255, np.uint8)
    for number, cell in enumerate(cells):
        top, left = number // columns * step[0], number % columns * step[1]
        canvas[top : top + height, left : left + width] = cell.image
        caption = _text_row(cell_width, _CAPTION, cell.caption, _FONT_SIZE, _SOFT)
        canvas[top + height : top + height + _CAPTION, left : left + cell_width] = caption
    return canvas


def _misfit(columns: int, count: int, step: tuple[int, int]) -> tuple[int, float]:
    """Rank a number of columns: full rows first, then the shape of the sheet."""
    rows = -(-count // columns)
    aspect = columns * step[1] / (rows * step[0])
    return (rows * columns - count, abs(np.log(aspect / _BEST_ASPECT)))


def _text_row(
    width: int, height: int, text: str, size: int, colour: tuple[int, int, int]
) -> np.ndarray:
    """Return a line of text on white, ``uint8 [height, width, 3]``, smaller where it is long."""
    image = Image.new("RGB", (width, height), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    length = draw.textlength(text, font=ImageFont.load_default(size))
    fitted = size if length <= width else max(8, int(size * width / length))
    font = ImageFont.load_default(fitted)
    draw.text((0, height / 2), text, fill=colour, font=font, anchor="lm")
    return np.asarray(image)
