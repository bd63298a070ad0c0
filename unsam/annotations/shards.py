"""Tar shards of photos and masks: SA-1B's own tars and WebDataset's, which share one layout.

Members whose names agree up to the first dot of their base name are one sample: ``a/b.jpg`` and
``a/b.json`` are the sample ``a/b`` with the files ``jpg`` and ``json``. Members of one sample need
not be neighbours. Compressed tars are not read: a member could not be found without all before it.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from unsam.checkpoint.atomic import atomic_writer
from unsam.errors import DataError

SHARD_SUFFIX = ".tar"


@dataclass(frozen=True)
class ShardSample:
    """One sample: `files` holds the bytes of each member by suffix without the dot (``jpg``)."""

    key: str
    files: dict[str, bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class ShardMember:
    """A file within a tar: its name, and where its bytes are, from the start of the tar."""

    name: str
    offset: int
    size: int

    @property
    def key(self) -> str:
        """The sample that the member belongs to; "" for one that belongs to none."""
        return split_name(self.name)[0]

    @property
    def suffix(self) -> str:
        """What follows the first dot of the base name, such as ``jpg``."""
        return split_name(self.name)[1]


@dataclass(frozen=True)
class ShardListing:
    """The whole members of a tar in order.

    `damage` says why there are no more ("" for a tar with a proper end); `end` is the byte after
    the last member.
    """

    members: tuple[ShardMember, ...]
    damage: str
    end: int


def split_name(name: str) -> tuple[str, str]:
    """Return ``(key, suffix)`` of a member name; ``("", "")`` for one that belongs to no sample."""
    folder, slash, base = name.rpartition("/")
    stem, dot, suffix = base.partition(".")
    return (folder + slash + stem, suffix) if stem and dot else ("", "")


def list_shard(path: str | os.PathLike[str]) -> ShardListing:
    """List the files of a tar; reads headers only.

    Raises:
        DataError: no such file, not readable, or not an uncompressed tar.
    """
    try:
        size = Path(path).stat().st_size
        if not size:
            raise DataError(f"{path}: not an uncompressed tar, but empty; fetch or make it again")
        with tarfile.open(path, "r:") as tar:
            members, damage = _members(tar, size)
            assert tar.fileobj is not None
            tar.fileobj.seek(tar.offset)
            # tarfile ends quietly at a header that it cannot read; only zeros are a proper end.
            if not damage and tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                damage = f"damaged or cut off at byte {tar.offset}"
            return ShardListing(members, damage, tar.offset)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except tarfile.TarError as error:
        raise DataError(
            f"{path}: not an uncompressed tar ({' '.join(str(error).split())[:80]}); "
            "unpack a compressed one first"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _members(tar: tarfile.TarFile, size: int) -> tuple[tuple[ShardMember, ...], str]:
    members: list[ShardMember] = []
    try:
        for info in tar:
            if not info.isreg():
                continue
            if info.offset_data + info.size > size:
                return tuple(members), f"cut off within {info.name}"
            name = info.name.removeprefix("./")
            members.append(ShardMember(name, info.offset_data, info.size))
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        if not members and tar.offset == 0:
            raise
        return tuple(members), f"damaged or cut off ({' '.join(str(error).split())[:80]})"
    return tuple(members), ""


def read_shard(path: str | os.PathLike[str]) -> Iterator[ShardSample]:
    """Yield the samples of a tar in order of their first member; one at a time is in memory.

    Raises:
        DataError: not a tar; or a damaged one, after its whole members were handed out.
    """
    listing = list_shard(path)
    samples: dict[str, list[ShardMember]] = {}
    for member in listing.members:
        if member.key:
            samples.setdefault(member.key, []).append(member)
    try:
        with Path(path).open("rb") as stream:
            for key, members in samples.items():
                files = {}
                for member in members:
                    stream.seek(member.offset)
                    files[member.suffix] = stream.read(member.size)
                yield ShardSample(key, files)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    if listing.damage:
        raise DataError(f"{path}: {listing.damage}; fetch or make it again")


def write_shard(path: str | os.PathLike[str], samples: Iterable[ShardSample]) -> None:
    """Write samples to a tar, whole or not at all; equal samples give equal bytes.

    Args:
        path: the tar; an existing one is replaced.
        samples: taken one by one; files of a sample are written in the order of its dict. Keys
            have no dot in their base name, for there a reader splits key and suffix.

    Raises:
        ValueError: a key that a reader would split elsewhere.
        StorageError: the disk is full or the folder not writable.
    """
    with (
        atomic_writer(path) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for sample in samples:
            for suffix, blob in sample.files.items():
                name = f"{sample.key}.{suffix}"
                if split_name(name) != (sample.key, suffix):
                    raise ValueError(f"'{sample.key}' cannot be the key of a sample")
                # Owner, time and mode stay at their defaults, the same on every machine.
                info = tarfile.TarInfo(name)
                info.size = len(blob)
                tar.addfile(info, io.BytesIO(blob))


def is_complete(path: str | os.PathLike[str], listing: ShardListing) -> bool:
    """Tell whether a tar ends as `write_shard` ends one: undamaged, nothing missing or added."""
    records = -(-(listing.end + 2 * tarfile.BLOCKSIZE) // tarfile.RECORDSIZE)
    return not listing.damage and Path(path).stat().st_size == records * tarfile.RECORDSIZE
