"""Masks of two sources joined photo by photo: UnSAM+ and self-training."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from tqdm import tqdm

from unsam.annotations.folders import MANIFEST, JsonFolderWriter, check_manifest
from unsam.annotations.formats import check_output
from unsam.annotations.index import AnnotationIndex
from unsam.annotations.photos import check_photo
from unsam.annotations.records import Entry, PhotoRecord
from unsam.errors import DataError
from unsam.structures import MaskSet

# Key in the config of the manifests that a merge writes.
_MADE_BY = "MERGE"

GranularityRule = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Areas ``int64 [N]`` and parents ``int64 [N]`` to granularities ``float32 [N]`` in [0.1, 1]."""

Pair = tuple[Entry | None, Entry | None]
"""The pseudo masks of a photo, and those that are added."""

CONTAINMENT = 0.9
"""Least share of a mask that must lie in its parent, as in PSEUDO_MASKS.CONTAINMENT."""


@dataclass(frozen=True)
class SourcedMasks:
    """The masks of one photo from one source.

    Attributes:
        masks: N masks.
        has_granularity: ``bool [N]``, which came with a granularity.
    """

    masks: MaskSet
    has_granularity: np.ndarray

    def filter(self, keep: np.ndarray) -> SourcedMasks:
        """Return the masks where ``keep bool [N]``."""
        return SourcedMasks(self.masks.filter(keep), self.has_granularity[keep])

    def joined(self, other: SourcedMasks) -> SourcedMasks:
        """Return these masks and then the others."""
        return SourcedMasks(
            MaskSet.cat([self.masks, other.masks]),
            np.concatenate([self.has_granularity, other.has_granularity]),
        )


def merge_unsam_plus(
    human: str | os.PathLike[str],
    pseudo: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    granularity_of: GranularityRule,
    max_iou: float = 0.02,
    image_root: str | os.PathLike[str] = "",
    strict: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Write all human masks and the pseudo masks that overlap none of them (UnSAM, eq. 3).

    A pseudo mask stays if its largest IoU with the human masks of its photo is at most `max_iou`.
    Photos in one of the two sources keep their masks. Parents are computed anew over the union;
    masks that came without granularity get theirs within it. Crowd regions are left out.

    Args:
        human: masks by people, in any format of `open_source`.
        pseudo: pseudo masks, likewise; photos are matched by name (`AnnotationIndex.find`).
        output: folder for a JSON per photo and ``manifest.json``, ready to train on. Written
            again, the same, by a rerun.
        granularity_of: the rule for masks without granularity, such as
            ``divide_and_conquer.granularity.granularity_of_trees``.
        max_iou: in [0, 1]; 1 keeps everything.
        image_root: where the photos are; "" takes the folder of either source that holds the
            most. A photo that is not in it fails. Photos inside a TSV or tar are written out.
        strict: raise if a photo failed, after all the others are done.
        progress: show a bar on standard error.

    Returns:
        The manifest, as of ``unsam pseudo-masks``. A photo whose masks are damaged, or of two
        sizes, is in its ``failures``.

    Raises:
        DataError: an input cannot be used, no photo could be, or `strict` and one could not.
        StorageError: the disk is full or the folder not writable.
    """
    _check_share("max_iou", max_iou)

    def join(made: SourcedMasks, people: SourcedMasks) -> SourcedMasks:
        return people.joined(made.filter(overlaps_none(made.masks, people.masks, max_iou)))

    config: dict[str, Any] = {
        "KIND": "plus",
        "HUMAN": _absolute(human),
        "PSEUDO": _absolute(pseudo),
    }
    config = {_MADE_BY: {**config, "MAX_IOU": max_iou}}
    job = _MergeJob(Path(pseudo), Path(human), "human", join, granularity_of, config)
    return job.run(output, image_root, strict, progress)


def merge_self_training(
    pseudo: str | os.PathLike[str],
    predictions: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    granularity_of: GranularityRule,
    min_score: float = 0.7,
    max_iou: float = 0.5,
    image_root: str | os.PathLike[str] = "",
    strict: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Write the pseudo masks with what a model trained on them is sure of in place of some.

    Predictions with a score above `min_score` join; a pseudo mask goes if its IoU with one of them
    is above `max_iou`. A photo with no such prediction keeps its masks as they are.

    Args:
        pseudo: the masks that the model was trained on, in any format of `open_source`.
        predictions: the masks of the model, with scores (``score`` or ``predicted_iou``).
        output: as of `merge_unsam_plus`.
        granularity_of: as of `merge_unsam_plus`.
        min_score: in [0, 1].
        max_iou: in [0, 1].
        image_root: as of `merge_unsam_plus`.
        strict: as of `merge_unsam_plus`.
        progress: as of `merge_unsam_plus`.

    Returns:
        The manifest, as of `merge_unsam_plus`.

    Raises:
        DataError: as of `merge_unsam_plus`.
        StorageError: as of `merge_unsam_plus`.
    """
    _check_share("min_score", min_score)
    _check_share("max_iou", max_iou)

    def join(old: SourcedMasks, predicted: SourcedMasks) -> SourcedMasks:
        sure = predicted.filter(predicted.masks.score > min_score)
        if not len(sure.masks):
            return old
        return old.filter(overlaps_none(old.masks, sure.masks, max_iou)).joined(sure)

    config: dict[str, Any] = {"KIND": "self-training", "PSEUDO": _absolute(pseudo)}
    config["PREDICTIONS"] = _absolute(predictions)
    config = {_MADE_BY: {**config, "MIN_SCORE": min_score, "MAX_IOU": max_iou}}
    job = _MergeJob(Path(pseudo), Path(predictions), "model", join, granularity_of, config)
    return job.run(output, image_root, strict, progress)


def overlaps_none(masks: MaskSet, others: MaskSet, max_iou: float) -> np.ndarray:
    """Return which masks have an IoU of at most `max_iou` with every other one, ``bool [N]``."""
    if not len(others):
        return np.ones(len(masks), bool)
    return masks.iou(others).max(axis=1) <= max_iou


def with_hierarchy(
    item: SourcedMasks, granularity_of: GranularityRule, keep_parents: bool = False
) -> MaskSet:
    """Return the masks with parents computed anew, and a granularity where there was none."""
    masks = item.masks if keep_parents else item.masks.with_parents(CONTAINMENT)
    if item.has_granularity.all():
        return masks
    computed = granularity_of(masks.areas, masks.parent)
    return masks.replace(granularity=np.where(item.has_granularity, masks.granularity, computed))


@dataclass(frozen=True)
class _MergeJob:
    """A merge of pseudo masks with others, whose source is `added_source` where they name none."""

    pseudo: Path
    added: Path
    added_source: str
    join: Callable[[SourcedMasks, SourcedMasks], SourcedMasks]
    granularity_of: GranularityRule
    config: dict[str, Any]

    def run(
        self,
        output: str | os.PathLike[str],
        image_root: str | os.PathLike[str],
        strict: bool,
        progress: bool,
    ) -> dict[str, Any]:
        """Merge photo by photo; one is in memory at a time."""
        target = _check_output(output, self.pseudo, self.added)
        indices = [AnnotationIndex.open(path, image_root) for path in (self.pseudo, self.added)]
        failures = {item.place: item.reason for index in indices for item in index.failures}
        pairs = list(_pairs(indices[0], indices[1], failures))
        if os.fspath(image_root):
            roots = [Path(image_root).expanduser()]
        else:
            roots = [root for index in indices if (root := index.source.photo_root())]
        supervised = any(index.source.supervised for index in indices)
        writer = JsonFolderWriter(target, _root_of_most(roots, pairs), supervised)
        for pair in tqdm(pairs, unit="photo", disable=not progress):
            name = next(entry.name for entry in pair if entry)
            try:
                self._write(writer, *_read(indices, pair))
            except DataError as error:
                failures[name] = str(error)
        if not writer.images:
            _raise_failures(target, failures, 0)
        manifest = writer.finish(self.config, failures)
        if strict and failures:
            _raise_failures(target, failures, len(writer.images))
        return manifest

    def _write(
        self, writer: JsonFolderWriter, pseudo: PhotoRecord | None, added: PhotoRecord | None
    ) -> None:
        present = [record for record in (pseudo, added) if record]
        if len({record.size for record in present}) > 1:
            sizes = " and ".join(f"{record.size[1]}x{record.size[0]}" for record in present)
            raise DataError(f"masks for photos of two sizes, {sizes}")
        name, blob = _photo_of(present, writer.image_root)
        size = present[0].size
        parts = (_sourced(pseudo, "conquer", size), _sourced(added, self.added_source, size))
        joined = self.join(*parts)
        # Parents that somebody stated are better than computed ones, as long as they are all.
        is_as_given = any(joined.masks == part.masks for part in parts)
        is_hierarchy = bool(joined.has_granularity.all() or (joined.masks.parent >= 0).any())
        masks = with_hierarchy(joined, self.granularity_of, is_as_given and is_hierarchy)
        record = masks.to_sa1b(name, present[0].image["image_id"])
        writer.add(record, blob, next((item.sha256 for item in present if item.sha256), ""))


def _sourced(record: PhotoRecord | None, source: str, size: tuple[int, int]) -> SourcedMasks:
    if record is None:
        return SourcedMasks(MaskSet.empty(size), np.zeros(0, bool))
    item = SourcedMasks(record.masks(source), record.has_granularity())
    # Degenerate polygons cover no pixel: nothing to learn from.
    return item.filter(item.masks.areas > 0)


def _photo_of(present: list[PhotoRecord], root: Path | None) -> tuple[str, bytes]:
    """Return the name that the photo has below its root, and its bytes if they are to be moved.

    Raises:
        DataError: the photo is not below the root, or damaged.
    """
    if root is not None:
        for record in present:
            if (root / record.name).is_file():
                return record.name, b""
        raise DataError(f"its photo is not below {root}; name a folder of all with --image-root")
    for record in present:
        if record.photo and record.photo.is_embedded:
            blob = record.photo.read()
            check_photo(blob, record.size)
            return record.name, blob
    return present[0].name, b""


def _root_of_most(roots: list[Path], pairs: list[Pair]) -> Path | None:
    """Return the folder that holds the most photos, by the name of either side; None of none."""
    if len(roots) < 2:
        return roots[0] if roots else None

    def held(root: Path) -> int:
        return sum(any((root / entry.name).is_file() for entry in pair if entry) for pair in pairs)

    return max(roots, key=held)


def _pairs(
    pseudo: AnnotationIndex, added: AnnotationIndex, failures: dict[str, str]
) -> Iterator[Pair]:
    """Yield the photos of both, then those of `added` alone; in order of the names."""
    taken: set[str] = set()
    for entry in pseudo:
        try:
            pseudo.find(entry.name)
            found = added.find(entry.name)
            if found is not None and found.name in taken:
                raise DataError(f"{added.source.place(found)}: taken by another photo already")
        except DataError as error:
            failures[entry.name] = str(error)
            continue
        if found is not None:
            taken.add(found.name)
        yield entry, found
    for entry in added:
        if entry.name in taken:
            continue
        try:
            added.find(entry.name)
        except DataError as error:
            failures[entry.name] = str(error)
            continue
        yield None, entry


def _read(indices: list[AnnotationIndex], pair: Pair) -> list[PhotoRecord | None]:
    both = zip(indices, pair, strict=True)
    return [index.source.read(entry) if entry else None for index, entry in both]


def _check_output(output: str | os.PathLike[str], *inputs: Path) -> Path:
    place = Path(output).expanduser().resolve()
    if os.fspath(output) and any(path.expanduser().resolve() == place for path in inputs):
        raise DataError(f"{output}: the output is one of the inputs; choose another folder")
    target = check_output(output, "json")
    check_manifest(target / MANIFEST, _MADE_BY)
    return target


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise DataError(f"{name} must lie in [0, 1], got {value}")


def _raise_failures(target: Path, failures: dict[str, str], done: int) -> NoReturn:
    place, reason = next(iter(failures.items()), ("", "no photo in either input"))
    many = f"{len(failures)} of {done + len(failures)}"
    raise DataError(f"{target}: {many} photos could not be merged ({place}: {reason})")


def _absolute(path: str | os.PathLike[str]) -> str:
    return str(Path(path).expanduser().absolute())
