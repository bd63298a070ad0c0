"""Tars of photos and masks: those of SA-1B, and WebDataset shards."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from unsam.annotations.archive import ArchiveSource
from unsam.annotations.folders import MANIFEST
from unsam.annotations.records import (
    HEAD_BYTES,
    Entry,
    Failure,
    PhotoFile,
    Sample,
    name_in_record,
    parse_object,
    read_bytes,
)
from unsam.annotations.shards import (
    SHARD_SUFFIX,
    ShardMember,
    ShardSample,
    list_shard,
    write_shard,
)
from unsam.errors import DataError
from unsam.structures import PHOTO_SUFFIXES

_JSON = "json"


class TarShards(ArchiveSource):
    """Reads one tar, or those of a folder in order of their names; an index holds offsets only."""

    def __init__(self, path: Path, image_root: str | os.PathLike[str] = "") -> None:
        """Name the file or folder; photos come from the tars where they hold them.

        Raises:
            DataError: a manifest beside the tars is broken.
        """
        self.path = path
        self.files = tar_files(path) if path.is_dir() else [path]
        if (path / MANIFEST).is_file():
            manifest = parse_object(read_bytes(path / MANIFEST), str(path / MANIFEST))
            self.supervised = manifest.get("supervised") is True
        self.roots = (Path(image_root).expanduser(),) if os.fspath(image_root) else ()

    def entries(self) -> Iterator[Entry | Failure]:
        """Yield an entry per sample; a damaged tar gives its whole samples and a failure."""
        for file in self.files:
            try:
                listing = list_shard(file)
            except DataError as error:
                yield Failure(str(file), str(error).removeprefix(f"{file}: "))
                continue
            samples: dict[str, list[ShardMember]] = {}
            for member in listing.members:
                if member.key:
                    samples.setdefault(member.key, []).append(member)
            # First, since it explains the samples that it tore apart.
            if listing.damage:
                yield Failure(str(file), listing.damage)
            for key, members in samples.items():
                yield _entry(file, key, members)

    def raw(self, entry: Entry) -> dict[str, Any]:
        """Return the JSON object of one sample."""
        blob = read_bytes(entry.file, entry.offset, entry.size)
        return parse_object(blob, self.place(entry))

    def photo(self, entry: Entry) -> PhotoFile | None:
        """Return the photo beside the JSON in the tar, else the one on disk."""
        return entry.photo or self.photo_on_disk(entry.name)

    def place(self, entry: Entry) -> str:
        """Return the tar and the photo's name."""
        return f"{entry.file} ({entry.name})"


def tar_files(folder: Path) -> list[Path]:
    """Return the tars of a folder in order of their names."""
    found = folder.glob(f"*{SHARD_SUFFIX}")
    return sorted(path for path in found if not path.name.startswith("."))


def write_tar(path: Path, samples: Iterable[Sample]) -> None:
    """Write records and their photos to one WebDataset shard; photos keep their bytes.

    Raises:
        StorageError: the disk is full or the folder not writable.
    """
    write_shard(path, _shard_samples(samples))


def _shard_samples(samples: Iterable[Sample]) -> Iterator[ShardSample]:
    """Yield each sample under a key of its own; a reader would join two of one key."""
    taken: set[str] = set()
    for record, blob in samples:
        path = PurePosixPath(record.name)
        stem = path.stem.replace(".", "_")
        key, again = str(path.with_name(stem)), 1
        while key in taken:
            again += 1
            key = str(path.with_name(f"{stem}_{again}"))
        taken.add(key)
        text = json.dumps(record.to_json(), separators=(",", ":")).encode("ascii")
        suffix = path.suffix.lower() if path.suffix.lower() in PHOTO_SUFFIXES else ".jpg"
        yield ShardSample(key, {suffix[1:]: blob, _JSON: text})


def _entry(file: Path, key: str, members: list[ShardMember]) -> Entry | Failure:
    masks = photo = None
    for member in members:
        ending = f".{member.suffix.lower()}"
        if ending.endswith(f".{_JSON}"):
            masks = masks or member
        elif ending.endswith(PHOTO_SUFFIXES):
            photo = photo or member
    if masks is None:
        return Failure(f"{file} ({key})", "a sample without a JSON of masks")
    read = partial(read_bytes, file, masks.offset)
    name = name_in_record(read(min(HEAD_BYTES, masks.size)), partial(read, masks.size), key)
    where = PhotoFile(file, photo.offset, photo.size) if photo else None
    return Entry(name, file, masks.offset, masks.size, photo=where)
