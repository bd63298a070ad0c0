"""`MaskSet`: all masks of one image with their fields, kept as runs and never as full arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from unsam.structures import mask_formats, run_codec, runs
from unsam.structures.mask_cleaning import clean_mask

_NMS_BLOCK = 1024
FIELDS = ("score", "granularity", "parent", "source")


class MaskSet:
    """The masks of one image and, for each, score, granularity, parent and source.

    Treat it as immutable: every method returns a new set. Masks are runs over pixels counted
    column by column (see `unsam.structures.runs`), so a thousand masks of a large photo take
    megabytes, and overlaps, boxes and areas are computed on the runs.

    Attributes:
        size: ``(H, W)`` in pixels.
        runs: ``int32 [R, 2]``, the runs of all masks.
        offsets: ``int64 [N + 1]``, mask i has ``runs[offsets[i]:offsets[i + 1]]``.
        score: ``float32 [N]``, confidence, by default 1.
        granularity: ``float32 [N]`` in [0.1, 1], 0.1 the finest part and 1 the whole; default 1.
        parent: ``int64 [N]``, index in this set, -1 for a root; default -1.
        source: ``str [N]``, one of divide, conquer, human, model; default model.
    """

    def __init__(
        self,
        size: tuple[int, int],
        runs: np.ndarray,
        offsets: np.ndarray,
        *,
        score: ArrayLike | None = None,
        granularity: ArrayLike | None = None,
        parent: ArrayLike | None = None,
        source: str | ArrayLike = "model",
    ) -> None:
        self.size = (int(size[0]), int(size[1]))
        if self.size[0] * self.size[1] >= 2**31:
            raise ValueError(f"images of 2^31 pixels or more do not fit in a MaskSet: {self.size}")
        self.runs = np.ascontiguousarray(runs, np.int32).reshape(-1, 2)
        self.offsets = np.ascontiguousarray(offsets, np.int64)
        count = len(self)
        self.score = _field("score", score, 1.0, np.float32, count)
        self.granularity = _field("granularity", granularity, 1.0, np.float32, count)
        self.parent = _field("parent", parent, -1, np.int64, count)
        names = np.full(count, source) if isinstance(source, str) else np.asarray(source)
        self.source = _field("source", names, "model", np.dtype("<U7"), count)
        if count and not (self.granularity.min() >= 0.1 - 1e-6 and self.granularity.max() <= 1.0):
            raise ValueError("granularity must lie in [0.1, 1]")
        if count and not (self.parent.min() >= -1 and self.parent.max() < count):
            raise ValueError(f"parent must be -1 or an index below {count}")

    # ---------------------------------------------------------------------------- construction
    @classmethod
    def empty(cls, size: tuple[int, int]) -> MaskSet:
        """Return a set without masks for an image of ``(H, W)``."""
        return cls(size, np.zeros((0, 2), np.int32), np.zeros(1, np.int64))

    @classmethod
    def from_masks(cls, masks: Any, **fields: Any) -> MaskSet:
        """Build from dense masks ``[N, H, W]`` (bool, or any number where non-zero is inside).

        Raises:
            ValueError: not three axes.
        """
        dense = np.asarray(masks)
        if dense.ndim != 3:
            raise ValueError(f"masks must be [N, H, W], got shape {dense.shape}")
        height, width = dense.shape[1:]
        parts = [
            runs.encode_flat(np.ascontiguousarray(mask.T != 0).view(np.uint8).reshape(-1))
            for mask in dense
        ]
        return cls((height, width), *concatenate_runs(parts), **fields)

    @classmethod
    def from_label_map(
        cls, labels: np.ndarray, background: int | None = None, **fields: Any
    ) -> MaskSet:
        """Build one mask per label of ``labels int [H, W]``, in ascending order of the labels.

        Args:
            labels: the label map.
            background: a label that is no mask, None if all are.
            **fields: as of the constructor, one entry per label that is kept.
        """
        values, flat = np.unique(np.asarray(labels).T, return_inverse=True)
        codes = np.arange(values.size, dtype=np.int32)
        count = values.size
        if background is not None and background in values:
            hidden = int(np.searchsorted(values, background))
            codes[hidden + 1 :] -= 1
            codes[hidden] = -1
            count -= 1
        encoded = runs.encode_labels(codes[flat.reshape(-1)], count)
        return cls((labels.shape[0], labels.shape[1]), *encoded, **fields)

    @classmethod
    def from_rles(
        cls, size: tuple[int, int], rles: Iterable[Mapping[str, Any]], **fields: Any
    ) -> MaskSet:
        """Build from COCO RLEs ``{"size": [H, W], "counts": text, bytes or list of lengths}``.

        Raises:
            DataError: an RLE is of another size or does not add up to H * W pixels.
        """
        parts = [mask_formats.rle_to_runs(rle, size) for rle in rles]
        return cls(size, *concatenate_runs(parts), **fields)

    @classmethod
    def from_coco(cls, annotations: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> MaskSet:
        """Build from COCO annotations or results (RLE or polygons); unknown keys are ignored.

        Reads ``segmentation``, ``score`` (or ``predicted_iou``), ``granularity``, ``source`` and
        ``parent_id`` (by ``id``).

        Raises:
            DataError: an annotation has no usable segmentation.
        """
        parts = [mask_formats.segmentation_to_runs(item, size) for item in annotations]
        return cls(
            size, *concatenate_runs(parts), **mask_formats.fields_of_annotations(annotations)
        )

    @classmethod
    def from_sa1b(cls, record: Mapping[str, Any]) -> MaskSet:
        """Build from one SA-1B style record ``{"image": {...}, "annotations": [...]}``.

        Raises:
            DataError: keys are missing.
        """
        size, annotations = mask_formats.split_sa1b(record)
        return cls.from_coco(annotations, size)

    @classmethod
    def cat(cls, sets: Sequence[MaskSet]) -> MaskSet:
        """Join sets of one image; parents keep pointing at their masks.

        Raises:
            ValueError: no set, or sets of different sizes.
        """
        if not sets:
            raise ValueError("MaskSet.cat needs at least one set; use MaskSet.empty(size)")
        if len({item.size for item in sets}) > 1:
            raise ValueError(f"sets of different sizes: {sorted({item.size for item in sets})}")
        shifts = np.cumsum([0] + [len(item) for item in sets])
        parents = [
            np.where(item.parent >= 0, item.parent + shift, -1)
            for item, shift in zip(sets, shifts[:-1], strict=True)
        ]
        run_shifts = np.cumsum([0] + [item.runs.shape[0] for item in sets])
        offsets = [
            item.offsets[1:] + shift for item, shift in zip(sets, run_shifts[:-1], strict=True)
        ]
        return cls(
            sets[0].size,
            np.concatenate([item.runs for item in sets]),
            np.concatenate([np.zeros(1, np.int64), *offsets]),
            score=np.concatenate([item.score for item in sets]),
            granularity=np.concatenate([item.granularity for item in sets]),
            parent=np.concatenate(parents),
            source=np.concatenate([item.source for item in sets]),
        )

    # ------------------------------------------------------------------------------ the masks
    def __len__(self) -> int:
        return self.offsets.size - 1

    def __repr__(self) -> str:
        return f"MaskSet({len(self)} masks of {self.size[0]}x{self.size[1]})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MaskSet) or self.size != other.size or len(self) != len(other):
            return False
        names = ("runs", "offsets", *FIELDS)
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in names)

    __hash__ = None  # type: ignore[assignment]

    def runs_of(self, index: int) -> np.ndarray:
        """Return the runs ``int32 [R, 2]`` of one mask."""
        return self.runs[self.offsets[index] : self.offsets[index + 1]]

    def mask(self, index: int) -> np.ndarray:
        """Return one mask as ``bool [H, W]``."""
        flat = np.zeros(self.size[0] * self.size[1], np.uint8)
        runs.paint(self.runs_of(index), flat, 1)
        return flat.reshape(self.size[1], self.size[0]).T.astype(bool, order="C")

    def masks(self) -> np.ndarray:
        """Return all masks as ``bool [N, H, W]``; for small sets only."""
        dense = np.zeros((len(self), *self.size), bool)
        for index in range(len(self)):
            dense[index] = self.mask(index)
        return dense

    @property
    def rles(self) -> list[dict[str, Any]]:
        """COCO compressed RLEs ``{"size": [H, W], "counts": bytes}``, as pycocotools has them."""
        text, ends = run_codec.encode_text(self.runs, self.offsets, self.size[0] * self.size[1])
        blob = text.tobytes()
        return [
            {"size": list(self.size), "counts": blob[ends[i] : ends[i + 1]]}
            for i in range(len(self))
        ]

    @property
    def areas(self) -> np.ndarray:
        """Pixels of each mask, ``int64 [N]``."""
        return runs.areas(self.runs, self.offsets)

    @property
    def boxes(self) -> np.ndarray:
        """Tight boxes XYXY, ``int64 [N, 4]``, maxima exclusive; zeros for an empty mask."""
        return runs.boxes(self.runs, self.offsets, self.size[0])

    @property
    def boxes_xywh(self) -> np.ndarray:
        """Tight boxes XYWH, ``int64 [N, 4]``, as COCO writes them."""
        corners = self.boxes
        corners[:, 2:] -= corners[:, :2]
        return corners

    def label_map(self) -> np.ndarray:
        """Return ``int32 [H, W]``: the smallest mask over each pixel, -1 where there is none."""
        flat = np.full(self.size[0] * self.size[1], -1, np.int32)
        for index in np.argsort(-self.areas, kind="stable"):
            runs.paint(self.runs_of(index), flat, index)
        return np.ascontiguousarray(flat.reshape(self.size[1], self.size[0]).T)

    # ----------------------------------------------------------------------------- overlaps
    def intersections(self, other: MaskSet | None = None) -> np.ndarray:
        """Return common pixels with every mask of `other` (or of this set), ``int64 [N, M]``.

        Raises:
            ValueError: `other` is of another image size.
        """
        if other is None:
            # Each mask's runs ascend already, which the stable sort makes use of.
            order = np.argsort(self.runs[:, 0], kind="stable")
            return runs.self_intersections(self.runs, self._run_owners(), order, len(self))
        if other.size != self.size:
            raise ValueError(f"masks of different image sizes: {self.size} and {other.size}")
        joined = np.concatenate([self.runs, other.runs])
        owner = np.concatenate([self._run_owners(), other._run_owners() + np.int32(len(self))])
        order = np.argsort(joined[:, 0], kind="stable")
        return runs.cross_intersections(joined, owner, order, len(self), len(other))

    def iou(self, other: MaskSet | None = None) -> np.ndarray:
        """Return intersection over union, ``float64 [N, M]`` in [0, 1]; 0 for two empty masks."""
        common = self.intersections(other)
        second = self.areas if other is None else other.areas
        union = self.areas[:, None] + second[None, :] - common
        return common / np.maximum(union, 1)

    def containment(self, other: MaskSet | None = None) -> np.ndarray:
        """Return the share of mask i that lies in mask j, ``float64 [N, M]``; 0 if i is empty."""
        return self.intersections(other) / np.maximum(self.areas, 1)[:, None]

    def nms(self, iou_threshold: float, order: str = "score") -> np.ndarray:
        """Return the masks that greedy non-maximum suppression keeps, best first, ``int64 [K]``.

        Exact: each mask is compared with every survivor before it, none is skipped. Memory is
        bounded by blocks, not by N squared.

        Args:
            iou_threshold: a mask goes when its IoU with a survivor before it is larger.
            order: ``"score"`` (highest first) or ``"area"`` (largest first); ties by index.

        Raises:
            ValueError: another order.
        """
        priority = np.argsort(-self._key(order), kind="stable")
        kept: list[np.ndarray] = []
        for start in range(0, len(self), _NMS_BLOCK):
            block = priority[start : start + _NMS_BLOCK]
            candidates = self._take(block)
            alive = np.ones(block.size, bool)
            for survivors in kept:
                against = candidates.iou(self._take(survivors))
                alive &= ~(against > iou_threshold).any(axis=1)
            alive = runs.greedy_suppress(candidates.iou(), iou_threshold, alive)
            if alive.any():
                kept.append(block[alive])
        return np.concatenate(kept) if kept else np.zeros(0, np.int64)

    def with_parents(self, containment: float = 0.9) -> MaskSet:
        """Return the set with each parent the smallest larger mask that contains the mask.

        Args:
            containment: least share of the mask that must lie in its parent. Of equally large
                masks the one with the lower index is the parent.
        """
        size = self.areas
        rank = np.empty(len(self), np.int64)
        rank[np.lexsort((np.arange(len(self)), -size))] = np.arange(len(self))
        inside = self.containment() >= containment
        inside &= rank[None, :] < rank[:, None]
        # The smallest container is the one latest in the order from large to small.
        latest = np.where(inside, rank[None, :], -1)
        parent = latest.argmax(axis=1) if len(self) else np.zeros(0, np.int64)
        return self.replace(parent=np.where(inside.any(axis=1), parent, -1))

    # ------------------------------------------------------------------------------ selections
    def filter(self, index: ArrayLike) -> MaskSet:
        """Return the masks of an index array or a bool mask, in that order.

        A mask whose parent is dropped goes to its nearest kept ancestor.
        """
        chosen = np.asarray(index)
        if chosen.dtype == bool:
            if chosen.shape != (len(self),):
                raise ValueError(f"a bool filter needs {len(self)} entries, got {chosen.shape}")
            chosen = np.flatnonzero(chosen)
        chosen = chosen.astype(np.int64).reshape(-1)
        place = np.full(len(self) + 1, -1, np.int64)
        place[chosen] = np.arange(chosen.size)
        ancestor = self.parent[chosen]
        for _ in range(len(self)):
            lost = (ancestor >= 0) & (place[ancestor] < 0)
            if not lost.any():
                break
            ancestor[lost] = self.parent[ancestor[lost]]
        return self._take(chosen).replace(parent=np.where(ancestor >= 0, place[ancestor], -1))

    def sort(self, by: str = "score", descending: bool = True) -> MaskSet:
        """Return the masks in order of ``score``, ``area`` or ``granularity`` (ties by index)."""
        key = self._key(by)
        return self.filter(np.argsort(-key if descending else key, kind="stable"))

    def replace(self, **fields: Any) -> MaskSet:
        """Return the same masks with some of score, granularity, parent, source replaced."""
        merged = {name: getattr(self, name) for name in FIELDS} | fields
        return MaskSet(self.size, self.runs, self.offsets, **merged)

    def fill_holes(self, max_area: int) -> MaskSet:
        """Return the masks with enclosed background pieces of at most `max_area` pixels filled.

        A hole is a 4-connected piece of background that does not touch the image border.
        """
        return self._clean(max_hole=max_area, min_island=0)

    def remove_islands(self, min_area: int) -> MaskSet:
        """Return the masks without their 8-connected pieces of fewer than `min_area` pixels.

        The largest piece always stays, so no mask vanishes.
        """
        return self._clean(max_hole=0, min_island=min_area)

    def resize(self, size: tuple[int, int]) -> MaskSet:
        """Return the masks for an image of ``(H, W)``, by nearest neighbour at pixel centres."""
        (height, width), (rows, columns) = self.size, size
        source_row = ((np.arange(rows) + 0.5) * height / rows).astype(np.int64)
        source_column = ((np.arange(columns) + 0.5) * width / columns).astype(np.int64)
        first_row = np.searchsorted(source_row, np.arange(height + 1))
        parts = [
            runs.resize_runs(self.runs_of(i), height, first_row, source_column, rows)
            for i in range(len(self))
        ]
        return MaskSet((rows, columns), *concatenate_runs(parts), **self._fields())

    # --------------------------------------------------------------------------------- formats
    def to_coco(self, image_id: int, first_id: int = 1) -> list[dict[str, Any]]:
        """Return COCO annotations (one class) that are COCO results too, ready for JSON."""
        return mask_formats.to_coco(self, image_id, first_id)

    def to_sa1b(self, file_name: str, image_id: int = 0) -> dict[str, Any]:
        """Return an SA-1B style record with granularity, instance, parent and source added."""
        return mask_formats.to_sa1b(self, file_name, image_id)

    # --------------------------------------------------------------------------------- private
    def _fields(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name) for name in FIELDS}

    def _take(self, index: np.ndarray) -> MaskSet:
        """Return the masks of an index array, all without parents."""
        packed = concatenate_runs([self.runs_of(i) for i in index])
        return MaskSet(
            self.size,
            *packed,
            score=self.score[index],
            granularity=self.granularity[index],
            source=self.source[index],
        )

    def _run_owners(self) -> np.ndarray:
        return np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self.offsets))

    def _key(self, order: str) -> np.ndarray:
        if order == "area":
            return self.areas
        if order in ("score", "granularity"):
            return getattr(self, order)
        raise ValueError(f"order must be score, area or granularity, got {order!r}")

    def _clean(self, max_hole: int, min_island: int) -> MaskSet:
        corners = self.boxes
        parts = [
            clean_mask(self.runs_of(i), corners[i], self.size, max_hole, min_island)
            for i in range(len(self))
        ]
        return MaskSet(self.size, *concatenate_runs(parts), **self._fields())


def concatenate_runs(parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Pack the runs of N masks: ``(int32 [R, 2], int64 [N + 1] offsets)``."""
    lengths = np.array([0] + [part.shape[0] for part in parts], np.int64)
    packed = np.concatenate(parts) if len(parts) else np.zeros((0, 2), np.int32)
    return packed, np.cumsum(lengths)


def _field(name: str, values: Any, default: Any, dtype: Any, count: int) -> np.ndarray:
    if values is None:
        return np.full(count, default, dtype)
    array = np.asarray(values, dtype)
    if array.ndim == 0:
        return np.full(count, array, dtype)
    if array.shape != (count,):
        raise ValueError(f"{name} needs one entry for each of {count} masks, got {array.shape}")
    return array.copy()
