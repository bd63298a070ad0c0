"""Where photos come from: folders, lists, COCO JSON, SA-1B tars, WebDataset shards."""

from __future__ import annotations

import glob
import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from unsam.annotations.shards import SHARD_SUFFIX, ShardMember, list_shard
from unsam.errors import DataError
from unsam.structures import PHOTO_SUFFIXES

KINDS = "a folder, a list of paths (.txt), a COCO JSON (.json), a tar (.tar) or a pattern of them"
_BRACES = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo: its relative name, with forward slashes, and the file that holds its bytes.

    `offset` and `size` are in bytes; `size` -1 is the whole file, another one a part of a tar.
    """

    name: str
    path: str
    offset: int = 0
    size: int = -1


@dataclass(frozen=True)
class PhotoList:
    """Photos sorted by name, below `root`; `failures` are inputs that gave none, with reasons."""

    root: Path
    photos: tuple[Photo, ...]
    failures: dict[str, str] = field(default_factory=dict)


def list_photos(
    source: str | os.PathLike[str],
    image_root: str | os.PathLike[str] = "",
    shard_index: int = 0,
    num_shards: int = 1,
) -> PhotoList:
    """List the photos of an input, or the part of them that one of many machines works on.

    Names do not depend on the order in which a disk lists its files, nor on other photos: below a
    folder the relative path; in a list or a COCO JSON the path as written, relative to
    `image_root` or else to the file's own folder; in a tar the tar's name without ``.tar``, then
    the member's, as if the tar had been unpacked beside itself.

    A photo belongs to the part ``sha256(name) mod num_shards``. Where there are at least as many
    tars as parts, whole tars are dealt out in order of their names instead, so that no machine
    reads the tars of another.

    Args:
        source: a folder (of photos, or of tars), a ``.txt`` list, a COCO ``.json``, a ``.tar``
            (SA-1B, WebDataset), or a pattern with ``*``, ``?``, ``[a-z]``, ``{a,b}`` or
            ``{000..999}``.
        image_root: folder of the photos of a list or a COCO JSON.
        shard_index: which part, from 0.
        num_shards: how many parts; together they are the whole, and none shares a photo.

    Raises:
        DataError: no such input, no photo in it, or a list that cannot be used.
    """
    if not os.fspath(source):
        raise DataError(f"the input is an empty name; name {KINDS}")
    if os.fspath(image_root) and not Path(image_root).is_dir():
        raise DataError(f"{image_root}: no such folder of photos (image root)")
    path = Path(os.path.normpath(Path(source).absolute()))
    root = Path(os.path.normpath(Path(image_root or path.parent).absolute()))
    if path.is_dir():
        listing = _of_folder(path, shard_index, num_shards)
    elif path.suffix == SHARD_SUFFIX and path.is_file():
        listing = _of_tars([path], path.parent, shard_index, num_shards)
    elif path.suffix == ".txt" and path.is_file():
        listing = _of_paths(_lines(path), root, path, shard_index, num_shards)
    elif path.suffix == ".json" and path.is_file():
        listing = _of_paths(_coco_names(path), root, path, shard_index, num_shards)
    elif not path.exists() and re.search(r"[*?\[{]", str(path)):
        listing = _of_pattern(str(path), shard_index, num_shards)
    else:
        what = "is a file, not a folder" if path.exists() else "no such folder or file"
        raise DataError(f"{path}: {what}; name {KINDS}")
    return listing


def shard_of(name: str, num_shards: int) -> int:
    """Return the part, in [0, num_shards), that a name belongs to; the same on every machine."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") % num_shards


def find_photos(root: Path) -> list[str]:
    """Return the photos below a folder, as sorted paths relative to it with forward slashes.

    Raises:
        DataError: not a folder, or no photo in it.
    """
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "no such folder"
        raise DataError(f"{root}: {what}; name a folder of photos")
    names = _find(root, PHOTO_SUFFIXES)
    if not names:
        raise DataError(
            f"{root}: no photos in this folder (looked for {', '.join(PHOTO_SUFFIXES)})"
        )
    return names


def _find(root: Path, suffixes: tuple[str, ...]) -> list[str]:
    names = []
    for folder, inner, files in os.walk(root):
        inner[:] = [name for name in inner if not name.startswith(".")]
        names += [
            (Path(folder) / name).relative_to(root).as_posix()
            for name in files
            if name.lower().endswith(suffixes) and not name.startswith(".")
        ]
    return sorted(names)


def _of_folder(root: Path, shard_index: int, num_shards: int) -> PhotoList:
    tars = _find(root, (SHARD_SUFFIX,))
    if not tars:
        photos = [Photo(name, str(root / name)) for name in find_photos(root)]
        return _part(root, photos, shard_index, num_shards)
    names = _find(root, PHOTO_SUFFIXES)
    if names:
        raise DataError(
            f"{root}: both photos ({names[0]}) and tars ({tars[0]}); name the tars by a pattern "
            "such as 'FOLDER/*.tar', or the photos in a list file"
        )
    return _of_tars([root / name for name in tars], root, shard_index, num_shards)


def _of_pattern(pattern: str, shard_index: int, num_shards: int) -> PhotoList:
    found: set[str] = set()
    for item in _expand(pattern):
        matches = glob.glob(item, recursive=True)
        if not matches:
            raise DataError(f"{item}: nothing has such a name; check the pattern {pattern}")
        found.update(matches)
    fixed = itertools.takewhile(lambda part: not re.search(r"[*?\[{]", part), Path(pattern).parts)
    root = Path(*fixed)
    tars = sorted(Path(name) for name in found if name.endswith(SHARD_SUFFIX))
    names = sorted(name for name in found if name.lower().endswith(PHOTO_SUFFIXES))
    if bool(tars) == bool(names):
        what = "both tars and photos" if tars else "neither tars nor photos"
        raise DataError(f"{pattern}: matches {what}; name one kind")
    if tars:
        return _of_tars(tars, root, shard_index, num_shards)
    photos = [Photo(Path(name).relative_to(root).as_posix(), name) for name in names]
    return _part(root, photos, shard_index, num_shards)


def _expand(pattern: str) -> Iterator[str]:
    """Yield the patterns without braces: ``{a,b}`` and ``{000..999}`` as shells write them."""
    match = _BRACES.search(pattern)
    if match is None:
        yield pattern
        return
    first, dots, last = match[1].partition("..")
    if dots and first.isdigit() and last.isdigit():
        width = len(first) if len(first) == len(last) else 0
        choices = [f"{number:0{width}d}" for number in range(int(first), int(last) + 1)]
    else:
        choices = match[1].split(",")
    for choice in choices:
        yield from _expand(pattern[: match.start()] + choice + pattern[match.end() :])


def _of_tars(tars: list[Path], root: Path, shard_index: int, num_shards: int) -> PhotoList:
    names = {path: path.relative_to(root).as_posix() for path in tars}
    ordered = sorted(tars, key=names.__getitem__)
    if len(tars) >= num_shards:
        # Part 0 of 1: what is dealt out in whole tars is not divided again.
        ordered, shard_index, num_shards = ordered[shard_index::num_shards], 0, 1
    photos: list[Photo] = []
    failures: dict[str, str] = {}
    for path in ordered:
        name = names[path]
        try:
            listing = list_shard(path)
        except DataError as error:
            failures[name] = str(error)
            continue
        if listing.damage:
            failures[name] = f"{path}: {listing.damage}; fetch it again"
        for member in _photos_in(listing.members):
            full = f"{name.removesuffix(SHARD_SUFFIX)}/{member.name}"
            if ".." in PurePosixPath(full).parts or member.name.startswith("/"):
                failures[full] = f"{path}: a member name that leaves its folder"
            else:
                photos.append(Photo(full, str(path), member.offset, member.size))
    if not photos and not failures:
        more = f" or the {len(tars) - 1} others" if len(tars) > 1 else ""
        raise DataError(f"{ordered[0]}: no photos in this tar{more}")
    return _part(root, photos, shard_index, num_shards, failures)


def _photos_in(members: Iterable[ShardMember]) -> list[ShardMember]:
    """Return the photos of a tar: of a sample with ``x.jpg`` and ``x.seg.png`` only the first."""
    found = [member for member in members if member.name.lower().endswith(PHOTO_SUFFIXES)]
    plain = {member.key for member in found if "." not in member.suffix}
    return [
        member
        for member in found
        if member.key and ("." not in member.suffix or member.key not in plain)
    ]


def _of_paths(
    lines: list[str], root: Path, origin: Path, shard_index: int, num_shards: int
) -> PhotoList:
    """Return the photos of a list; whether a file is there is found out when it is read."""
    photos: dict[str, Photo] = {}
    for line in lines:
        path = Path(os.path.normpath(root / line))
        inside = path.is_relative_to(root)
        # A photo from elsewhere keeps its whole path as name.
        name = (path.relative_to(root) if inside else path.relative_to(path.anchor)).as_posix()
        if not name.lower().endswith(PHOTO_SUFFIXES) or not _is_file_name(name):
            raise DataError(
                f"{origin}: {line!r} is not the name of a photo ({', '.join(PHOTO_SUFFIXES)})"
            )
        known = photos.setdefault(name, Photo(name, str(path)))
        if known.path != str(path):
            raise DataError(f"{origin}: {known.path} and {path} would share the name {name}")
    if not photos:
        raise DataError(f"{origin}: no photos in this list")
    return _part(root, photos.values(), shard_index, num_shards)


def _is_file_name(name: str) -> bool:
    try:
        return b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        return False


def _lines(path: Path) -> list[str]:
    try:
        # Names need not be text; editors of one system begin files with a mark that is no name.
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise DataError(f"{path}: not a readable list of paths ({error})") from error
    return [line.strip() for line in text.split("\n") if line.strip()]


def _coco_names(path: Path) -> list[str]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a readable JSON file ({error})") from error
    try:
        names = [image["file_name"] for image in document["images"]]
    except (KeyError, TypeError):
        names = [None]
    if not all(isinstance(name, str) and name for name in names):
        raise DataError(f"{path}: expected 'images', a list of objects with 'file_name' (COCO)")
    return names


def _part(
    root: Path,
    photos: Iterable[Photo],
    shard_index: int,
    num_shards: int,
    failures: dict[str, str] | None = None,
) -> PhotoList:
    """Return one of `num_shards` parts, sorted by name; the first of two equal names stays."""
    if num_shards > 1:
        photos = (photo for photo in photos if shard_of(photo.name, num_shards) == shard_index)
        mine = {
            name: reason
            for name, reason in (failures or {}).items()
            if shard_of(name, num_shards) == shard_index
        }
        failures = mine
    unique: dict[str, Photo] = {}
    for photo in photos:
        unique.setdefault(photo.name, photo)
    ordered = tuple(unique[name] for name in sorted(unique))
    return PhotoList(root, ordered, failures or {})
