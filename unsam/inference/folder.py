"""Whole-image masks of many photos, as a folder that trains like one of pseudo masks."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from tqdm import tqdm

from unsam.annotations.folders import MANIFEST, JsonFolderWriter, check_manifest
from unsam.annotations.formats import check_output
from unsam.annotations.records import PhotoFile, image_id_of
from unsam.config import config_text
from unsam.errors import DataError
from unsam.inference.segmenter import Segmenter
from unsam.inference.validation import check_granularity
from unsam.structures import read_photo

# Key in the config of the manifests that are written here.
_MADE_BY = "SEGMENT"
# Raise when the same photo, weights and config give other masks than before.
CODE_VERSION = 1
_SUPERVISED_MODELS = ("Sam", "Sam2")


def segment_photos(
    photos: Mapping[str, PhotoFile],
    image_root: str | os.PathLike[str],
    output: str | os.PathLike[str],
    segmenter: Segmenter,
    *,
    granularity: Sequence[float] | None = None,
    failures: Mapping[str, str] = MappingProxyType({}),
    progress: bool = False,
) -> dict[str, Any]:
    """Write the masks that a model finds on photos, in the layout of ``unsam pseudo-masks``.

    The photo ``a/b.jpg`` gives ``a/b.jpg.json``, whole or not at all; ``manifest.json`` comes last.
    A rerun keeps the files that hold masks of the same photo, weights and config.

    Args:
        photos: name relative to `image_root`, with forward slashes, to where the photo is.
        image_root: folder of the photos, which the manifest names.
        output: folder for the masks; made if missing.
        segmenter: with its config, as `Segmenter.from_pretrained` gives it.
        granularity: in [0.1, 1], one or several; None for ``INFERENCE.GRANULARITIES``.
        failures: what could not even be listed, with the reason, for the manifest.
        progress: show a bar on standard error.

    Returns:
        The manifest. Photos that cannot be read, or for which the memory is too small, are in its
        ``failures``.

    Raises:
        DataError: the output holds something else, or no photo could be used.
        StorageError: the disk is full or the folder not writable.
        ValueError: a granularity outside [0.1, 1], or a segmenter without its config.
    """
    if segmenter.cfg is None:
        raise ValueError("the config of this model is not known; pass Segmenter(..., cfg=cfg)")
    wanted = None if granularity is None else [float(value) for value in granularity]
    if wanted is not None:
        check_granularity(wanted)
    target = check_output(output, "json")
    check_manifest(target / MANIFEST, _MADE_BY)
    config = {"INFERENCE": _plain(segmenter.cfg.INFERENCE), "GRANULARITY": wanted}
    made_from = {
        "weights": digest_of_weights(segmenter.model.state_dict()),
        "config": _digest(config_text(segmenter.cfg), json.dumps(wanted)),
        "code_version": CODE_VERSION,
    }
    # The published weights of SAM and SAM 2, and what is trained from them, know masks by people.
    is_supervised = segmenter.cfg.MODEL.META_ARCHITECTURE in _SUPERVISED_MODELS
    writer = JsonFolderWriter(target, Path(image_root), is_supervised)
    failed = dict(failures)
    for name in tqdm(sorted(photos), unit="photo", disable=not progress):
        try:
            _segment_one(writer, name, photos[name], segmenter, wanted, made_from)
        except DataError as error:
            failed[name] = str(error)
        except (MemoryError, torch.OutOfMemoryError) as error:
            failed[name] = f"the memory is too small for this photo ({type(error).__name__})"
    manifest = writer.finish({_MADE_BY: config | {"WEIGHTS": made_from["weights"]}}, failed)
    if not writer.images:
        name, reason = next(iter(failed.items()), ("", "there is none"))
        raise DataError(f"none of {len(failed)} photos could be used ({name}: {reason})")
    return manifest


def _segment_one(
    writer: JsonFolderWriter,
    name: str,
    photo: PhotoFile,
    segmenter: Segmenter,
    granularity: list[float] | None,
    made_from: dict[str, Any],
) -> None:
    """Write the masks of one photo unless they are there already."""
    blob = photo.read()
    sha256 = hashlib.sha256(blob).hexdigest()
    origin = {**made_from, "sha256": sha256}
    kept = _read_kept(writer.output / f"{name}.json", origin)
    if kept is not None:
        writer.keep(kept, sha256)
        return
    masks = segmenter.generate(read_photo(photo.path, blob=blob), granularity)
    record = masks.replace(source="model").to_sa1b(name, image_id_of(name))
    writer.add(record | {"made_from": origin}, sha256=sha256)


def _read_kept(path: Path, origin: dict[str, Any]) -> dict[str, Any] | None:
    """Return the record of an earlier run; None if there is none, or of something else.

    Raises:
        DataError: the file is another program's, such as a tool for annotation.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("made_from"), dict):
        raise DataError(f"{path}: a file of another program; choose another output folder")
    return record if record["made_from"] == origin else None


def digest_of_weights(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return a hash of tensors with their names; files of equal weights need not be equal."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(values.numpy().data)
    return digest.hexdigest()[:16]


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def _plain(node: Any) -> Any:
    return {key: _plain(value) for key, value in node.items()} if isinstance(node, dict) else node
