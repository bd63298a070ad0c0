"""Refiners that look at a window around each mask."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np

from divide_and_conquer.refine.acceptance import Acceptance, RefineReport
from unsam.structures import MaskSet, runs

logger = logging.getLogger(__name__)

# Masks of one window are refined together, at most so many, in at most so many pixels.
_MAX_BATCH = 16
_BATCH_PIXELS = 1 << 25


class Window(NamedTuple):
    """A part of the photo: pixels from (left, top) to before (right, bottom)."""

    left: int
    top: int
    right: int
    bottom: int

    @classmethod
    def around(cls, box: np.ndarray, margin: int, size: tuple[int, int], step: int = 1) -> Window:
        """Return the window that leaves `margin` pixels around a box, within the photo.

        Args:
            box: XYXY ``int [4]``, maxima exclusive.
            margin: pixels on each side, at least.
            size: ``(H, W)`` of the photo.
            step: borders are moved out to multiples of this, so that similar boxes share a window.
        """
        left, top, right, bottom = (int(value) for value in box)
        return cls(
            max(0, (left - margin) // step * step),
            max(0, (top - margin) // step * step),
            min(size[1], -(-(right + margin) // step) * step),
            min(size[0], -(-(bottom + margin) // step) * step),
        )

    def of_photo(self, photo: np.ndarray) -> np.ndarray:
        """Return the window of a photo ``uint8 [H, W, 3]``: contiguous ``uint8 [h, w, 3]``."""
        return np.ascontiguousarray(photo[self.top : self.bottom, self.left : self.right])

    def of_mask(self, masks: MaskSet, index: int) -> np.ndarray:
        """Return the window of one mask that lies within it: ``bool [h, w]``."""
        height = masks.size[0]
        columns = np.zeros((self.right - self.left, height), np.uint8)
        first = np.int32(self.left * height)
        runs.paint(masks.runs_of(index) - first, columns.reshape(-1), 1)
        return np.ascontiguousarray(columns[:, self.top : self.bottom].T).view(bool)

    def to_runs(self, crop: np.ndarray, height: int) -> np.ndarray:
        """Return the runs ``int32 [R, 2]`` of ``crop bool [h, w]`` in a photo of that height."""
        columns = np.zeros((self.right - self.left, height), np.uint8)
        columns[:, self.top : self.bottom] = crop.T
        return runs.encode_flat(columns.reshape(-1)) + np.int32(self.left * height)


class CropRefiner(ABC):
    """Refines masks in windows around them; masks that share a window go together.

    Attributes:
        supervised: whether it learned from masks made by people.
    """

    supervised = False

    def __init__(self, acceptance: Acceptance) -> None:
        self.acceptance = acceptance

    def __call__(self, photo: np.ndarray, masks: MaskSet) -> tuple[MaskSet, RefineReport]:
        """Return the refined masks of a photo ``uint8 [H, W, 3]`` (RGB) and what became of them.

        Number, order, score, granularity, parent and source stay. A mask keeps its old shape where
        its refinement raises an error or is not accepted.

        Raises:
            ValueError: masks of another size than the photo.
        """
        check_sizes(photo, masks)
        candidates: list[np.ndarray | None] = [None] * len(masks)
        for window, members in self._members_of_windows(masks).items():
            pixels = (window.right - window.left) * (window.bottom - window.top)
            batch = max(1, min(_MAX_BATCH, _BATCH_PIXELS // pixels))
            for start in range(0, len(members), batch):
                chunk = members[start : start + batch]
                for index, crop in zip(chunk, self._refined(photo, window, masks, chunk)):
                    if crop is not None:
                        candidates[index] = window.to_runs(crop, masks.size[0])
        return self.acceptance.apply(masks, candidates)

    @abstractmethod
    def window(self, box: np.ndarray, size: tuple[int, int]) -> Window:
        """Return the window for a mask of a box XYXY ``int [4]`` in a photo of ``(H, W)``."""

    @abstractmethod
    def refine(self, photo: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """Return refined masks ``bool [K, h, w]`` of ``bool [K, h, w]`` in one window.

        Args:
            photo: ``uint8 [h, w, 3]``, the window of the photo.
            masks: those of one window, none empty.
        """

    def _members_of_windows(self, masks: MaskSet) -> dict[Window, list[int]]:
        members: dict[Window, list[int]] = {}
        boxes, areas = masks.boxes, masks.areas
        for index in np.flatnonzero(areas):
            members.setdefault(self.window(boxes[index], masks.size), []).append(int(index))
        return members

    def _refined(
        self, photo: np.ndarray, window: Window, masks: MaskSet, chunk: list[int]
    ) -> list[np.ndarray | None]:
        """Refine masks of one window together or, if that fails, one by one."""
        try:
            crops = np.stack([window.of_mask(masks, index) for index in chunk])
            return list(self.refine(window.of_photo(photo), crops))
        except Exception as error:
            if len(chunk) == 1:
                logger.warning("mask %d keeps its shape, refinement failed: %s", chunk[0], error)
                return [None]
            return [self._refined(photo, window, masks, [index])[0] for index in chunk]


def check_sizes(photo: np.ndarray, masks: MaskSet) -> None:
    """Raise a ValueError unless the masks are of the photo ``uint8 [H, W, 3]``."""
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8:
        raise ValueError(f"expected uint8 [H, W, 3], got {photo.dtype} {list(photo.shape)}")
    if photo.shape[:2] != masks.size:
        raise ValueError(f"masks of {masks.size} do not fit a photo of {photo.shape[:2]}")
