"""Answers to clicks with the outlines of the regions that the model itself finds in the photo."""

from __future__ import annotations

import numpy as np

from unsam.modeling.prompts import NEGATIVE, POSITIVE
from unsam.structures import MaskSet

NEAR = 0.05
"""Regions this near the granularity that is asked for can be what is meant by it."""

_WORTH_OF_IOU = 0.1
"""Difference in granularity that a region of soft IoU 1 makes up for."""


class RegionSnapper:
    """Replaces coarse masks by the regions of a photo that agree with them best.

    A decoder's masks have a quarter of its input's resolution; regions that contours enclose are
    exact to the pixel. A click and a granularity name a region by themselves where there is one of
    about that granularity under the click, as in UnSAMv2's pseudo labels; the mask only decides
    between similar ones. Where there is none, the mask says which region is meant.

    Args:
        regions: of one photo, any number, they may overlap.
        min_iou: least soft IoU of a region with a mask that it replaces.
    """

    def __init__(self, regions: MaskSet, min_iou: float) -> None:
        regions = regions.filter(regions.areas > 0)
        self._regions = regions
        self._min_iou = min_iou
        self._starts, self._ends = regions.runs.astype(np.int64).T
        self._areas = regions.areas.astype(np.float64)

    def __call__(
        self,
        probability: np.ndarray,
        points: np.ndarray,
        labels: np.ndarray,
        granularity: float | None = None,
    ) -> np.ndarray | None:
        """Return the region that is meant, ``bool [H, W]``, or None where none agrees.

        Regions that leave out a positive click or hold a negative one are not considered.

        Args:
            probability: ``float32 [H, W]`` in [0, 1], of one answer.
            points: ``[K, 2]``, x and y in pixels of the photo.
            labels: ``[K]``, see `unsam.modeling.prompts`; corners of boxes say nothing here.
            granularity: what was asked for, in [0.1, 1]; None for none.
        """
        if not len(self._regions):
            return None
        allowed = self._allowed(points, labels)
        iou = np.where(allowed, self._soft_iou(probability), 0.0)
        if granularity is not None and (labels == POSITIVE).any():
            distance = np.abs(self._regions.granularity - granularity)
            near = allowed & (distance <= NEAR)
            if near.any():
                fit = np.where(near, _WORTH_OF_IOU * iou - distance, -np.inf)
                return self._regions.mask(int(fit.argmax()))
        best = int(iou.argmax())
        return self._regions.mask(best) if iou[best] >= self._min_iou else None

    def _soft_iou(self, probability: np.ndarray) -> np.ndarray:
        """Return the soft IoU of each region with an answer, ``float64 [N]``."""
        # Runs go down the columns: what a region holds is a difference of running sums.
        running = np.concatenate([[0.0], probability.T.reshape(-1).cumsum(dtype=np.float64)])
        of_runs = np.concatenate([[0.0], (running[self._ends] - running[self._starts]).cumsum()])
        inside = np.diff(of_runs[self._regions.offsets])
        return inside / np.maximum(self._areas + running[-1] - inside, 1e-9)

    def _allowed(self, points: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return which regions agree with all clicks, ``bool [N]``."""
        height, width = self._regions.size
        allowed = np.ones(len(self._regions), bool)
        for (x, y), label in zip(points, labels, strict=True):
            if label not in (POSITIVE, NEGATIVE):
                continue
            column = min(max(int(x), 0), width - 1)
            place = column * height + min(max(int(y), 0), height - 1)
            hit = (self._starts <= place) & (place < self._ends)
            holds = np.add.reduceat(hit, self._regions.offsets[:-1]) > 0
            allowed &= holds == (label == POSITIVE)
        return allowed
