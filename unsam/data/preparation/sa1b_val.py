"""SA-1B as an evaluation set: photos drawn from a tar that no training uses."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unsam.annotations.records import Entry, PhotoRecord
from unsam.annotations.tars import TarShards
from unsam.checkpoint.atomic import atomic_writer
from unsam.data.datasets.archives import sound_entries
from unsam.data.datasets.benchmarks import PublishedCounts
from unsam.data.datasets.coco import prepared_photos
from unsam.data.preparation.draw import draw
from unsam.data.preparation.prepared import PreparedPhoto, write_prepared
from unsam.errors import DataError

NUM_PHOTOS = 1000
"""Drawn from the tar (UnSAM and UnSAMv2 evaluate on so many, which ones is not published)."""
MAX_INTERACTIVE = 5
"""Masks per photo for clicks (UnSAMv2's evaluation)."""
_KEPT = ("id", "segmentation", "bbox", "area")


def prepare_sa1b_val(
    tar: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    counts: PublishedCounts | None = None,
    progress: bool = False,
) -> str:
    """Draw photos of SA-1B, write their masks as class-agnostic COCO JSON and the photos beside.

    The `NUM_PHOTOS` photos are those that `draw` gives of the image ids. Up to `MAX_INTERACTIVE`
    masks of a photo are marked ``interactive`` 1: taken in the order that `draw` gives of the
    texts ``<image id>:<mask id>``, each that shares no pixel with one taken before.

    Args:
        tar: of the download (``sa_000999.tar``); photos of one that training uses are no test.
        output: the JSON to write; the drawn photos are written to its folder of photos.
        counts: that the set must have, None for a part of it.
        progress: show a bar on standard error.

    Returns:
        One line on what was written.

    Raises:
        DataError: the tar is missing or damaged, two photos have one id, or the counts are others.
        StorageError: the disk is full or the folder not writable.
    """
    source, target = Path(tar).expanduser().resolve(), Path(output).expanduser()
    shards = TarShards(source)
    entries: dict[int, Entry] = {}
    for entry in sound_entries(shards):
        identity = _image_id(entry)
        if identity in entries:
            raise DataError(f"{source}: two photos have the id {identity}")
        entries[identity] = entry
    chosen = draw(entries, NUM_PHOTOS)
    # Before a gigabyte of photos is written.
    if counts:
        counts.require_photos(len(chosen), str(source))

    def photos() -> Iterator[PreparedPhoto]:
        for identity in sorted(chosen):
            record = shards.read(entries[identity])
            if record.photo is None:
                raise DataError(f"{shards.place(entries[identity])}: no photo beside the masks")
            path = prepared_photos(target) / record.name
            with atomic_writer(path) as stream:
                stream.write(record.photo.read())
            rows = _marked(record, identity)
            yield PreparedPhoto(path, record.name, record.size, rows, {"image_id": identity})

    info = {"description": f"SA-1B, {len(chosen)} photos drawn from {source.name}"}
    words: dict[str, Any] = {"info": info, "counts": counts, "progress": progress}
    return write_prepared(target, photos(), [], total=len(chosen), **words)


def _image_id(entry: Entry) -> int:
    """Return the number in a photo's name, which is its id in SA-1B (``sa_223750.jpg``)."""
    number = re.search(r"(\d+)\.\w+$", entry.name)
    if number is None:
        raise DataError(f"{entry.file} ({entry.name}): no number in the photo's name as in SA-1B")
    return int(number[1])


def _marked(record: PhotoRecord, image_id: int) -> list[dict[str, Any]]:
    rows = record.to_json()["annotations"]
    place = {f"{image_id}:{row['id']}": index for index, row in enumerate(rows)}
    shared = record.shapes.intersections() > 0
    taken: list[int] = []
    for key in draw(place, len(place)):
        index = place[key]
        if len(taken) < MAX_INTERACTIVE and not shared[index, taken].any():
            taken.append(index)
    return [
        {key: row[key] for key in _KEPT} | {"interactive": int(index in taken)}
        for index, row in enumerate(rows)
    ]
