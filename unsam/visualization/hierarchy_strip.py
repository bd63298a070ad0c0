"""The hierarchy of one photo as an icicle: a row per level, widths by area, parts below wholes."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import numpy as np

from unsam.structures import MaskSet
from unsam.visualization.levels import tree_depths

_UNITS, _THINNEST = 1000.0, 0.5
_MAX_HEIGHT, _MAX_ROW = 240.0, 18.0


@dataclass(frozen=True)
class StripLayout:
    """Where each mask lies in the strip; the photo has width 1.

    Attributes:
        row: ``int64 [N]``, 0 for roots.
        left: ``float64 [N]`` in [0, 1].
        width: ``float64 [N]`` in [0, 1].
    """

    row: np.ndarray
    left: np.ndarray
    width: np.ndarray

    @property
    def num_rows(self) -> int:
        """Levels of the deepest tree, 0 without masks."""
        return int(self.row.max()) + 1 if self.row.size else 0


def layout_strip(masks: MaskSet) -> StripLayout:
    """Place every mask below its parent, from left to right as in the photo.

    A mask is as wide as its share of the photo. Where the masks below one parent (or the roots)
    overlap so much that they do not fit side by side, all of them shrink by one factor; the widths
    of siblings are thus always in proportion to their areas.

    Raises:
        DataError: a mask is its own ancestor.
    """
    row = tree_depths(masks.parent)
    # The last entry, which parent -1 finds, is the photo.
    area = np.append(masks.areas, masks.size[0] * masks.size[1]).astype(np.float64)
    below = np.zeros(len(masks) + 1)
    np.add.at(below, masks.parent, area[:-1])
    scale = 1.0 / np.maximum(np.maximum(area, below), 1.0)
    left, width = np.zeros(len(masks) + 1), np.zeros(len(masks) + 1)
    width[-1] = 1.0
    filled = np.zeros(len(masks) + 1)
    corners = masks.boxes
    centre = corners[:, 0] + corners[:, 2]
    for index in np.lexsort((corners[:, 1], centre, row)):
        above = masks.parent[index]
        width[index] = width[above] * area[index] * scale[above]
        left[index] = left[above] + filled[above]
        filled[above] += width[index]
    return StripLayout(row, left[:-1], width[:-1])


def strip_svg(masks: MaskSet, palette: np.ndarray, label: str) -> str:
    """Return the strip as an SVG picture that stretches to the width of its place.

    Args:
        masks: with parents.
        palette: ``uint8 [N, 3]``, as of `unsam.visualization.levels.tree_colours`.
        label: what a screen reader says.

    Raises:
        DataError: a mask is its own ancestor.
    """
    layout = layout_strip(masks)
    height = min(_MAX_ROW, _MAX_HEIGHT / max(1, layout.num_rows))
    total = max(height * layout.num_rows, 1.0)
    share = 100.0 * masks.areas / max(1, masks.size[0] * masks.size[1])
    parts = [
        f'<svg class="icicle" viewBox="0 0 {_UNITS:g} {total:.4g}" height="{total:.4g}" '
        f'preserveAspectRatio="none" role="img" aria-label="{escape(label)}" '
        'xmlns="http://www.w3.org/2000/svg">'
    ]
    for index in np.lexsort((layout.left, layout.row)):
        width = _UNITS * layout.width[index]
        # A gap between neighbours, but none that hides the finest masks.
        drawn = max(width - min(0.8, 0.2 * width), _THINNEST)
        red, green, blue = palette[index]
        parts.append(
            f'<rect x="{_UNITS * layout.left[index]:.2f}" y="{height * layout.row[index]:.2f}" '
            f'width="{drawn:.2f}" height="{height - 1:.2f}" '
            f'fill="#{red:02x}{green:02x}{blue:02x}"><title>{share[index]:.2g} % of the photo, '
            f"granularity {masks.granularity[index]:.2f}, "
            f"{escape(str(masks.source[index]))}</title></rect>"
        )
    return "".join([*parts, "</svg>"])


def draw_strip(masks: MaskSet, palette: np.ndarray, width: int) -> np.ndarray:
    """Return the strip as a picture ``uint8 [h, width, 3]`` on white, h by the number of rows.

    Args:
        masks: with parents.
        palette: ``uint8 [N, 3]``.
        width: in pixels.

    Raises:
        DataError: a mask is its own ancestor.
    """
    layout = layout_strip(masks)
    row_height = int(min(_MAX_ROW, max(6.0, _MAX_HEIGHT / max(1, layout.num_rows))))
    canvas = np.full((row_height * max(1, layout.num_rows), width, 3), 255, np.uint8)
    start = np.round(layout.left * width).astype(int)
    end = np.round((layout.left + layout.width) * width).astype(int)
    for index in np.argsort(layout.width, kind="stable"):
        top = row_height * layout.row[index]
        # At least a pixel, so that the finest masks are there; from five pixels on with a gap.
        right = max(end[index] - (end[index] - start[index] >= 5), start[index] + 1)
        canvas[top : top + row_height - 1, start[index] : right] = palette[index]
    return canvas
