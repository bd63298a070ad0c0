"""The masks of one photo level by level, from coarse to fine, in colours that follow the tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from unsam.errors import DataError
from unsam.structures import MaskSet

LEVEL_EDGES = (1.0, 0.5, 0.3, 0.2, 0.15, 0.1)
"""Granularities between the levels. Of a mask that is measured against the whole photo, each step
down is about a quarter of the area: 20 %, 5 %, 1.2 % and 0.3 % of the photo."""

WHOLE_SHARE = 0.95
"""A mask over at least this share of the photo is the photo itself; it is drawn in grey."""

_GOLDEN_RATIO = 0.618033988749895
_FIRST_HUE, _NARROWEST = 215.0, 110.0
_CHROMA, _LIGHTNESS = 62.0, (66.0, 52.0, 79.0)
_WHOLE_COLOUR = (150, 160, 172)
_SUPERSAMPLING = 2


@dataclass(frozen=True)
class Level:
    """One band of granularities and its picture.

    Attributes:
        low: least granularity, included.
        high: largest granularity; excluded, other than at 1.
        index: ``int64 [K]``, the masks of the band.
        image: ``uint8 [h, w, 3]``, RGB: photo in grey, masks tinted and outlined.
    """

    low: float
    high: float
    index: np.ndarray
    image: np.ndarray

    @property
    def span(self) -> str:
        """The band in words, such as ``0.15 to 0.20``."""
        return f"{self.low:.2f} to {self.high:.2f}"

    @property
    def count(self) -> str:
        """The number of masks in words, such as ``1 mask``."""
        return f"{self.index.size or 'no'} mask{'' if self.index.size == 1 else 's'}"


def tree_depths(parent: np.ndarray) -> np.ndarray:
    """Return how many ancestors each mask has, ``int64 [N]``, 0 for a root.

    Args:
        parent: ``int64 [N]``, -1 for a root.

    Raises:
        DataError: a mask is its own ancestor.
    """
    depth = np.zeros(parent.size, np.int64)
    ancestor = parent.copy()
    for _ in range(parent.size):
        inner = ancestor >= 0
        if not inner.any():
            break
        depth[inner] += 1
        ancestor[inner] = parent[ancestor[inner]]
    if (ancestor >= 0).any():
        raise DataError("the parents of the masks go round in a circle")
    return depth


def tree_colours(masks: MaskSet) -> np.ndarray:
    """Return an RGB colour per mask, ``uint8 [N, 3]``, always the same for the same tree.

    The largest child takes the hue of its parent, its siblings take hues around it, and lightness
    changes from level to level: parts look like their whole, and neighbours do not look alike.

    Raises:
        DataError: a mask is its own ancestor.
    """
    depth = tree_depths(masks.parent)
    whole = is_whole(masks)
    # The entry at the end of each, which parent -1 finds, stands above all roots.
    hue = np.full(len(masks) + 1, _FIRST_HUE)
    span = np.full(len(masks) + 1, 360.0)
    shade = np.zeros(len(masks) + 1, np.int64)
    siblings = np.zeros(len(masks) + 1, np.int64)
    for index in np.lexsort((-masks.areas, depth)):
        above = masks.parent[index]
        place = siblings[above]
        siblings[above] += 1
        hue[index] = hue[above] + span[above] * ((0.5 + place * _GOLDEN_RATIO) % 1 - 0.5)
        span[index] = 360.0 if whole[index] else max(_NARROWEST, 0.7 * span[above])
        shade[index] = shade[above] + 1 + place
    colours = _lab_colours(hue[:-1], shade[:-1])
    colours[whole] = _WHOLE_COLOUR
    return colours


def _lab_colours(hue: np.ndarray, shade: np.ndarray) -> np.ndarray:
    """Return ``uint8 [N, 3]`` RGB of one chroma; hue in degrees, shade picks the lightness."""
    angle = np.deg2rad(hue)
    lightness = np.asarray(_LIGHTNESS)[shade % len(_LIGHTNESS)]
    lab = np.stack([lightness, _CHROMA * np.cos(angle), _CHROMA * np.sin(angle)], axis=1)
    # OpenCV takes no empty picture.
    padded = np.concatenate([lab, np.zeros((1, 3))]).astype(np.float32)
    rgb = cv2.cvtColor(padded[None], cv2.COLOR_LAB2RGB)[0, :-1]
    return np.round(rgb.clip(0, 1) * 255).astype(np.uint8)


def is_whole(masks: MaskSet) -> np.ndarray:
    """Return which masks are roots that cover nearly the whole photo, ``bool [N]``."""
    pixels = masks.size[0] * masks.size[1]
    return (masks.parent < 0) & (masks.areas >= WHOLE_SHARE * pixels)


def split_levels(
    granularity: np.ndarray, edges: Sequence[float] = LEVEL_EDGES
) -> list[tuple[float, float, np.ndarray]]:
    """Return ``(low, high, indices)`` of each band; every mask is in exactly one.

    Args:
        granularity: ``float32 [N]`` in [0.1, 1].
        edges: from coarse to fine; the first is 1 and the last 0.1.

    Raises:
        ValueError: edges that do not fall from 1 to 0.1.
    """
    falling = all(first > second for first, second in pairwise(edges))
    if len(edges) < 2 or edges[0] != 1.0 or edges[-1] != 0.1 or not falling:
        raise ValueError(f"edges must fall from 1 to 0.1, got {tuple(edges)}")
    # Read as decimals: the float32 next to 0.2 counts as 0.2.
    rounded = np.round(granularity.astype(np.float64), 6)
    inner = -np.asarray(edges[1:-1], np.float64)
    level = np.searchsorted(inner, -rounded, side="left")
    return [
        (edges[number + 1], edges[number], np.flatnonzero(level == number))
        for number in range(len(edges) - 1)
    ]


def fit_photo(photo: np.ndarray, side: int) -> np.ndarray:
    """Return the photo ``uint8 [H, W, 3]`` with its longer side at `side` pixels."""
    height, width = photo.shape[:2]
    factor = side / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return cv2.resize(photo, size, interpolation=how)


def draw_levels(
    photo: np.ndarray,
    masks: MaskSet,
    palette: np.ndarray,
    edges: Sequence[float] = LEVEL_EDGES,
) -> list[Level]:
    """Draw the masks of each band over the photo, small ones above large ones.

    Pixels outside all masks of the band are grey. Masks are scaled to the photo that is given, so
    a reduced photo makes small pictures.

    Args:
        photo: ``uint8 [h, w, 3]``, RGB.
        masks: of any size of the same photo.
        palette: ``uint8 [N, 3]``, as of `tree_colours`.
        edges: as of `split_levels`.
    """
    height, width = photo.shape[:2]
    fine = (height * _SUPERSAMPLING, width * _SUPERSAMPLING)
    scaled = masks.resize(fine)
    large = cv2.resize(photo, fine[::-1], interpolation=cv2.INTER_LINEAR)
    grey = cv2.cvtColor(cv2.cvtColor(large, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    muted = cv2.addWeighted(large, 0.45, grey, 0.55, 0)
    whole = is_whole(masks)
    levels = []
    for low, high, index in split_levels(masks.granularity, edges):
        labels = scaled.filter(index).label_map()
        # The last entry, which label -1 finds, is for pixels outside.
        tint = np.append(np.where(whole[index], 0.35, 0.62), 0.55).astype(np.float32)[:, None]
        coat = tint * np.concatenate([palette[index], [[255, 255, 255]]]).astype(np.float32)
        outside = (labels < 0).astype(np.uint8)
        drawn = cv2.copyTo(grey, outside, muted.copy()).astype(np.float32)
        drawn *= (1 - tint)[labels]
        drawn += coat[labels]
        border = label_borders(labels)
        drawn[border] = drawn[border] * 0.15 + np.float32(0.85 * 255)
        small = cv2.resize(drawn, (width, height), interpolation=cv2.INTER_AREA)
        image = np.round(small).clip(0, 255).astype(np.uint8)
        levels.append(Level(low, high, index, image))
    return levels


def label_borders(labels: np.ndarray) -> np.ndarray:
    """Return the pixels of ``int [H, W]`` whose left or upper neighbour has another label."""
    border = np.zeros(labels.shape, bool)
    border[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    border[1:] |= labels[1:] != labels[:-1]
    return border
