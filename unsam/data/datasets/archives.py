"""Tars (SA-1B's own, WebDataset shards) and TSV as datasets; samples are read at their offsets."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from unsam.annotations.archive import ArchiveSource
from unsam.annotations.records import AnnotationSource, Entry, Failure
from unsam.annotations.shards import SHARD_SUFFIX
from unsam.annotations.tars import TarShards, tar_files
from unsam.annotations.tsv import TSV_SUFFIX, TsvFiles, tsv_files
from unsam.data.datasets.record import Annotations, ImageRecord, checked_record
from unsam.errors import DataError
from unsam.structures import read_photo


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedRecord(ImageRecord):
    """A photo that lies in an archive together with its masks; no file stays open.

    Attributes:
        source: reads the archive; one for all records of it.
        entry: where the sample is.
    """

    source: ArchiveSource = field(repr=False, compare=False)
    entry: Entry

    def read_photo(self) -> np.ndarray:
        """Return the upright photo, ``uint8 [H, W, 3]`` RGB.

        Raises:
            DataError: there is none, or it is broken.
        """
        photo = self.source.photo(self.entry)
        if photo is None:
            raise DataError(
                f"{self.file_name}: the photo is not in the archive; set DATASETS.IMAGE_ROOT to "
                "the folder that holds it"
            )
        try:
            blob = photo.read()
        except DataError as error:
            raise DataError(f"{self.file_name}: {error}") from None
        return read_photo(self.file_name, blob=blob)

    def read_annotations(self) -> tuple[tuple[int, int], Annotations]:
        """Return ``(H, W)`` and the COCO annotations, crowd regions included.

        Raises:
            DataError: the archive has changed, or the sample is broken.
        """
        return checked_record(self.source.raw(self.entry), self.source.place(self.entry))


def has_archives(path: Path) -> bool:
    """Return whether a path is a tar or TSV, or a folder of such files."""
    if path.is_dir():
        return bool(tar_files(path) or tsv_files(path))
    return path.suffix in (SHARD_SUFFIX, TSV_SUFFIX)


def load_archives(
    path: str | os.PathLike[str], image_root: str | os.PathLike[str] = ""
) -> list[ImageRecord]:
    """Read the list of samples of a tar or TSV, or of all such files of a folder.

    Of tars the headers are read, of TSV the first bytes of each row; photos and masks are not.

    Args:
        path: the file or folder; a folder has tars or TSV, not both.
        image_root: folder of photos that are not in the archives.

    Returns:
        One record per sample in order of file names and offsets; `image_id` counts from 1.

    Raises:
        DataError: an archive is damaged or cut off, or a sample has no masks.
    """
    root = Path(path).expanduser().resolve()
    source = _open(root, image_root)
    return [
        ArchivedRecord(
            image_id=number,
            file_name=f"{entry.file}/{entry.name}",
            height=0,
            width=0,
            source=source,
            entry=entry,
        )
        for number, entry in enumerate(sound_entries(source), start=1)
    ]


def sound_entries(source: AnnotationSource) -> list[Entry]:
    """Return the entries of files of masks.

    Raises:
        DataError: one cannot be used; nothing is left out quietly.
    """
    listed = list(source.entries())
    failures = [item for item in listed if isinstance(item, Failure)]
    if failures:
        raise DataError(
            f"{source.path}: {len(failures)} of {len(listed)} entries cannot be used, the first "
            f"is {failures[0].place}: {failures[0].reason}; mend, fetch again or remove it"
        )
    return [item for item in listed if isinstance(item, Entry)]


def _open(root: Path, image_root: str | os.PathLike[str]) -> ArchiveSource:
    if not root.is_dir():
        kind: type[TarShards | TsvFiles] = TsvFiles if root.suffix == TSV_SUFFIX else TarShards
        return kind(root, image_root)
    if tsv_files(root) and tar_files(root):
        raise DataError(f"{root}: holds both TSV and tar files; give a folder with one kind")
    return TsvFiles(root, image_root) if tsv_files(root) else TarShards(root, image_root)
