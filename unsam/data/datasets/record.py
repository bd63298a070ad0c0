"""One photo of a dataset with its masks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unsam.errors import DataError
from unsam.structures import MaskSet


@dataclass(frozen=True)
class ImageRecord:
    """One photo and where its masks are; no pixel is read before it is asked for.

    Attributes:
        image_id: unique within the dataset.
        file_name: absolute path of the photo.
        height: rows of the upright photo.
        width: columns of the upright photo.
        annotations: COCO annotations (any segmentation that COCO knows), or the path of an SA-1B
            style JSON file.
    """

    image_id: int
    file_name: str
    height: int
    width: int
    annotations: list[dict[str, Any]] | Path = field(default_factory=list, repr=False)

    @property
    def size(self) -> tuple[int, int]:
        """``(H, W)`` of the upright photo."""
        return self.height, self.width

    def load_annotations(self) -> list[dict[str, Any]]:
        """Return the COCO annotations, crowd regions included; reads the file if there is one.

        Raises:
            DataError: the file is missing, truncated or of another photo.
        """
        if not isinstance(self.annotations, Path):
            return self.annotations
        record = read_json_object(self.annotations)
        image, annotations = record.get("image"), record.get("annotations")
        if not isinstance(image, dict) or not isinstance(annotations, list):
            raise DataError(f"{self.annotations}: expected 'image' and 'annotations' in it")
        size = (image.get("height"), image.get("width"))
        if size != self.size:
            raise DataError(f"{self.annotations}: masks of size {size}, photo of {self.size}")
        return annotations

    def masks(self) -> MaskSet:
        """Return the masks of the photo, without crowd regions; read and decoded on each call.

        Raises:
            DataError: an annotation cannot be used (an RLE of another size, broken text).
        """
        return self.decode([item for item in self.load_annotations() if not is_crowd(item)])

    def crowd(self) -> MaskSet:
        """Return the regions that an evaluation ignores (``iscrowd`` 1)."""
        return self.decode([item for item in self.load_annotations() if is_crowd(item)])

    def decode(self, annotations: Sequence[dict[str, Any]]) -> MaskSet:
        """Return the masks of some annotations of this photo; errors name the photo."""
        try:
            return MaskSet.from_coco(annotations, self.size)
        except DataError as error:
            raise DataError(f"{self.file_name}: {error}") from None


def is_crowd(annotation: dict[str, Any]) -> bool:
    """Return whether an annotation marks a region to ignore rather than an object."""
    return bool(annotation.get("iscrowd", 0))


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file.

    Raises:
        DataError: missing, unreadable, truncated, not JSON, or JSON but no object.
    """
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: truncated or not JSON ({' '.join(str(error).split())})") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, got a {type(value).__name__}")
    return value


def require_photos(records: Sequence[ImageRecord], source: str) -> None:
    """Check that every photo is on disk.

    Raises:
        DataError: some are not; the line says how many and names the first.
    """
    missing = [item.file_name for item in records if not Path(item.file_name).is_file()]
    if missing:
        raise DataError(
            f"{source}: {len(missing)} of {len(records)} photos are missing, the first is "
            f"{missing[0]}; set DATASETS.IMAGE_ROOT to the folder that holds them"
        )
