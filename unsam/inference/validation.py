"""Checks of what callers of `Segmenter` pass in; each error says what came, and what to pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from unsam.modeling.granularity_encoding import MAX_GRANULARITY, MIN_GRANULARITY
from unsam.modeling.prompts import NEGATIVE, PADDING, POSITIVE

# Half a unit in the last place of a float32 near 0.1, for callers that compute in float32.
_TOLERANCE = 1e-6


def check_photo(image: Any) -> np.ndarray:
    """Return `image` if it is a photo.

    Raises:
        ValueError: anything but a ``uint8 [H, W, 3]`` array with at least one pixel.
    """
    if not isinstance(image, np.ndarray):
        raise ValueError(
            f"image is a NumPy array uint8 [H, W, 3] in RGB, got {type(image).__name__}; "
            "unsam.structures.read_photo reads one from a file"
        )
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"image is [H, W, 3] in RGB with at least one pixel, got {image.shape}")
    if image.dtype != np.uint8:
        raise ValueError(f"image is uint8 from 0 to 255, got {image.dtype}; convert it first")
    return image


def check_granularity(granularity: float | Sequence[float] | ArrayLike) -> np.ndarray:
    """Return one or several granularities as ``float32 [G]``.

    Raises:
        ValueError: none, or one outside [0.1, 1] or not finite.
    """
    values = np.asarray(granularity, np.float64).reshape(-1)
    if values.size == 0:
        raise ValueError("granularity is a number or a list of numbers in [0.1, 1], got none")
    low, high = MIN_GRANULARITY - _TOLERANCE, MAX_GRANULARITY + _TOLERANCE
    wrong = values[~((values >= low) & (values <= high))]
    if wrong.size:
        raise ValueError(
            f"granularity is in [0.1, 1], 0.1 the finest part and 1 the whole; got {wrong[0]:g}"
        )
    return values.clip(MIN_GRANULARITY, MAX_GRANULARITY).astype(np.float32)


def check_points(
    points: ArrayLike,
    labels: ArrayLike | None,
    size: tuple[int, int],
    *,
    allow_padding: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Return points ``float32 [..., K, 2]`` and labels ``int64 [..., K]``.

    Args:
        points: x and y in pixels of the photo, the centre of the first pixel at (0, 0).
        labels: 1 on the object, 0 off it; None for 1 everywhere.
        size: ``(H, W)`` of the photo.
        allow_padding: whether label -1, at any position, marks a point that does not count.

    Raises:
        ValueError: other shapes, other labels, or a point outside the photo.
    """
    xy = np.asarray(points, np.float32)
    if xy.ndim < 2 or xy.shape[-1] != 2:
        raise ValueError(f"points are [K, 2] with x and y of each, got shape {xy.shape}")
    kinds = np.full(xy.shape[:-1], POSITIVE) if labels is None else np.asarray(labels)
    if kinds.shape != xy.shape[:-1]:
        raise ValueError(
            f"labels need one entry per point: {xy.shape[:-1]} points, {kinds.shape} labels"
        )
    known = (NEGATIVE, POSITIVE, PADDING) if allow_padding else (NEGATIVE, POSITIVE)
    if not np.isin(kinds, known).all():
        raise ValueError("labels are 1 (on the object) or 0 (off it)")
    H, W = size
    inside = (xy >= -0.5).all(-1) & (xy[..., 0] <= W - 0.5) & (xy[..., 1] <= H - 0.5)
    outside = ~inside & (kinds != PADDING)
    if outside.any():
        x, y = xy[outside][0]
        raise ValueError(
            f"point ({x:g}, {y:g}) is outside the image of {W}x{H} pixels (width x height); "
            f"x is in [0, {W - 1}], y in [0, {H - 1}]"
        )
    return xy, kinds.astype(np.int64)


def check_box(box: ArrayLike, size: tuple[int, int]) -> np.ndarray:
    """Return a box as its corners ``float32 [2, 2]``.

    Raises:
        ValueError: not four numbers, no area, or not within the photo of ``(H, W)``.
    """
    corners = np.asarray(box, np.float32).reshape(-1)
    if corners.size != 4 or not np.isfinite(corners).all():
        raise ValueError(f"box is (x_min, y_min, x_max, y_max) in pixels, got {box!r}")
    x_min, y_min, x_max, y_max = corners.tolist()
    if x_max <= x_min or y_max <= y_min:
        raise ValueError(
            f"box ({x_min:g}, {y_min:g}, {x_max:g}, {y_max:g}) has no area; it is "
            "(x_min, y_min, x_max, y_max) with the maxima beyond the minima"
        )
    H, W = size
    if x_min < 0 or y_min < 0 or x_max > W or y_max > H:
        raise ValueError(
            f"box ({x_min:g}, {y_min:g}, {x_max:g}, {y_max:g}) reaches outside the image of "
            f"{W}x{H} pixels (width x height); clip it first"
        )
    return corners.reshape(2, 2)


def check_mask(mask: Any, count: int, expected: tuple[int, int]) -> np.ndarray:
    """Return earlier logits as ``float32 [count, h, w]``; one mask is repeated for all prompts.

    Raises:
        ValueError: not the shape that the decoder returns for this photo.
    """
    logits = np.asarray(mask, np.float32)
    if logits.ndim == 2:
        logits = np.repeat(logits[None], count, axis=0)
    if logits.shape != (count, *expected):
        raise ValueError(
            f"mask is the logits of an earlier answer on this image, {expected} or "
            f"{(count, *expected)}; got {np.shape(mask)}"
        )
    return logits
