"""Which format a path is in."""

from __future__ import annotations

import os
from pathlib import Path

from unsam.annotations.coco import COCO_NAME, CocoJson
from unsam.annotations.folders import MANIFEST, JsonFolder
from unsam.annotations.records import AnnotationSource
from unsam.annotations.shards import SHARD_SUFFIX
from unsam.annotations.tars import TarShards, tar_files
from unsam.annotations.tsv import TSV_SUFFIX, TsvFiles, tsv_files
from unsam.errors import DataError

FORMATS = ("json", "coco", "tsv", "webdataset")


def open_source(
    path: str | os.PathLike[str], image_root: str | os.PathLike[str] = ""
) -> AnnotationSource:
    """Open files of masks for reading, in whichever of the formats they are.

    A file is known by its ending: ``.json`` (COCO), ``.tsv``, ``.tar``. A folder is read as TSV or
    as tars if such files lie in it, as COCO if ``annotations.json`` does, else as a JSON per photo.

    Args:
        path: the file or folder.
        image_root: where the photos are; "" looks where the files say and beside them.

    Raises:
        DataError: no such path, no known format, or `image_root` is no folder.
    """
    if not os.fspath(path):
        raise DataError("the input is an empty name; name files of masks")
    place = Path(path).expanduser()
    if os.fspath(image_root) and not Path(image_root).expanduser().is_dir():
        raise DataError(f"{image_root}: no such folder of photos")
    if place.is_dir():
        return _open_folder(place, image_root)
    if not place.exists():
        raise DataError(f"{place}: no such file or folder")
    if place.suffix == ".json":
        return CocoJson(place, image_root)
    if place.suffix == TSV_SUFFIX:
        return TsvFiles(place, image_root)
    if place.suffix == SHARD_SUFFIX:
        return TarShards(place, image_root)
    raise DataError(
        f"{place}: not a format of masks; give a folder, a COCO .json, a .tsv or a .tar"
    )


def check_output(path: str | os.PathLike[str], to: str) -> Path:
    """Return an output path with ``~`` resolved, once nothing there would be mixed with `to`.

    Readers find the format of a folder by looking, so it holds one.

    Raises:
        DataError: no name, a file where a folder is needed, or masks in another format.
    """
    if not os.fspath(path):
        raise DataError("the output is an empty name; name a folder")
    target = Path(path).expanduser()
    if to == "coco" and target.suffix == ".json":
        return target
    if target.is_file():
        raise DataError(f"{target}: is a file; the output is a folder")
    held = {
        "tsv": bool(tsv_files(target)),
        "webdataset": bool(tar_files(target)),
        "coco": (target / COCO_NAME).is_file(),
        "json": (target / MANIFEST).is_file(),
    }
    others = [kind for kind, is_there in held.items() if is_there and kind != to]
    if others:
        raise DataError(
            f"{target}: holds masks as {others[0]} already, and readers would find both; choose "
            "another output folder"
        )
    return target


def _open_folder(folder: Path, image_root: str | os.PathLike[str]) -> AnnotationSource:
    has_tsv, has_tars = bool(tsv_files(folder)), bool(tar_files(folder))
    if has_tsv and has_tars:
        raise DataError(f"{folder}: holds both TSV and tar files; give a folder with one kind")
    if has_tsv:
        return TsvFiles(folder, image_root)
    if has_tars:
        return TarShards(folder, image_root)
    if (folder / COCO_NAME).is_file():
        return CocoJson(folder / COCO_NAME, image_root)
    if next(folder.rglob("*.json"), None) is None:
        raise DataError(f"{folder}: no masks in this folder (no .json, .tsv or .tar file)")
    return JsonFolder(folder, image_root)
