"""Checks of what callers of `Segmenter` pass in; each error says what came, and what to pass."""

from __future__ import annotations

import reprlib
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


def check_granularity(
    granularity: float | Sequence[float] | ArrayLike, num_prompts: int | None = None
) -> np.ndarray:
    """Return one or several granularities as ``float32 [G]``.

    Args:
        granularity: a number or a list of numbers.
        num_prompts: how many are needed, of which one is repeated; None takes any but none.

    Raises:
        ValueError: none or too many, or one outside [0.1, 1] or not finite.
    """
    expected = "granularity is a number or a list of numbers in [0.1, 1]"
    values = _numbers(granularity, np.float64, expected)
    if values.ndim > 1 or (values.size == 0 and num_prompts != 0):
        raise ValueError(f"{expected}, got {_shown(granularity)}")
    values = values.reshape(-1)
    if num_prompts is not None:
        if values.size not in (1, num_prompts):
            raise ValueError(
                f"granularity is one for all or one for each of {num_prompts} prompts, "
                f"got {values.size}"
            )
        values = np.broadcast_to(values, num_prompts)
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
    xy = _numbers(points, np.float32, "points are [K, 2] with x and y of each")
    if xy.shape == (0,):
        xy = xy.reshape(0, 2)
    if xy.ndim < 2 or xy.shape[-1] != 2:
        raise ValueError(f"points are [K, 2] with x and y of each, got shape {xy.shape}")
    described = "labels are 1 (on the object) or 0 (off it)"
    given = np.full(xy.shape[:-1], POSITIVE) if labels is None else labels
    kinds = _numbers(given, np.float64, described)
    if kinds.shape != xy.shape[:-1]:
        raise ValueError(
            f"labels need one entry per point: {xy.shape[:-1]} points, {kinds.shape} labels"
        )
    known = (NEGATIVE, POSITIVE, PADDING) if allow_padding else (NEGATIVE, POSITIVE)
    if not np.isin(kinds, known).all():
        raise ValueError(f"{described}, got {_shown(labels)}")
    H, W = size
    inside = (xy >= -0.5).all(-1) & (xy[..., 0] <= W - 0.5) & (xy[..., 1] <= H - 0.5)
    outside = ~inside & (kinds != PADDING)
    if outside.any():
        x, y = xy[outside][0]
        raise ValueError(
            f"point ({x:g}, {y:g}) is outside the image of {W}x{H} pixels (width x height); "
            f"x is in [0, {W - 1}], y in [0, {H - 1}]"
        )
    # Whatever padding holds, NaN too, must not reach the model.
    return np.where(kinds[..., None] == PADDING, 0, xy), kinds.astype(np.int64)


def check_box(box: ArrayLike, size: tuple[int, int]) -> np.ndarray:
    """Return a box as its corners ``float32 [2, 2]``.

    Raises:
        ValueError: not four numbers, no area, or not within the photo of ``(H, W)``.
    """
    expected = "box is (x_min, y_min, x_max, y_max) in pixels"
    corners = _numbers(box, np.float32, expected).reshape(-1)
    if corners.size != 4 or not np.isfinite(corners).all():
        raise ValueError(f"{expected}, got {_shown(box)}")
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
        ValueError: not the shape that the decoder returns for this photo, or not finite.
    """
    described = "mask is the logits of an earlier answer on this image"
    logits = _numbers(mask, np.float32, described)
    if logits.ndim == 2:
        logits = np.repeat(logits[None], count, axis=0)
    if logits.shape != (count, *expected):
        raise ValueError(
            f"{described}, {expected} or {(count, *expected)}; got {np.shape(mask)}; "
            "choose one of several answers"
        )
    if not np.isfinite(logits).all():
        raise ValueError(f"{described}, got NaN or infinity; leave it out")
    return logits


def _numbers(values: Any, dtype: type[np.floating[Any]], expected: str) -> np.ndarray:
    """Return `values` as an array, or say in one line what was expected instead."""
    try:
        return np.asarray(values, dtype)
    except (ValueError, TypeError, RuntimeError):
        raise ValueError(f"{expected}, got {_shown(values)}") from None


def _shown(values: Any) -> str:
    """Return the start of what `repr` says of anything, on one line."""
    return " ".join(reprlib.repr(values).split())
