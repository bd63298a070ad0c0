"""TSV of Semantic-SAM and UnSAM: ``SAM-<n>.tsv``, one photo with its masks per row.

A row is ``key <tab> JSON <tab> base64 JPEG``; further columns may stand between the last two. The
file ``SAM-<n>.lineidx`` beside it has the byte offset of each row as text, one per line.
"""

from __future__ import annotations

import base64
import itertools
import json
import mmap
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from unsam.annotations.archive import ArchiveSource
from unsam.annotations.records import (
    HEAD_BYTES,
    Entry,
    Failure,
    PhotoFile,
    PhotoRecord,
    Sample,
    name_in_record,
    parse_object,
    read_bytes,
)
from unsam.checkpoint.atomic import atomic_writer, write_text_atomic
from unsam.errors import DataError

TSV_SUFFIX = ".tsv"
INDEX_SUFFIX = ".lineidx"
_NUMBER = re.compile(r"-(\d+)$")


class TsvFiles(ArchiveSource):
    """Reads one TSV file, or those of a folder in order of their numbers."""

    def __init__(self, path: Path, image_root: str | os.PathLike[str] = "") -> None:
        """Name the file or folder; photos come from the rows, so no root is needed."""
        self.path = path
        self.files = tsv_files(path) if path.is_dir() else [path]
        self.roots = (Path(image_root).expanduser(),) if os.fspath(image_root) else ()

    def entries(self) -> Iterator[Entry | Failure]:
        """Yield an entry per row; rows without two columns are failures, empty ones nothing."""
        for file in self.files:
            try:
                offsets = line_offsets(file)
                with file.open("rb") as stream:
                    bounds = [*offsets.tolist(), file.stat().st_size]
                    for line, (start, end) in enumerate(itertools.pairwise(bounds), start=1):
                        entry = _entry(file, stream, start, end, line)
                        if entry is not None:
                            yield entry
            except (DataError, OSError) as error:
                yield Failure(str(file), str(error).removeprefix(f"{file}: "))

    def raw(self, entry: Entry) -> dict[str, Any]:
        """Return the JSON object of one row."""
        return parse_object(self._row(entry).split(b"\t", 2)[1], self.place(entry))

    def photo(self, entry: Entry) -> PhotoFile | None:
        """Return the last column of one row, else the photo on disk."""
        row = self._row(entry)
        first, last = row.find(b"\t"), row.rfind(b"\t")
        if last == first:
            return self.photo_on_disk(entry.name)
        return PhotoFile(entry.file, entry.offset + last + 1, len(row) - last - 1, is_base64=True)

    def place(self, entry: Entry) -> str:
        """Return the file and the line."""
        return f"{entry.file} line {entry.line}"

    def _row(self, entry: Entry) -> bytes:
        row = read_bytes(entry.file, entry.offset, entry.size).rstrip(b"\r\n")
        if b"\n" in row:
            raise DataError(
                f"{self.place(entry)}: its {INDEX_SUFFIX} is of another file; delete it"
            )
        if b"\t" not in row:
            raise DataError(f"{self.place(entry)}: has changed since it was listed")
        return row


def tsv_files(folder: Path) -> list[Path]:
    """Return the TSV files of a folder, in order of the number at the end of their name."""
    found = [path for path in folder.glob(f"*{TSV_SUFFIX}") if not path.name.startswith(".")]
    return sorted(found, key=lambda path: (_number(path), path.name))


def line_offsets(path: Path) -> np.ndarray:
    """Return the byte at which each row starts, ``int64 [N]``.

    Taken from the ``.lineidx`` file where it is right; where it is missing or belongs to another
    file, from the TSV itself, which is then read once.

    Raises:
        DataError: the TSV cannot be read.
    """
    try:
        if not path.stat().st_size:
            return np.zeros(0, np.int64)
        with (
            path.open("rb") as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            known = _listed_offsets(path.with_suffix(INDEX_SUFFIX))
            return known if _fits(known, content) else _found_offsets(content)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def write_lineidx(path: Path, offsets: Iterable[int]) -> None:
    """Write the ``.lineidx`` file of a TSV, whole or not at all."""
    text = "".join(f"{offset}\n" for offset in offsets)
    write_text_atomic(path.with_suffix(INDEX_SUFFIX), text)


def write_tsv(path: Path, samples: Iterable[Sample]) -> None:
    """Write records and their photos to one TSV and its ``.lineidx``.

    Args:
        path: the ``.tsv`` file, replaced if it is there.
        samples: taken one by one; the photos are upright JPEGs.

    Raises:
        StorageError: the disk is full or the folder not writable.
    """
    # An index that belongs to the old rows would mislead readers that trust it.
    path.with_suffix(INDEX_SUFFIX).unlink(missing_ok=True)
    offsets, position = [], 0
    with atomic_writer(path) as stream:
        for record, blob in samples:
            offsets.append(position)
            position += stream.write(tsv_row(record, blob))
    write_lineidx(path, offsets)


def tsv_row(record: PhotoRecord, blob: bytes) -> bytes:
    """Return one row with its line end: key, JSON with both ``id`` and ``image_id``, photo."""
    content = record.to_json()
    content["image"] = {"id": content["image"]["image_id"], **content["image"]}
    # JSON text is ASCII here, so a name with a tab in it breaks neither row nor column.
    key = re.sub(r"[\t\r\n]", "_", record.name).encode("utf-8", "backslashreplace")
    text = json.dumps(content, separators=(",", ":")).encode("ascii")
    return b"\t".join([key, text, base64.b64encode(blob)]) + b"\n"


def _entry(
    file: Path, stream: IO[bytes], start: int, end: int, line: int
) -> Entry | Failure | None:
    """Return the entry of a row after a look at its first bytes; None for an empty row."""
    stream.seek(start)
    head = stream.read(min(HEAD_BYTES, end - start))
    if not head.strip(b"\r\n"):
        return None
    key, tab, begin = head.partition(b"\t")
    if not tab:
        place = f"{file} line {line}"
        return Failure(place, "expected key, JSON and photo with tabs between them")

    def whole() -> bytes:
        return read_bytes(file, start, end - start).split(b"\t", 2)[1]

    name = name_in_record(begin, whole, key.decode("utf-8", "replace"))
    return Entry(name, file, start, end - start, line)


def _listed_offsets(path: Path) -> np.ndarray:
    """Return the numbers of a ``.lineidx`` file; none if it is missing or broken."""
    try:
        rows = path.read_text(encoding="ascii").splitlines()
        return np.array([int(row.split()[0]) for row in rows if row.strip()], np.int64)
    except (OSError, ValueError, OverflowError):
        return np.zeros(0, np.int64)


def _fits(offsets: np.ndarray, content: mmap.mmap) -> bool:
    """Tell whether each offset is the start of a row, and no row follows the last one's."""
    size = len(content)
    if not offsets.size or offsets[0] != 0 or offsets[-1] >= size:
        return False
    if (np.diff(offsets) <= 0).any():
        return False
    if any(content[int(start) - 1] != ord("\n") for start in offsets[1:]):
        return False
    end = content.find(b"\n", int(offsets[-1]))
    return end in (-1, size - 1)


def _found_offsets(content: mmap.mmap) -> np.ndarray:
    starts, position = [], 0
    while 0 <= position < len(content):
        starts.append(position)
        # `find` gives -1 behind the last row, which ends the loop at 0.
        position = content.find(b"\n", position) + 1 or -1
    return np.array(starts, np.int64)


def _number(path: Path) -> int:
    match = _NUMBER.search(path.stem)
    return int(match.group(1)) if match else -1
