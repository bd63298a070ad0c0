"""Random views of a photo and its masks: crop, flip, colour.

The geometry is drawn first, as a `View`: which source row and column each output pixel shows. The
photo is then cropped and resized by OpenCV, and each mask is read at exactly those rows and
columns, so a mask is never made at full size, cropped and scaled in turn.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from unsam.structures import MaskSet, runs
from unsam.structures.photo import resize_photo, scaled_size

_GREY_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class View:
    """A crop of a photo, scaled and perhaps mirrored.

    Attributes:
        top: first source row of the crop.
        left: first source column.
        height: source rows of the crop.
        width: source columns.
        size: ``(h, w)`` of the output.
        mirrored: left and right are swapped.
    """

    top: int
    left: int
    height: int
    width: int
    size: tuple[int, int]
    mirrored: bool

    @property
    def scale(self) -> float:
        """Output pixels per source pixel, as an area ratio."""
        return self.size[0] * self.size[1] / (self.height * self.width)

    def rows(self) -> np.ndarray:
        """Source row under the centre of each output row, ``int64 [h]``."""
        return self.top + _centres(self.height, self.size[0])

    def columns(self) -> np.ndarray:
        """Source column under the centre of each output column, ``int64 [w]``."""
        columns = self.left + _centres(self.width, self.size[1])
        return columns[::-1].copy() if self.mirrored else columns


def draw_view(
    generator: np.random.Generator,
    size: tuple[int, int],
    longer_side: int,
    *,
    crop_scale: tuple[float, float] = (1.0, 1.0),
    flip_probability: float = 0.0,
) -> View:
    """Draw a crop of the photo's own shape and a mirroring.

    Args:
        generator: the sample's own generator.
        size: ``(H, W)`` of the photo.
        longer_side: longer side of the output in pixels.
        crop_scale: range of the crop's side as a share of the photo's, within (0, 1].
        flip_probability: chance of mirroring left and right.
    """
    share = generator.uniform(*crop_scale)
    height = max(1, round(size[0] * share))
    width = max(1, round(size[1] * share))
    top = int(generator.integers(0, size[0] - height + 1))
    left = int(generator.integers(0, size[1] - width + 1))
    mirrored = bool(generator.random() < flip_probability)
    return View(top, left, height, width, scaled_size((height, width), longer_side), mirrored)


def view_photo(photo: np.ndarray, view: View) -> np.ndarray:
    """Return the view of ``photo uint8 [H, W, 3]`` as ``uint8 [h, w, 3]``.

    Pixel areas are averaged when shrinking and interpolated when growing.
    """
    crop = photo[view.top : view.top + view.height, view.left : view.left + view.width]
    output = resize_photo(crop, view.size)
    return np.ascontiguousarray(output[:, ::-1]) if view.mirrored else output


def view_masks(
    masks: MaskSet, order: np.ndarray, view: View, *, limit: int, min_area: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the view of the first masks of `order` that are still large enough in it.

    Args:
        masks: all masks of the photo.
        order: indices of masks, the wanted ones first.
        view: the view, of a photo of ``masks.size``.
        limit: most masks to return; no more than twice as many are looked at.
        min_area: least pixels of a mask in the view.

    Returns:
        ``(bool [M, h, w], int64 [M] indices of the masks)``, M at most `limit`.
    """
    height, width = masks.size
    rows, columns = view.rows(), view.columns()
    # Column by column, as the runs are; one buffer serves all masks.
    flat = np.zeros(height * width, np.uint8)
    grid = flat.reshape(width, height)
    span = slice(view.top, view.top + view.height)
    kept: list[int] = []
    output = np.zeros((min(limit, order.size), *view.size), bool)
    for index in order[: 2 * limit]:
        if len(kept) == output.shape[0]:
            break
        spans = masks.runs_of(index)
        runs.paint(spans, flat, 1)
        # The columns first: whole stretches of memory; then the few rows of those.
        seen = grid[columns, span][:, rows - view.top]
        runs.paint(spans, flat, 0)
        if np.count_nonzero(seen) >= min_area:
            output[len(kept)] = seen.T
            kept.append(int(index))
    return output[: len(kept)], np.array(kept, np.int64)


def draw_order(
    generator: np.random.Generator, granularity: np.ndarray, *, balanced: bool, bins: int = 9
) -> np.ndarray:
    """Return a random order of the masks, ``int64 [N]``.

    Fine masks outnumber coarse ones by far in a hierarchy. With `balanced` each of `bins` equal
    bands of granularity gets the same weight, so that a prefix of the order holds about as many
    masks of each band (weighted sampling without replacement by Efraimidis and Spirakis, 2006).

    Args:
        generator: the sample's own generator.
        granularity: ``float32 [N]`` in [0.1, 1].
        balanced: False draws every mask with the same chance.
        bins: number of bands over [0.1, 1].
    """
    keys = generator.random(granularity.size)
    if balanced:
        band = np.clip(((granularity - 0.1) / 0.9 * bins).astype(np.int64), 0, bins - 1)
        # Key u^(1/w) with w = 1 / (masks in the band), compared by its logarithm.
        keys = np.log(np.maximum(keys, 1e-300)) * np.bincount(band, minlength=bins)[band]
    return np.argsort(-keys, kind="stable")


def jitter_colour(generator: np.random.Generator, photo: np.ndarray, strength: float) -> np.ndarray:
    """Change brightness, contrast and saturation of ``photo uint8 [h, w, 3]`` (RGB) at random.

    Args:
        generator: the sample's own generator.
        photo: 0 to 255.
        strength: each factor is drawn from ``[1 - strength, 1 + strength]``; 0 changes nothing.
    """
    brightness, contrast, saturation = generator.uniform(1 - strength, 1 + strength, 3)
    if strength == 0:
        return photo
    grey = cv2.transform(photo, _GREY_WEIGHTS[None, :])
    mean = float(grey.mean())
    levels = (np.arange(256, dtype=np.float32) - mean) * contrast + mean
    table = np.clip(np.round(levels * brightness), 0, 255).astype(np.uint8)
    grey_rgb = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
    return cv2.LUT(cv2.addWeighted(photo, saturation, grey_rgb, 1 - saturation, 0), table)


def _centres(source: int, target: int) -> np.ndarray:
    """Return the source pixel under the centre of each of `target` output pixels."""
    return ((np.arange(target) + 0.5) * source / target).astype(np.int64)
