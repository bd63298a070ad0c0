"""SA-1B: tars as they are downloaded, checked and with the granularity of each mask added."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from unsam.annotations.merge import GranularityRule, SourcedMasks, with_hierarchy
from unsam.annotations.photos import check_photo
from unsam.annotations.records import Entry, PhotoRecord, Sample
from unsam.annotations.shards import is_complete, list_shard
from unsam.annotations.tars import TarShards, tar_files, write_tar
from unsam.data.datasets.archives import sound_entries
from unsam.errors import DataError


def prepare_sa1b(
    tars: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    granularity_of: GranularityRule,
    num_tars: int = 0,
    progress: bool = False,
) -> str:
    """Write checked tars whose masks have ``granularity`` and ``parent_id``.

    SA-1B has neither. A parent is the smallest larger mask that holds 90 % of a mask; the
    granularity is that of the mask within its tree. Photos keep their bytes, annotations their
    fields. A tar is written whole or not at all, and one that is there already is left alone, so
    a rerun goes on where the last one ended.

    Args:
        tars: a tar (``sa_000000.tar``) or the folder of them.
        output: folder of the new tars, under the same names; trains as a dataset.
        granularity_of: the rule, such as ``divide_and_conquer.granularity.granularity_of_trees``.
        num_tars: how many, the first by name; 0 for all.
        progress: show a bar per tar on standard error.

    Returns:
        One line on what was written.

    Raises:
        DataError: no tar; or one is damaged, or a photo or record in it: fetch that tar again.
        StorageError: the disk is full or the folder not writable.
    """
    source, target = Path(tars).expanduser().resolve(), Path(output).expanduser().resolve()
    files = tar_files(source) if source.is_dir() else [source]
    if not files:
        raise DataError(f"{source}: no tar in it")
    if target == files[0].parent:
        raise DataError(f"{target}: the output must be another folder than that of the tars")
    files = files[:num_tars] if num_tars else files
    there = [file for file in files if _is_done(target / file.name)]
    for file in files:
        if file in there:
            continue
        shards = TarShards(file)
        entries = sound_entries(shards)
        bar = tqdm(entries, desc=file.name, unit="photo", disable=not progress)
        write_tar(target / file.name, _samples(shards, bar, granularity_of))
    return f"{len(files)} tars in {target}, {len(there)} of them were there"


def add_granularity(record: PhotoRecord, granularity_of: GranularityRule) -> PhotoRecord:
    """Return a record whose masks all have ``parent_id`` and ``granularity``.

    Parents are computed anew; a granularity that is there stays. Crowd regions get neither.
    """
    masks = SourcedMasks(record.masks(), record.has_granularity())
    nested = with_hierarchy(masks, granularity_of)
    objects = [item for item in record.annotations if not item.get("iscrowd")]
    added = {
        item["id"]: {
            "granularity": round(float(nested.granularity[index]), 6),
            "parent_id": objects[parent]["id"] if parent >= 0 else -1,
        }
        for index, (item, parent) in enumerate(zip(objects, nested.parent, strict=True))
    }
    rows = [{**item, **added.get(item["id"], {})} for item in record.annotations]
    return replace(record, annotations=rows)


def _samples(
    shards: TarShards, entries: Iterable[Entry], granularity_of: GranularityRule
) -> Iterator[Sample]:
    for entry in entries:
        record = shards.read(entry)
        if record.photo is None:
            raise DataError(f"{shards.place(entry)}: no photo beside the masks; fetch it again")
        blob = record.photo.read()
        try:
            check_photo(blob, record.size)
        except DataError as error:
            raise DataError(f"{shards.place(entry)}: {error}; fetch the tar again") from None
        yield add_granularity(record, granularity_of), blob


def _is_done(path: Path) -> bool:
    return path.is_file() and is_complete(path, list_shard(path))
