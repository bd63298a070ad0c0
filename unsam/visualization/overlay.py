"""Masks drawn over photos. All pictures are ``uint8 [H, W, 3]``, RGB."""

from __future__ import annotations

import colorsys
import io
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from unsam.checkpoint.atomic import atomic_writer
from unsam.errors import DataError
from unsam.structures import MaskSet

_GOLDEN_RATIO = 0.618033988749895
_KINDS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_ENCODINGS: dict[str, dict[str, int]] = {
    "PNG": {"optimize": True},
    "JPEG": {"quality": 88},
    "WEBP": {"quality": 82, "method": 4},
}
_POSITIVE, _NEGATIVE = (46, 204, 64), (255, 65, 54)


def colours(count: int) -> np.ndarray:
    """Return `count` RGB colours ``uint8 [count, 3]``, neighbours far apart, always the same."""
    rows = [
        colorsys.hsv_to_rgb(
            (0.05 + index * _GOLDEN_RATIO) % 1,
            0.55 + 0.15 * (index % 3),
            0.95 - 0.1 * (index % 2),
        )
        for index in range(count)
    ]
    return np.round(np.array(rows, np.float64).reshape(-1, 3) * 255).astype(np.uint8)


def draw_labels(image: np.ndarray, labels: np.ndarray, alpha: float = 0.55) -> np.ndarray:
    """Tint every region of a label map and draw its border.

    Args:
        image: ``uint8 [H, W, 3]``.
        labels: ``int [H, W]``; -1 is left as it is.
        alpha: share of the tint, 0 to 1.
    """
    values, codes = np.unique(labels, return_inverse=True)
    codes = codes.reshape(labels.shape)
    palette = colours(values.size)
    tint = palette[codes]
    inside = (labels >= 0)[:, :, None]
    mixed = np.where(inside, image * (1 - alpha) + tint * alpha, image)
    border = np.zeros(labels.shape, bool)
    border[:, 1:] |= codes[:, 1:] != codes[:, :-1]
    border[1:] |= codes[1:] != codes[:-1]
    mixed[border] = mixed[border] * 0.25 + 255 * 0.75
    return np.round(mixed).astype(np.uint8)


def draw_masks(image: np.ndarray, masks: MaskSet, alpha: float = 0.55) -> np.ndarray:
    """Tint masks over a photo ``uint8 [H, W, 3]``, large ones below, and outline each in white."""
    canvas = image.astype(np.float32)
    palette = colours(len(masks))
    for index in np.argsort(-masks.areas, kind="stable"):
        mask = masks.mask(int(index))
        canvas[mask] = canvas[mask] * (1 - alpha) + palette[index] * alpha
        outline, _ = cv2.findContours(
            mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(canvas, outline, -1, (255, 255, 255), 1, cv2.LINE_AA)
    return np.round(canvas).clip(0, 255).astype(np.uint8)


def draw_points(
    image: np.ndarray, points: np.ndarray, labels: Sequence[int] | np.ndarray
) -> np.ndarray:
    """Draw clicks: green positive, red negative, with a white rim.

    Args:
        image: ``uint8 [H, W, 3]``.
        points: ``[K, 2]``, x and y in pixels.
        labels: K numbers, 1 positive and 0 negative.
    """
    canvas = image.copy()
    radius = max(4, round(max(image.shape[:2]) / 90))
    for (x, y), label in zip(np.asarray(points), labels, strict=True):
        centre = (round(float(x)), round(float(y)))
        cv2.circle(canvas, centre, radius + 2, (255, 255, 255), -1, cv2.LINE_AA)
        cv2.circle(canvas, centre, radius, _POSITIVE if label else _NEGATIVE, -1, cv2.LINE_AA)
    return canvas


def hstack(images: Sequence[np.ndarray], gap: int = 6) -> np.ndarray:
    """Set pictures of one height side by side on white, `gap` pixels apart."""
    height = max(image.shape[0] for image in images)
    columns: list[np.ndarray] = []
    for image in images:
        if columns:
            columns.append(np.full((height, gap, 3), 255, np.uint8))
        pad = np.full((height - image.shape[0], image.shape[1], 3), 255, np.uint8)
        columns.append(np.concatenate([image, pad]))
    return np.concatenate(columns, axis=1)


def encode_image(image: np.ndarray, kind: str = "PNG") -> bytes:
    """Return ``uint8 [H, W, 3]`` as the bytes of a PNG, JPEG or WEBP file."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **_ENCODINGS[kind])
    return stream.getvalue()


def picture_kind(path: str | os.PathLike[str]) -> str:
    """Return the file format that a file name asks for: PNG, JPEG or WEBP.

    Raises:
        DataError: another ending.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _KINDS:
        raise DataError(f"{path}: cannot write this kind of picture; end it in {', '.join(_KINDS)}")
    return _KINDS[suffix]


def save_picture(image: np.ndarray, path: str | os.PathLike[str]) -> None:
    """Write ``uint8 [H, W, 3]`` in the format that the name ends in, whole or not at all.

    Raises:
        DataError: the name ends in none of .png, .jpg, .jpeg and .webp.
    """
    blob = encode_image(image, picture_kind(path))
    with atomic_writer(path) as stream:
        stream.write(blob)


def save_png(image: np.ndarray, path: str | os.PathLike[str]) -> None:
    """Write ``uint8 [H, W, 3]`` as a PNG file, whole or not at all."""
    with atomic_writer(path) as stream:
        stream.write(encode_image(image))
