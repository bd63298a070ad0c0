"""Reading a photo of any kind as 8-bit RGB, and resizing it."""

from __future__ import annotations

import io
import os
import stat
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from unsam.errors import DataError

BROKEN_PHOTO = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    RuntimeError,
    Image.DecompressionBombError,
)
"""Pillow's decoders report broken files with any of these."""

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")
"""File name endings (lower case) that count as photos when a folder is listed."""

MAX_PIXELS = 178_956_970
"""Photos with more pixels are refused, before any pixel is decoded: a guard against bombs.

Pillow has the same limit.
"""


def read_photo(
    path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS, *, blob: bytes | None = None
) -> np.ndarray:
    """Read one photo as ``uint8 [H, W, 3]``, RGB, 0 to 255, upright (EXIF rotation applied).

    Takes JPEG, PNG, WebP, TIFF and BMP; 1, 8 and 16 bit and float, grey, palette, RGBA (over
    white) and CMYK. 16-bit values are divided by 257; other wide ranges (int32, float) are
    stretched from their minimum and maximum to 0 to 255.

    Args:
        path: the file.
        max_pixels: photos with more are refused.
        blob: the file's content where it is at hand; `path` then only names it in errors.

    Raises:
        DataError: the file is missing, truncated, not a photo, or has over `max_pixels` pixels.
    """
    try:
        # A pipe or device of this name would be read for ever.
        if blob is None and not stat.S_ISREG(Path(path).stat().st_mode):
            raise DataError(f"{path}: is a folder, pipe or device; name a photo")
        with warnings.catch_warnings():
            # Our own limit below speaks for PIL's; odd metadata of readable photos is no news.
            warnings.simplefilter("ignore")
            with Image.open(path if blob is None else io.BytesIO(blob)) as image:
                width, height = image.size
                if width * height > max_pixels:
                    raise DataError(
                        f"{path}: {width}x{height} pixels are over the limit of {max_pixels}; "
                        "reduce the photo first"
                    )
                upright = ImageOps.exif_transpose(image)
                return _to_rgb(upright)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except DataError:
        raise
    except UnidentifiedImageError as error:
        # Pillow names the file or stream once more.
        raise DataError(f"{path}: not a readable photo (of no known format)") from error
    except Image.DecompressionBombError as error:
        raise DataError(
            f"{path}: pixels are over the limit of {max_pixels}; reduce the photo first"
        ) from error
    except BROKEN_PHOTO as error:
        raise DataError(f"{path}: corrupt or truncated photo ({_one_line(error)})") from error


def scaled_size(size: tuple[int, int], longer_side: int) -> tuple[int, int]:
    """Return ``(h, w)`` with the longer side `longer_side` and the shape of `size`, at least 1."""
    scale = longer_side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def resize_photo(photo: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return ``photo uint8 [H, W, 3]`` as ``uint8 [h, w, 3]`` of ``size (h, w)``.

    Pixel areas are averaged when shrinking and interpolated when growing.
    """
    method = cv2.INTER_AREA if size[0] < photo.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(photo, (size[1], size[0]), interpolation=method)


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode in ("I;16", "I;16L", "I;16B", "I;16N"):
        grey = np.asarray(image).astype(np.uint32) // 257
        return _grey_to_rgb(grey.astype(np.uint8))
    if image.mode in ("I", "F"):
        return _grey_to_rgb(_stretch(np.asarray(image)))
    has_alpha = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    if has_alpha:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, rgba)
    return np.ascontiguousarray(np.asarray(image.convert("RGB")))


def _stretch(values: np.ndarray) -> np.ndarray:
    """Map any numbers to uint8; 16-bit data that Pillow widened to int32 keeps its scale."""
    finite = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(finite.min()), float(finite.max())
    if values.dtype.kind == "i" and low >= 0 and high <= 65535:
        return (finite / 257).astype(np.uint8)
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    return np.round((finite - low) * (255.0 / (high - low))).astype(np.uint8)


def _grey_to_rgb(grey: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.repeat(grey[:, :, None], 3, axis=2))


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:160] or type(error).__name__
