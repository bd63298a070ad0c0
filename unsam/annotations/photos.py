"""The bytes of photos that travel with their masks."""

from __future__ import annotations

import io
import warnings

from PIL import Image, UnidentifiedImageError

from unsam.errors import DataError
from unsam.structures.photo import BROKEN_PHOTO, MAX_PIXELS, read_photo

JPEG_QUALITY = 95
_ORIENTATION = 0x0112
_UPRIGHT = 1
# Cameras write several pictures into one JPEG file and Pillow calls that MPO.
_JPEG_FORMATS = ("JPEG", "MPO")
_END_OF_IMAGE = b"\xff\xd9"
# Some programs pad a JPEG after its end.
_TAIL_BYTES = 4096


def check_photo(blob: bytes, size: tuple[int, int]) -> tuple[str, int]:
    """Check that bytes are a whole photo of a size; pixels are decoded only in case of doubt.

    Args:
        blob: the file of the photo.
        size: ``(H, W)`` that its masks have, upright.

    Returns:
        The format as Pillow calls it, and the EXIF orientation (1 is upright).

    Raises:
        DataError: no photo, cut off, or of another size.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind, (width, height), orientation = _looked_at(blob)
    except UnidentifiedImageError:
        raise DataError("the photo is in no known format, or damaged") from None
    except DataError:
        raise
    except BROKEN_PHOTO as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"the photo is damaged or cut off ({reason})") from None
    if orientation in (5, 6, 7, 8):
        width, height = height, width
    if (height, width) != size:
        raise DataError(f"masks of size {size}, photo of {(height, width)}")
    return kind, orientation


def _looked_at(blob: bytes) -> tuple[str, tuple[int, int], int]:
    """Return format, ``(width, height)`` as stored and EXIF orientation of a whole photo."""
    with Image.open(io.BytesIO(blob)) as image:
        kind, (width, height) = str(image.format), image.size
        if width * height > MAX_PIXELS:
            raise DataError(f"the photo has {width}x{height} pixels, over the limit {MAX_PIXELS}")
        orientation = int(image.getexif().get(_ORIENTATION, _UPRIGHT))
        if kind in _JPEG_FORMATS and _END_OF_IMAGE not in blob[-_TAIL_BYTES:]:
            image.load()
    if kind not in _JPEG_FORMATS:
        with Image.open(io.BytesIO(blob)) as image:
            image.verify()
    return kind, (width, height), orientation


def as_jpeg(blob: bytes, size: tuple[int, int]) -> bytes:
    """Return a photo as an upright JPEG: the same bytes if it is one, else encoded anew.

    Args:
        blob: the file of the photo, any format that `read_photo` takes.
        size: ``(H, W)`` of its masks.

    Raises:
        DataError: the photo is damaged or of another size.
    """
    kind, orientation = check_photo(blob, size)
    if kind in _JPEG_FORMATS and orientation == _UPRIGHT:
        return blob
    pixels = read_photo("the photo", blob=blob)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG", quality=JPEG_QUALITY)
    return encoded.getvalue()
