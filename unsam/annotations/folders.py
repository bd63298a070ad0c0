"""A folder with one SA-1B style JSON per photo, with or without ``manifest.json``."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from unsam.annotations.records import (
    HEAD_BYTES,
    AnnotationSource,
    Entry,
    Failure,
    PhotoFile,
    PhotoRecord,
    make_record,
    name_in_record,
    parse_object,
    read_bytes,
    safe_name,
)
from unsam.checkpoint.atomic import atomic_writer, write_text_atomic
from unsam.errors import DataError
from unsam.structures import PHOTO_SUFFIXES

MANIFEST = "manifest.json"
PHOTOS = "images"
"""Folder for photos that come out of a TSV or tar."""
# Hidden files, and the manifests of whole runs and of their shares.
_NO_RECORD = re.compile(r"\.|manifest(-\d+-of-\d+)?\.json$")
FORMAT_VERSION = 1
CODE_VERSION = 1


def check_manifest(path: Path, made_by: str, output_format: str = "json") -> None:
    """Refuse to write over the results of another command, or of another program.

    Args:
        path: the manifest that is to be written; a missing, empty or broken one is no obstacle.
        made_by: key of ``config`` in manifests of this command.
        output_format: ``"json"`` or ``"webdataset"``, as it will say.

    Raises:
        DataError: it lists what would be lost or mixed.
    """
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return
    if not isinstance(manifest, dict) or not manifest:
        return
    config = manifest.get("config")
    if not isinstance(config, dict) or made_by not in config:
        raise DataError(
            f"{path}: what another command or program has made is listed here; choose another "
            "output folder"
        )
    found = manifest.get("format", output_format)
    if found != output_format and manifest.get("images"):
        raise DataError(
            f"{path.parent}: holds masks as {found}, not {output_format}, of an earlier run; "
            "choose another output folder"
        )


class JsonFolder(AnnotationSource):
    """Reads a folder of pseudo masks, of SA-1B, or of any SA-1B style JSON files.

    With a ``manifest.json`` its list counts. Without one all JSON files below the folder do, but
    for hidden ones and the manifests of shares (``manifest-00003-of-00016.json``).
    """

    def __init__(self, path: Path, image_root: str | os.PathLike[str] = "") -> None:
        """Read the manifest if there is one.

        Raises:
            DataError: the manifest is broken.
        """
        self.path = path
        self._listed: dict[str, Any] | None = None
        stated = ""
        if (path / MANIFEST).is_file():
            place = str(path / MANIFEST)
            manifest = parse_object(read_bytes(path / MANIFEST), place)
            self.supervised = manifest.get("supervised") is True
            self._listed = manifest.get("images")
            stated = str(manifest.get("image_root") or "")
            if not isinstance(self._listed, dict):
                raise DataError(f"{place}: expected 'images', the list of photos, in it")
        roots = [Path(root).expanduser() for root in (image_root, stated) if os.fspath(root)]
        self.roots = (*roots, path / PHOTOS, path)

    def entries(self) -> Iterator[Entry | Failure]:
        """Yield an entry per JSON file, in order of the names of photos or files."""
        if self._listed is not None:
            for name in sorted(self._listed):
                yield Entry(name, self.path / self._json_name(name))
            return
        for found, photo in self._found():
            file = self.path / found
            if photo:
                # Its name is known without a look into the file; a folder may hold millions.
                yield Entry(photo, file, photo=PhotoFile(self.path / photo))
                continue
            try:
                head = read_bytes(file, 0, min(HEAD_BYTES, file.stat().st_size))
                name = name_in_record(head, partial(read_bytes, file), found.removesuffix(".json"))
            except (DataError, OSError) as error:
                yield Failure(str(file), str(error).removeprefix(f"{file}: "))
                continue
            yield Entry(name, file)

    def read(self, entry: Entry) -> PhotoRecord:
        """Return the record of one JSON file."""
        raw = parse_object(read_bytes(entry.file), str(entry.file))
        image = raw.get("image")
        given = str(image.get("file_name") or "") if isinstance(image, dict) else ""
        photo = self.photo_on_disk(entry.name, given)
        listed = (self._listed or {}).get(entry.name)
        sha256 = str(listed.get("sha256") or "") if isinstance(listed, dict) else ""
        return make_record(raw, entry.name, str(entry.file), photo, sha256)

    def place(self, entry: Entry) -> str:
        """Return the path of the JSON file."""
        return str(entry.file)

    def _json_name(self, name: str) -> str:
        listed = (self._listed or {})[name]
        given = listed.get("json") if isinstance(listed, dict) else None
        return str(given or f"{name}.json")

    def _found(self) -> list[tuple[str, str]]:
        """Return the JSON files, each with the photo beside it ("" for none), as relative names."""
        files = []
        for folder, inner, names in os.walk(self.path):
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            relative = Path(folder).relative_to(self.path).as_posix()
            prefix = "" if relative == "." else f"{relative}/"
            present = set(names)
            for name in names:
                if name.endswith(".json") and not _NO_RECORD.match(name):
                    photo = _photo_beside(name.removesuffix(".json"), present)
                    files.append((prefix + name, prefix + photo if photo else ""))
        # A folder comes before what has a longer name, as paths are ordered.
        return sorted(files, key=lambda item: item[0].split("/"))


def _photo_beside(stem: str, names: set[str]) -> str:
    """Return which of `names` is the photo of the record `stem`: ``sa_1`` or ``a.jpg``."""
    if stem in names and stem.lower().endswith(PHOTO_SUFFIXES):
        return stem
    return next((stem + suffix for suffix in PHOTO_SUFFIXES if stem + suffix in names), "")


class JsonFolderWriter:
    """Writes a folder of masks that trains as a dataset: a JSON per photo and ``manifest.json``.

    Each file is whole or not there; the manifest comes last. A rerun writes the same files again.
    """

    def __init__(self, output: Path, image_root: Path | None, supervised: bool = False) -> None:
        """Start a folder.

        Args:
            output: the folder.
            image_root: of the photos, if they stay where they are.
            supervised: whether an input was; masks by people among the records say so, too.
        """
        self.output = output
        self.image_root = image_root
        self.images: dict[str, dict[str, Any]] = {}
        self._supervised = supervised
        self._has_photos = False

    def add(self, record: dict[str, Any], blob: bytes = b"", sha256: str = "") -> None:
        """Write one record, and its photo if its bytes are given.

        Args:
            record: SA-1B style; its ``file_name`` names the photo and the file.
            blob: the photo, to be written below ``images``.
            sha256: of the photo where it stays, "" if not known.

        Raises:
            DataError: the name leads out of the folder, or was there before.
            StorageError: the disk is full or the folder not writable.
        """
        image = record["image"]
        name = safe_name(image["file_name"])
        if name in self.images:
            raise DataError(f"a second record of the photo {name}; the first one was taken")
        if blob:
            with atomic_writer(self.output / PHOTOS / name) as stream:
                stream.write(blob)
            self._has_photos = True
            sha256 = hashlib.sha256(blob).hexdigest()
        text = json.dumps(record, separators=(",", ":"))
        write_text_atomic(self.output / f"{name}.json", text)
        self.keep(record, sha256)

    def keep(self, record: dict[str, Any], sha256: str = "") -> None:
        """List a record whose file is there already; as of `add`."""
        image = record["image"]
        name = safe_name(image["file_name"])
        sources = (item.get("source", "human") for item in record["annotations"])
        self._supervised |= "human" in sources
        self.images[name] = {
            "sha256": sha256,
            "masks": len(record["annotations"]),
            "json": f"{name}.json",
            "height": image["height"],
            "width": image["width"],
        }

    def finish(self, config: dict[str, Any], failures: dict[str, str]) -> dict[str, Any]:
        """Write ``manifest.json`` in the form of ``unsam pseudo-masks`` and return it."""
        root = self.output / PHOTOS if self._has_photos else self.image_root
        manifest = {
            "version": FORMAT_VERSION,
            "image_root": str(root.absolute()) if root else "",
            "format": "json",
            "supervised": self._supervised,
            "complete": True,
            "config": config,
            "code_version": CODE_VERSION,
            "images": dict(sorted(self.images.items())),
            "failures": dict(sorted(failures.items())),
            "counts": {
                "photos": len(self.images) + len(failures),
                "done": len(self.images),
                "failed": len(failures),
                "masks": sum(entry["masks"] for entry in self.images.values()),
            },
            "refinement": {},
        }
        write_text_atomic(self.output / MANIFEST, json.dumps(manifest, indent=1) + "\n")
        return manifest
