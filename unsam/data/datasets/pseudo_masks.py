"""A folder of pseudo masks: ``manifest.json`` with a JSON per photo, or with tar shards."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from unsam.annotations.folders import MANIFEST
from unsam.checkpoint.atomic import write_text_atomic
from unsam.data.datasets.archives import load_archives
from unsam.data.datasets.record import ImageRecord, read_json_object, require_photos
from unsam.errors import DataError


def load_pseudo_masks(
    folder: str | os.PathLike[str], image_root: str | os.PathLike[str] = ""
) -> list[ImageRecord]:
    """Read the list of a pseudo-mask folder; masks are read when a record is asked for them.

    Args:
        folder: the output of ``unsam pseudo-masks``.
        image_root: where the photos are now, "" for where they were.

    Returns:
        One record per photo in order of the file names; `image_id` counts them from 1.

    Raises:
        DataError: no or a broken manifest, no photo in it, masks or photos that are not on disk.
    """
    root = Path(folder).expanduser().resolve()
    manifest = read_json_object(root / MANIFEST)
    images = manifest.get("images")
    if not isinstance(images, dict):
        raise DataError(f"{root / MANIFEST}: expected 'images', the list of photos, in it")
    if not images:
        failed = len(manifest.get("failures") or {})
        raise DataError(f"{root / MANIFEST}: no photo with masks in it ({failed} failures)")
    stated = image_root or str(manifest.get("image_root", ""))
    if manifest.get("format") == "webdataset":
        return load_archives(root, stated)
    photos = Path(stated).expanduser().resolve()
    entries = [(name, images[name]) for name in sorted(images)]
    files = [root / _json_name(name, entry) for name, entry in entries]
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise DataError(
            f"{root}: {len(missing)} of {len(files)} mask files are missing, the first is "
            f"{missing[0]}; run `unsam pseudo-masks` again, it makes what is not there"
        )
    records = [
        ImageRecord(index, str(photos / name), *_size(entry, file), annotations=file)
        for index, ((name, entry), file) in enumerate(zip(entries, files, strict=True), start=1)
    ]
    absent = [item.file_name for item in records if not Path(item.file_name).is_file()]
    require_photos(absent, len(records), str(root))
    return records


def split_pseudo_masks(
    folder: str | os.PathLike[str],
    train: str | os.PathLike[str],
    held_out: str | os.PathLike[str],
    share: float,
    seed: int = 0,
) -> tuple[Path, Path]:
    """Split a pseudo-mask folder in two, each a dataset of its own that points at the same files.

    Photos are ordered by a hash of their name and `seed`, so a photo keeps its side when others
    join, but for those at the boundary.

    Args:
        folder: the output of ``unsam pseudo-masks``.
        train: folder for the manifest of the training photos.
        held_out: folder for the manifest of the others.
        share: part that is held out, in (0, 1); at least one photo on each side.
        seed: another seed is another split.

    Returns:
        The two folders.

    Raises:
        DataError: fewer than two photos have masks.
    """
    root = Path(folder).resolve()
    manifest = read_json_object(root / MANIFEST)
    if manifest.get("format") == "webdataset":
        raise DataError(
            f"{root}: masks in tar shards cannot be split; make JSON files of them with "
            f"`unsam convert-annotations --input {root} --output DIR --to json`"
        )
    images = manifest.get("images") or {}
    if len(images) < 2:
        raise DataError(
            f"{root}: {len(images)} photos with masks; at least 2 are needed, to train on one and "
            "hold out the other"
        )
    order = sorted(images, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    cut = min(max(round(share * len(order)), 1), len(order) - 1)
    for target, names in ((Path(held_out), order[:cut]), (Path(train), order[cut:])):
        inside = os.path.relpath(root, target.resolve())
        entries = {
            name: {**images[name], "json": f"{inside}/{_json_name(name, images[name])}"}
            for name in sorted(names)
        }
        part = {**manifest, "images": entries, "failures": {}}
        write_text_atomic(target / MANIFEST, json.dumps(part, indent=1))
    return Path(train), Path(held_out)


def _json_name(name: str, entry: Any) -> str:
    given = entry.get("json") if isinstance(entry, dict) else None
    return str(given or f"{name}.json")


def _size(entry: Any, file: Path) -> tuple[int, int]:
    """Return ``(H, W)`` from the manifest, or from the mask file where the manifest has none."""
    image = entry if isinstance(entry, dict) and "height" in entry else None
    if image is None:
        image = read_json_object(file).get("image")
    try:
        return int(image["height"]), int(image["width"])  # type: ignore[index]
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{file}: expected 'image' with 'height' and 'width' in it") from None
