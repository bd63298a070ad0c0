"""One photo of a dataset with its masks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unsam.annotations.records import parse_object, read_bytes
from unsam.errors import DataError
from unsam.structures import MaskSet, read_photo
from unsam.structures.mask_formats import split_sa1b

Annotations = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One photo and where its masks are; nothing is read or decoded before it is asked for.

    Small and picklable, so that data loading processes can share hundreds of thousands of them.

    Attributes:
        image_id: unique within the dataset.
        file_name: absolute path of the photo; for one within an archive, that of the archive with
            the photo's name behind it.
        height: rows of the upright photo, 0 where only its annotations say; see `size`.
        width: columns, likewise.
        annotations: COCO annotations (any segmentation that COCO knows), as a list or as the JSON
            text of one, or the path of an SA-1B style JSON file.
    """

    image_id: int
    file_name: str
    height: int
    width: int
    annotations: Annotations | bytes | Path = field(default_factory=list, repr=False)

    @property
    def size(self) -> tuple[int, int]:
        """``(H, W)`` of the upright photo; read from its annotations where it is not known.

        Raises:
            DataError: as `read_annotations`.
        """
        return (self.height, self.width) if self.height else self.read_annotations()[0]

    def read_photo(self) -> np.ndarray:
        """Return the upright photo, ``uint8 [H, W, 3]`` RGB.

        Raises:
            DataError: it is missing or broken.
        """
        return read_photo(self.file_name)

    def read_annotations(self) -> tuple[tuple[int, int], Annotations]:
        """Return ``(H, W)`` and the COCO annotations, crowd regions included.

        Raises:
            DataError: their file is missing, truncated or of another photo.
        """
        if isinstance(self.annotations, bytes):
            return (self.height, self.width), json.loads(self.annotations)
        if not isinstance(self.annotations, Path):
            return (self.height, self.width), self.annotations
        size, items = checked_record(read_json_object(self.annotations), str(self.annotations))
        if self.height and size != (self.height, self.width):
            expected = (self.height, self.width)
            raise DataError(f"{self.annotations}: masks of size {size}, photo of {expected}")
        return size, items

    def load_annotations(self) -> Annotations:
        """Return the second part of `read_annotations`."""
        return self.read_annotations()[1]

    def masks(self) -> MaskSet:
        """Return the masks of the photo, without crowd regions; read and decoded on each call.

        Raises:
            DataError: an annotation cannot be used (an RLE of another size, broken text).
        """
        size, items = self.read_annotations()
        return self.decode([item for item in items if not is_crowd(item)], size)

    def crowd(self) -> MaskSet:
        """Return the regions that an evaluation ignores (``iscrowd`` 1)."""
        size, items = self.read_annotations()
        return self.decode([item for item in items if is_crowd(item)], size)

    def decode(
        self, annotations: Sequence[dict[str, Any]], size: tuple[int, int] | None = None
    ) -> MaskSet:
        """Return the masks of some annotations of this photo.

        Args:
            annotations: of those that `read_annotations` gave.
            size: the size that it gave; None takes that of the record.

        Raises:
            DataError: one cannot be used; the line names the photo.
        """
        try:
            return MaskSet.from_coco(annotations, size or self.size)
        except DataError as error:
            raise DataError(f"{self.file_name}: {error}") from None
        except (TypeError, ValueError, OverflowError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise DataError(
                f"{self.file_name}: an annotation has a field of the wrong kind ({reason})"
            ) from None


def is_crowd(annotation: dict[str, Any]) -> bool:
    """Return whether an annotation marks a region to ignore rather than an object."""
    return bool(annotation.get("iscrowd", 0))


def checked_record(record: Mapping[str, Any], place: str) -> tuple[tuple[int, int], Annotations]:
    """Return ``(H, W)`` and the annotations of an SA-1B style record that was read at `place`.

    Raises:
        DataError: no size, no annotations, or annotations that are no objects.
    """
    try:
        size, items = split_sa1b(record)
    except DataError as error:
        raise DataError(f"{place}: {error}") from None
    if min(size) < 1 or not all(isinstance(item, dict) for item in items):
        raise DataError(
            f"{place}: expected a photo of 1x1 pixel or more and a list of JSON objects, got "
            f"{size[1]}x{size[0]} pixels and {len(items)} annotations"
        )
    return size, items


def read_json_object(
    path: Path, hook: Callable[[dict[str, Any]], Any] | None = None
) -> dict[str, Any]:
    """Return the JSON object of a file; `hook` may replace each inner object, see `json.loads`.

    Raises:
        DataError: missing, unreadable, truncated, not JSON, or JSON but no object.
    """
    return parse_object(read_bytes(path), str(path), hook)


def require_photos(missing: Sequence[str], total: int, source: str) -> None:
    """Raise if photos are missing.

    Args:
        missing: their paths.
        total: photos of the dataset.
        source: its path.

    Raises:
        DataError: some are; the line says how many and names the first.
    """
    if missing:
        raise DataError(
            f"{source}: {len(missing)} of {total} photos are missing, the first is "
            f"{missing[0]}; set DATASETS.IMAGE_ROOT to the folder that holds them"
        )
