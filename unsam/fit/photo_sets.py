"""The photos of a fit: their pseudo masks, what is trained on and what is held out."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode

from unsam.annotations.folders import MANIFEST
from unsam.annotations.records import parse_object, read_bytes
from unsam.errors import DataError
from unsam.fit.stage_file import digest_of

HELD_OUT_SHARE = 0.2

logger = logging.getLogger("unsam.fit")


@dataclass(frozen=True)
class FitInputs:
    """What a user brings.

    Attributes:
        images: folder of photos, or a ``.txt`` list of them; None where `masks` are given.
        val_images: photos to hold out; None holds out a fifth of the others.
        ground_truth: masks by people to evaluate on: a COCO-style JSON, or whatever else
            ``DATASETS.TEST`` may name.
        masks: folder of pseudo masks that ``unsam pseudo-masks`` has made of the photos.
    """

    images: str | os.PathLike[str] | None = None
    val_images: str | os.PathLike[str] | None = None
    ground_truth: str | None = None
    masks: str | os.PathLike[str] | None = None


@dataclass(frozen=True)
class PhotoSets:
    """Pseudo masks of the photos to train on and of those held out, each a dataset.

    Attributes:
        train: folder with the manifest of the photos to train on.
        held_out: likewise of the others.
        masks: the folders of pseudo masks behind the two.
        failures: photos that could not be used, with the reason.
    """

    train: Path
    held_out: Path
    masks: tuple[Path, ...]
    failures: dict[str, str]


def check_inputs(inputs: FitInputs, output: Path) -> None:
    """Find out at once what would end the work later.

    Raises:
        DataError: no photos, one alone, photos inside a tar, or an output within the photos.
    """
    if inputs.images is None and inputs.masks is None:
        raise DataError("no photos; name a folder with --images, or pseudo masks with --masks")
    for photos in (inputs.images, inputs.val_images):
        if photos is None:
            continue
        if output.resolve().is_relative_to(Path(photos).resolve()):
            raise DataError(
                f"{output}: the output lies within the photos, and pictures in it would be taken "
                "for photos next time; choose another folder"
            )
        if _count_photos(photos) < 2 and inputs.val_images is None:
            raise DataError(
                f"{photos}: one photo; at least 2 are needed, to train on one and hold out the "
                "other (some dozens for a useful model)"
            )


def make_sets(cfg: CfgNode, root: Path, inputs: FitInputs) -> PhotoSets:
    """Make the pseudo masks that are missing below `root`, and hold photos out.

    Raises:
        DataError: no photo, or too few, can be used; the two sets share a photo.
        UnsamError: the disk is full.
    """
    from divide_and_conquer.generate import generate_pseudo_masks
    from unsam.data.datasets.pseudo_masks import split_pseudo_masks

    folder, failures = root / "pseudo_masks", {}
    if inputs.masks is not None:
        folder = Path(inputs.masks)
        _check_photos_of(folder, inputs.images)
    else:
        assert inputs.images is not None
        failures = generate_pseudo_masks(inputs.images, folder, cfg)["failures"]
    if inputs.val_images is None:
        train, held_out = split_pseudo_masks(
            folder, root / "train", root / "held_out", HELD_OUT_SHARE, cfg.SEED
        )
        sets = PhotoSets(train, held_out, (folder,), failures)
    else:
        held_out = root / "val_masks"
        more = generate_pseudo_masks(inputs.val_images, held_out, cfg)["failures"]
        sets = PhotoSets(folder, held_out, (folder, held_out), failures | more)
        _refuse_shared_photos(sets)
    if sets.failures:
        name, reason = next(iter(sets.failures.items()))
        logger.warning(
            "%d photos cannot be used and are left out (first: %s: %s)",
            len(sets.failures),
            name,
            reason,
        )
    return sets


def count_photos(folder: Path) -> int:
    """Return the number of photos in the manifest of a folder of pseudo masks."""
    return len(_manifest(folder)["images"])


def photo_root(folder: Path) -> str:
    """Return where the photos of a folder of pseudo masks are, "" if it does not say."""
    return str(_manifest(folder).get("image_root") or "")


def digest_of_masks(folder: Path) -> str:
    """Return a hash of the photos of a folder of pseudo masks and of how the masks were made."""
    manifest = _manifest(folder)
    photos = {
        name: [item.get("sha256"), item.get("masks")] for name, item in manifest["images"].items()
    }
    return digest_of(photos, manifest.get("config"))


def _count_photos(photos: str | os.PathLike[str]) -> int:
    from divide_and_conquer.generation.sources import list_photos

    found = list_photos(photos).photos
    packed = next((photo for photo in found if photo.size >= 0), None)
    if packed is not None:
        raise DataError(f"{packed.path}: photos in a tar; unpack it, fit trains on single files")
    return len(found)


def _check_photos_of(masks: Path, images: str | os.PathLike[str] | None) -> None:
    """Check that masks made before are of the photos that were named with them, if any were."""
    stated = photo_root(masks)
    if images is not None and Path(stated).resolve() != Path(images).resolve():
        raise DataError(
            f"{masks}: masks of the photos in {stated}, not of those in {images}; give --masks "
            "alone (with DATASETS.IMAGE_ROOT if the photos have moved), or --images alone"
        )


def _refuse_shared_photos(sets: PhotoSets) -> None:
    """Keep photos that are trained on from being taken for new ones."""
    held_out = _names_by_hash(sets.held_out)
    shared = sorted(held_out.keys() & _names_by_hash(sets.train).keys())
    if shared:
        raise DataError(
            f"{len(shared)} photos to hold out are among those to train on (first: "
            f"{held_out[shared[0]]}); take them out of one of the two folders"
        )


def _names_by_hash(folder: Path) -> dict[str, str]:
    images = _manifest(folder)["images"]
    return {item["sha256"]: name for name, item in images.items() if item.get("sha256")}


def _manifest(folder: Path) -> dict[str, Any]:
    place = folder / MANIFEST
    manifest = parse_object(read_bytes(place), str(place))
    images = manifest.get("images")
    if not isinstance(images, dict) or not all(isinstance(item, dict) for item in images.values()):
        raise DataError(f"{place}: expected 'images', the list of photos, in it")
    return manifest
