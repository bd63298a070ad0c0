"""Datasets that keep the masks of a photo in files of their own, as images or MATLAB files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unsam.data.datasets.benchmarks import PublishedCounts
from unsam.data.preparation.prepared import PreparedPhoto, write_prepared
from unsam.errors import DataError

PhotoMasks = tuple[tuple[int, int], list[dict[str, Any]]]
"""``(H, W)`` of the masks in a file, and an annotation with ``segmentation`` for each of them."""


@dataclass(frozen=True)
class AnnotatedPhoto:
    """A photo and the files of its masks.

    Attributes:
        photo: as downloaded.
        truth: files of its masks, one or more.
    """

    photo: Path
    truth: Sequence[Path]


def prepare_truth_files(
    annotated: Sequence[AnnotatedPhoto],
    read: Callable[[Path], PhotoMasks],
    folder: Path,
    output: Path,
    *,
    counts: PublishedCounts | None = None,
    progress: bool = False,
) -> str:
    """Write photos with files of masks as class-agnostic COCO JSON.

    Args:
        annotated: the photos, in the order of the image ids that they get, from 1.
        read: a file of masks.
        folder: that all photos lie in.
        output: the JSON to write; its folder of photos gets a link to `folder`.
        counts: that the set must have, None for a part of it.
        progress: show a bar on standard error.

    Returns:
        One line on what was written.

    Raises:
        DataError: photos or masks are damaged or differ in size, or the counts are others.
        StorageError: the disk is full or the folder not writable.
    """

    def photos() -> Iterator[PreparedPhoto]:
        for item in annotated:
            size, rows = read(item.truth[0])
            for path in item.truth[1:]:
                other, added = read(path)
                if other != size:
                    raise DataError(f"{path}: of size {other}, {item.truth[0]} of {size}")
                rows = rows + added
            name = f"{folder.name}/{item.photo.relative_to(folder).as_posix()}"
            yield PreparedPhoto(item.photo, name, size, rows, {})

    info = {"description": f"{output.stem}, class-agnostic"}
    words: dict[str, Any] = {"info": info, "counts": counts, "progress": progress}
    return write_prepared(output, photos(), [folder], total=len(annotated), **words)
