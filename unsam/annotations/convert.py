"""Files of masks from one format to another, photo by photo."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from unsam.annotations.coco import coco_path, write_coco
from unsam.annotations.folders import MANIFEST, JsonFolderWriter, check_manifest
from unsam.annotations.formats import FORMATS, check_output, open_source
from unsam.annotations.photos import as_jpeg, check_photo
from unsam.annotations.records import AnnotationSource, Failure, PhotoRecord, Sample
from unsam.annotations.shards import SHARD_SUFFIX
from unsam.annotations.tars import tar_files, write_tar
from unsam.annotations.tsv import TSV_SUFFIX, tsv_files, write_tsv
from unsam.errors import DataError

ROWS_PER_FILE = 1000
# Key in the config of the manifests that a conversion writes.
_MADE_BY = "CONVERTED_FROM"
TSV_NAME = f"SAM-{{}}{TSV_SUFFIX}"
TAR_NAME = f"shard-{{:06d}}{SHARD_SUFFIX}"


@dataclass
class ConversionCounts:
    """What a conversion did.

    Attributes:
        photos: written.
        masks: written, crowd regions included.
        failures: place of each record that could not be used, and why.
    """

    photos: int = 0
    masks: int = 0
    failures: dict[str, str] = field(default_factory=dict)


def convert_annotations(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    to: str,
    *,
    image_root: str | os.PathLike[str] = "",
    rows_per_file: int = ROWS_PER_FILE,
    strict: bool = False,
    progress: bool = False,
) -> ConversionCounts:
    """Write files of masks in another format; see docs/annotations.md for the formats.

    One photo is in memory at a time. Files are whole or not there, and equal input gives equal
    bytes. Every field of an annotation travels along.

    Args:
        source: a folder, COCO JSON, TSV or tar (`open_source`).
        destination: a folder; for COCO also a ``.json`` file. Not the source.
        to: ``json`` (one per photo), ``coco``, ``tsv`` or ``webdataset``.
        image_root: where the photos are; "" looks where the source says, inside it and beside it.
            TSV and WebDataset take the photos in. JSON and COCO leave those that are files where
            they are, and write those from a TSV or tar to the folder ``images``.
        rows_per_file: photos per TSV or tar.
        strict: raise if a record could not be used, after all the others are done.
        progress: show a bar on standard error.

    Raises:
        DataError: an argument is wrong, no record could be used, or `strict` and one could not.
        StorageError: the disk is full or the folder not writable.
    """
    target = _check_arguments(source, destination, to, rows_per_file)
    opened = open_source(source, image_root)
    counts = ConversionCounts()
    with tqdm(_samples(opened, counts, to), unit="photo", disable=not progress) as bar:
        samples = iter(bar)
        first = next(samples, None)
        if first is not None:
            _write(target, itertools.chain([first], samples), to, rows_per_file, opened, counts)
    _check_outcome(counts, opened.path, strict)
    return counts


def _check_arguments(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    to: str,
    rows_per_file: int,
) -> Path:
    """Return the path to write to."""
    if to not in FORMATS:
        raise DataError(f"'{to}' is no format to convert to; choose one of {', '.join(FORMATS)}")
    if rows_per_file < 1:
        raise DataError(f"{rows_per_file} rows per file: at least 1 is needed")
    paths = (Path(destination).expanduser(), coco_path(Path(destination).expanduser()))
    if os.fspath(source) and Path(source).expanduser().resolve() in [p.resolve() for p in paths]:
        raise DataError(f"{destination}: the output is the input; choose another folder")
    target = check_output(destination, to)
    if to == "json":
        check_manifest(target / MANIFEST, _MADE_BY)
    return target


def _samples(source: AnnotationSource, counts: ConversionCounts, to: str) -> Iterator[Sample]:
    """Yield each usable record, with its photo's bytes where they are to be written; count."""
    # In TSV and tars a name may come twice, and no list of all is kept.
    names: set[str] | None = set() if to in ("json", "coco") else None
    for entry in source.entries():
        if isinstance(entry, Failure):
            counts.failures[entry.place] = entry.reason
            continue
        place = source.place(entry)
        try:
            record = source.read(entry)
            blob = _photo_for(record, to)
            if names is not None:
                if record.name in names:
                    raise DataError(f"a second record of the photo {record.name}")
                names.add(record.name)
        except DataError as error:
            counts.failures[place] = str(error).removeprefix(f"{place}: ")
            continue
        yield record, blob
        counts.photos += 1
        counts.masks += len(record.shapes)


def _photo_for(record: PhotoRecord, to: str) -> bytes:
    """Return the bytes that a format takes in; none for photos that stay where they are."""
    takes_all = to in ("tsv", "webdataset")
    if record.photo is None:
        if takes_all:
            raise DataError(f"no photo {record.name} was found; name its folder (--image-root)")
        return b""
    if not (takes_all or record.photo.is_embedded):
        return b""
    blob = record.photo.read()
    if to == "tsv":
        return as_jpeg(blob, record.size)
    check_photo(blob, record.size)
    return blob


def _write(
    target: Path,
    samples: Iterator[Sample],
    to: str,
    rows_per_file: int,
    opened: AnnotationSource,
    counts: ConversionCounts,
) -> None:
    if to == "json":
        writer = JsonFolderWriter(target, opened.photo_root(), opened.supervised)
        for record, blob in samples:
            writer.add(record.to_json(), blob, record.sha256)
        writer.finish({_MADE_BY: str(opened.path.absolute())}, counts.failures)
    elif to == "coco":
        write_coco(coco_path(target), samples, opened.photo_root())
    elif to == "tsv":
        written = _write_numbered(target, TSV_NAME, write_tsv, samples, rows_per_file)
        _check_leftovers(target, set(tsv_files(target)) - written)
    else:
        written = _write_numbered(target, TAR_NAME, write_tar, samples, rows_per_file)
        _check_leftovers(target, set(tar_files(target)) - written)


def _write_numbered(
    target: Path,
    name: str,
    write: Callable[[Path, Iterable[Sample]], None],
    samples: Iterator[Sample],
    rows_per_file: int,
) -> set[Path]:
    """Write so many samples to each file and return the files; no more than one is in memory."""
    written: set[Path] = set()
    for first in samples:
        path = target / name.format(len(written))
        write(path, itertools.chain([first], itertools.islice(samples, rows_per_file - 1)))
        written.add(path)
    return written


def _check_leftovers(target: Path, others: set[Path]) -> None:
    """Refuse a folder in which readers would find more than was written now."""
    if others:
        raise DataError(
            f"{target}: all is written, but {len(others)} older files of this kind are there too, "
            f"such as {min(others).name}; delete them or choose an empty folder"
        )


def _check_outcome(counts: ConversionCounts, source: Path, strict: bool) -> None:
    if counts.photos and not (strict and counts.failures):
        return
    total = counts.photos + len(counts.failures)
    if not total:
        raise DataError(f"{source}: no photo with masks in it")
    place, reason = next(iter(counts.failures.items()))
    many = "none" if not counts.photos else f"{len(counts.failures)}"
    could = "could be used" if not counts.photos else "could not be used"
    raise DataError(f"{source}: {many} of {total} records {could} ({place}: {reason})")
