"""What all preparations share: photos that are checked and linked, and the file of their masks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from unsam.annotations.coco import write_coco
from unsam.annotations.photos import check_photo
from unsam.annotations.records import PhotoRecord, Sample, make_record, read_bytes
from unsam.checkpoint.atomic import StorageError
from unsam.data.datasets.benchmarks import PublishedCounts
from unsam.data.datasets.coco import prepared_photos
from unsam.errors import DataError


@dataclass(frozen=True)
class PreparedPhoto:
    """One photo of a dataset and what people drew on it.

    Attributes:
        path: the photo as downloaded.
        name: its name below ``images`` of the prepared set.
        size: ``(H, W)``.
        annotations: with ``segmentation`` as COCO has it; other fields are kept.
        fields: further fields of the image.
    """

    path: Path
    name: str
    size: tuple[int, int]
    annotations: list[dict[str, Any]]
    fields: Mapping[str, Any]


def write_prepared(
    path: Path,
    photos: Iterable[PreparedPhoto],
    folders: Sequence[Path],
    *,
    total: int,
    info: Mapping[str, str],
    counts: PublishedCounts | None = None,
    progress: bool = False,
) -> str:
    """Check photos, write their masks as one COCO JSON and link the photos beside it.

    Args:
        path: the JSON, replaced if it is there; `prepared_photos` of it gets a link to each folder.
        photos: taken one by one.
        folders: the folders of the photos, each of another name.
        total: number of photos, for the bar.
        info: description and licence.
        counts: that the set must have, None for a part of it.
        progress: show a bar on standard error.

    Returns:
        One line on what was written.

    Raises:
        DataError: a photo is damaged or of another size than its masks, masks are broken, or the
            counts are others; the JSON is left as it was.
        StorageError: the disk is full or the folder not writable.
    """
    if counts:
        counts.require_photos(total, path.name)
    written = {"photos": 0, "masks": 0, "targets": 0}

    def samples() -> Iterator[Sample]:
        bar = tqdm(photos, total=total, unit="photo", disable=not progress)
        for number, photo in enumerate(bar, start=1):
            record = _record(photo, number, path)
            written["photos"] += 1
            written["masks"] += len(record.annotations)
            written["targets"] += sum(not item.get("iscrowd") for item in record.annotations)
            yield record, b""
        # Before the file is put in its place.
        if counts:
            counts.require_masks(written["targets"], path.name)

    write_coco(path, samples(), info=info)
    for folder in folders:
        link_photos(folder, prepared_photos(path))
    return f"{written['photos']} photos, {written['masks']} masks in {path}"


def link_photos(folder: Path, output: Path) -> None:
    """Link a folder of photos as ``output/<its name>``; one that is there already stays.

    Raises:
        DataError: another folder has that name.
        StorageError: the link cannot be made.
    """
    link, target = output / folder.name, folder.resolve()
    if link.exists() and link.resolve() == target:
        return
    if link.is_symlink() or link.exists():
        raise DataError(f"{link}: is another folder than {target}; remove it, or choose another")
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target, target_is_directory=True)
    except OSError as error:
        raise StorageError(f"cannot write {link}: {error.strerror or error}") from error


def require_files(paths: Sequence[Path], total: int, what: str) -> None:
    """Raise if a download lacks files.

    Args:
        paths: the files that are not there.
        total: how many there should be.
        what: what they are, for the message.

    Raises:
        DataError: some are missing; the line says how many and names the first.
    """
    if paths:
        raise DataError(
            f"{len(paths)} of {total} {what} are missing, the first is {paths[0]}; the download "
            "is not complete, or another folder is meant"
        )


def _record(photo: PreparedPhoto, number: int, path: Path) -> PhotoRecord:
    try:
        check_photo(read_bytes(photo.path), photo.size)
    except DataError as error:
        reason = str(error).removeprefix(f"{photo.path}: ")
        raise DataError(f"{photo.path}: {reason}; fetch it again") from None
    height, width = photo.size
    image = {"image_id": number, **photo.fields, "height": height, "width": width}
    raw = {"image": image, "annotations": photo.annotations}
    return make_record(raw, photo.name, f"{path.name}, photo {photo.name}")
