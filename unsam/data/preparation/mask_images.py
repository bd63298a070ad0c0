"""Datasets of a folder of photos and a folder of mask images: GrabCut, Berkeley, DAVIS and more."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from unsam.annotations.records import read_bytes
from unsam.data.datasets.benchmarks import PublishedCounts
from unsam.data.preparation.prepared import require_files
from unsam.data.preparation.truth_files import AnnotatedPhoto, PhotoMasks, prepare_truth_files
from unsam.errors import DataError
from unsam.structures import PHOTO_SUFFIXES, MaskSet
from unsam.structures.photo import BROKEN_PHOTO

# GrabCut and Berkeley, as the interactive methods read them.
_BAND = 128
# PartImageNet's parts are the labels 0 to 39, and 40 is what belongs to no part.
_PART_BACKGROUND = 40
_NUMBERED = re.compile(r"(.+)[#_-]\d+")


def read_label_image(path: Path, mode: str = "") -> np.ndarray:
    """Return the pixels of a mask image.

    Args:
        path: of the image.
        mode: Pillow's name of the kind of pixels that they are turned into; "" takes them as they
            are stored, palette indices not looked up.

    Returns:
        ``[H, W]``, or ``[H, W, C]`` of an image with colours; bool or integers.

    Raises:
        DataError: missing or damaged.
    """
    read_bytes(path, size=0)
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert(mode) if mode else image)
    except BROKEN_PHOTO as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{path}: a damaged mask image ({reason}); fetch it again") from None


def object_with_band(path: Path) -> PhotoMasks:
    """Read one object (above 128) and the band around it that is ignored (128): GrabCut, Berkeley.

    The band is a crowd region (``iscrowd`` 1); all else is background and no mask.

    Raises:
        DataError: damaged, or no object in it.
    """
    grey = read_label_image(path, "L")
    return _one_object(path, grey > _BAND, grey == _BAND)


def foreground(path: Path) -> PhotoMasks:
    """Read all that is not 0 as one object: DAVIS 2016.

    Raises:
        DataError: damaged, or no object in it.
    """
    pixels = read_label_image(path) != 0
    inside = pixels.any(axis=2) if pixels.ndim == 3 else pixels
    return _one_object(path, inside, np.zeros_like(inside))


def part_labels(path: Path) -> PhotoMasks:
    """Read the label maps of PartImageNet_Seg: each label of a photo is one mask, a part.

    Labels 0 to 39 are the 40 classes of parts, so 0 is one of them; 40 is the background and never
    a mask. UnSAMv2's evaluation counts it as a part.

    Raises:
        DataError: damaged, or no such map.
    """
    labels = read_label_image(path)
    if labels.ndim != 2 or labels.max(initial=0) > _PART_BACKGROUND:
        raise DataError(
            f"{path}: expected one channel of labels 0 to {_PART_BACKGROUND} as in "
            f"PartImageNet_Seg, got shape {labels.shape} and labels up to {labels.max(initial=0)}"
        )
    masks = MaskSet.from_label_map(labels, background=_PART_BACKGROUND)
    kinds = np.setdiff1d(labels, [_PART_BACKGROUND]).tolist()
    rows = [
        {"segmentation": rle, "level": 1, "source_category": str(kind)}
        for rle, kind in zip(masks.rles, kinds, strict=True)
    ]
    return masks.size, rows


def prepare_mask_images(
    images: str | os.PathLike[str],
    masks: str | os.PathLike[str],
    output: str | os.PathLike[str],
    read: Callable[[Path], PhotoMasks],
    *,
    counts: PublishedCounts | None = None,
    progress: bool = False,
) -> str:
    """Write a folder of photos and one of mask images as class-agnostic COCO JSON.

    A mask image belongs to the photo of the same path without suffix, or of that path without a
    number at its end (``a#1.png`` and ``a#2.png`` to ``a.jpg``). Photos without a mask are left
    out.

    Args:
        images: folder of the photos, at any depth.
        masks: folder of the mask images.
        output: the JSON to write; its folder of photos gets a link to `images`.
        read: how the pixels of a mask image are meant.
        counts: that the set must have, None for a part of it.
        progress: show a bar on standard error.

    Returns:
        One line on what was written.

    Raises:
        DataError: a folder without images, mask images without a photo, two photos of one name,
            damaged files, other sizes or other counts.
        StorageError: the disk is full or the folder not writable.
    """
    root, truth = (Path(folder).expanduser().resolve() for folder in (images, masks))
    photos: dict[str, Path] = {}
    for path in _images_in(root):
        first = photos.setdefault(_key(path, root), path)
        if first is not path:
            raise DataError(f"{path}: {first.name} is a photo of the same name; remove one of them")
    found = _images_in(truth)
    owners = [_owner(_key(path, truth), photos) for path in found]
    missing = [path for path, owner in zip(found, owners, strict=True) if owner is None]
    require_files(missing, len(found), f"photos in {root} of the masks in {truth}")
    grouped: dict[str, list[Path]] = {}
    for path, owner in zip(found, owners, strict=True):
        grouped.setdefault(str(owner), []).append(path)
    annotated = [AnnotatedPhoto(photos[owner], files) for owner, files in sorted(grouped.items())]
    words: dict[str, Any] = {"counts": counts, "progress": progress}
    return prepare_truth_files(annotated, read, root, Path(output).expanduser(), **words)


def _one_object(path: Path, inside: np.ndarray, ignored: np.ndarray) -> PhotoMasks:
    if not inside.any():
        raise DataError(f"{path}: no object in it, all pixels are background")
    masks = MaskSet.from_masks(np.stack([inside, ignored])).rles
    rows: list[dict[str, Any]] = [{"segmentation": masks[0], "level": 0}]
    if ignored.any():
        rows.append({"segmentation": masks[1], "iscrowd": 1})
    return (inside.shape[0], inside.shape[1]), rows


def _images_in(folder: Path) -> list[Path]:
    paths = (path for path in folder.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES)
    found = sorted(path for path in paths if not path.name.startswith("."))
    if not found:
        raise DataError(f"{folder}: no image in it")
    return found


def _key(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _owner(key: str, photos: dict[str, Path]) -> str | None:
    """Return the key of the photo that a mask image belongs to."""
    if key in photos:
        return key
    numbered = _NUMBERED.fullmatch(key)
    return numbered[1] if numbered and numbered[1] in photos else None
