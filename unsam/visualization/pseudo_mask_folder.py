"""A folder of pseudo masks as a picture page needs it: its photos, its counts, what failed."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from unsam.errors import DataError
from unsam.structures import MaskSet, read_photo
from unsam.structures.mask_formats import fields_of_annotations
from unsam.visualization.levels import tree_depths

MANIFEST = "manifest.json"
NUM_BINS = 9
BROKEN_INPUT = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    IndexError,
    OverflowError,
    RecursionError,
    cv2.error,
)
"""What a broken JSON or photo raises; one of them must not end the page."""


@dataclass(frozen=True)
class PhotoEntry:
    """One photo of the folder.

    Attributes:
        name: relative path of the photo, as the manifest has it.
        json_path: file of its masks.
        image_root: folder that the name is relative to.
    """

    name: str
    json_path: Path
    image_root: Path

    def read_record(self) -> dict[str, Any]:
        """Return the SA-1B style record.

        Raises:
            DataError: no such file, no JSON, or no list of annotations.
        """
        try:
            record = json.loads(self.json_path.read_text(encoding="utf-8"))
            annotations, _ = record["annotations"], record["image"]["height"]
        except FileNotFoundError:
            raise DataError(f"no file {self.json_path}; run `unsam pseudo-masks` again") from None
        except BROKEN_INPUT as error:
            raise DataError(
                f"{self.json_path}: broken, or not the masks of one photo ({one_line(error)}); if "
                "`unsam pseudo-masks` made it, run that again"
            ) from None
        if not isinstance(annotations, list):
            raise DataError(f"{self.json_path}: 'annotations' is not a list")
        return record

    def read(self) -> tuple[np.ndarray, MaskSet]:
        """Return the photo ``uint8 [H, W, 3]`` (RGB) and its masks.

        Raises:
            DataError: either is missing or broken, or their sizes differ.
        """
        record = self.read_record()
        photo = read_photo(self._photo_path(record))
        masks = MaskSet.from_sa1b(record)
        if masks.size != photo.shape[:2]:
            raise DataError(
                f"the photo has {photo.shape[1]}x{photo.shape[0]} pixels, its masks "
                f"{masks.size[1]}x{masks.size[0]}; the photo is another one or was changed"
            )
        return photo, masks

    def _photo_path(self, record: Mapping[str, Any]) -> Path:
        """Return the photo: by its name, by the name in the record, or beside the JSON."""
        wanted = self.image_root / self.name
        given = record.get("image", {}).get("file_name")
        others = [self.image_root / given, self.json_path.parent / given] if given else []
        found = next((path for path in [wanted, *others] if path.is_file()), None)
        if found is None:
            raise DataError(f"no photo {wanted}; name the folder of the photos with --image-root")
        return found


@dataclass(frozen=True)
class PseudoMaskFolder:
    """What a folder of pseudo masks says about itself.

    Attributes:
        path: the folder.
        entries: its photos, sorted by name.
        failures: photo to reason, for those that the run could not use.
        made_by: the rest of the manifest: config, versions, counts; empty without a manifest.
    """

    path: Path
    entries: list[PhotoEntry]
    failures: dict[str, str]
    made_by: dict[str, Any]


def open_folder(
    folder: str | os.PathLike[str], image_root: str | os.PathLike[str] | None = None
) -> PseudoMaskFolder:
    """Find the photos of a folder that `unsam pseudo-masks` wrote, or of loose SA-1B style JSONs.

    Args:
        folder: with ``manifest.json``; without one, every JSON below it counts.
        image_root: folder of the photos; by default that of the manifest, else `folder`.

    Raises:
        DataError: no such folder, no masks in it, or a manifest that cannot be read.
    """
    path = Path(folder).absolute()
    if not os.fspath(folder) or not path.is_dir():
        raise DataError(f"{folder}: no such folder; name one that `unsam pseudo-masks` wrote")
    manifest = _read_manifest(path)
    if manifest is None:
        root = Path(image_root).absolute() if image_root is not None else path
        entries = [
            PhotoEntry(found.relative_to(path).as_posix().removesuffix(".json"), found, root)
            for found in sorted(path.rglob("*.json"))
            if not _is_hidden_or_manifest(found.relative_to(path))
        ]
        manifest = {}
    else:
        root = Path(image_root if image_root is not None else manifest["image_root"]).absolute()
        entries = [
            PhotoEntry(name, path / image["json"], root)
            for name, image in sorted(manifest["images"].items())
        ]
    failures = {str(name): str(why) for name, why in manifest.get("failures", {}).items()}
    if not entries and not failures:
        raise DataError(f"{path}: no masks in this folder; make some with `unsam pseudo-masks`")
    made_by = {key: manifest[key] for key in manifest if key not in ("images", "failures")}
    return PseudoMaskFolder(path, entries, failures, made_by)


def _is_hidden_or_manifest(relative: Path) -> bool:
    hidden = any(part.startswith(".") for part in relative.parts)
    return hidden or re.fullmatch(r"manifest-\d+-of-\d+\.json", relative.name) is not None


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest with the entries that are needed, None if there is none."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        images = manifest["images"]
        if any("shard" in image for image in images.values()):
            raise DataError(
                f"{folder}: these masks are in .tar shards; unpack them with "
                "`unsam convert-annotations --to json` and show that folder"
            )
        usable = all(isinstance(image["json"], str) for image in images.values())
        usable &= isinstance(manifest["image_root"], str)
        usable &= isinstance(manifest.get("failures", {}), dict)
    except DataError:
        raise
    except BROKEN_INPUT as error:
        raise DataError(
            f"{path}: not a readable manifest ({one_line(error)}); run `unsam pseudo-masks` again"
        ) from None
    if not usable:
        raise DataError(f"{path}: not a manifest of pseudo masks; run `unsam pseudo-masks` again")
    return manifest


@dataclass
class SetCounts:
    """Counts over the photos of a set; memory does not grow with the masks.

    Attributes:
        masks: of each photo.
        depths: levels of each photo's deepest tree.
        roots: masks without a parent, of all photos.
        sources: masks by source, of all photos.
        bins: ``int64 [9]``, masks per 0.1 of granularity from 0.1; the last one includes 1.
    """

    masks: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    roots: int = 0
    sources: Counter[str] = field(default_factory=Counter)
    bins: np.ndarray = field(default_factory=lambda: np.zeros(NUM_BINS, np.int64))

    def add(self, record: Mapping[str, Any]) -> None:
        """Count the masks of one SA-1B style record, without decoding them.

        Raises:
            DataError: parents in a circle, or a granularity that is no number.
            TypeError, ValueError, AttributeError: annotations of another form.
        """
        annotations = record["annotations"]
        fields = fields_of_annotations(annotations) if annotations else {}
        granularity = np.asarray(fields.get("granularity", []), np.float64)
        if not np.isfinite(granularity).all():
            raise DataError("a granularity is not a number")
        parent = np.asarray(fields.get("parent", []), np.int64)
        depth = tree_depths(parent)
        self.masks.append(len(annotations))
        self.depths.append(int(depth.max()) + 1 if depth.size else 0)
        self.roots += int((parent < 0).sum())
        self.sources.update(fields.get("source", []))
        self.bins += granularity_bins(granularity)


def granularity_bins(granularity: np.ndarray) -> np.ndarray:
    """Return how many values lie in each 0.1 from 0.1 on, ``int64 [9]``; 1 is in the last."""
    # A decimal such as 0.3 is in the bin that it begins, whatever its binary neighbour is.
    number = np.floor(np.round(granularity, 6) * 10 + 1e-9).astype(np.int64) - 1
    return np.bincount(number.clip(0, NUM_BINS - 1), minlength=NUM_BINS)


def one_line(error: BaseException) -> str:
    """Return the text of an error in one line of at most 300 characters."""
    return (" ".join(str(error).split()) or type(error).__name__)[:300]
