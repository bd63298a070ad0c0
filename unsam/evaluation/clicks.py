"""The simulated user: where the next click goes, and how many clicks a target takes.

The protocol is GraCo's (that of RITM), as UnSAMv2 evaluates with it: each click goes to the pixel
deepest inside the larger error region, by exact Euclidean distance transform; at most 20 clicks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np

IGNORED = -1
"""Value of truth pixels that count neither for IoU nor for clicks."""


class Click(NamedTuple):
    """One click on pixel row `y`, column `x`: on the object, or (not positive) off it."""

    y: int
    x: int
    positive: bool


def next_click(prediction: np.ndarray, truth: np.ndarray, clicks: Sequence[Click] = ()) -> Click:
    """Return where a user would click next.

    The distance transform (float32) of missed object pixels and that of false ones, the world
    outside the image counting as correct, zero at pixels clicked before. Positive if and only if
    the maximum over the missed pixels is strictly larger; the first maximum in row-major order.

    Args:
        prediction: ``bool [H, W]``.
        truth: ``int [H, W]``, 1 object, 0 not, -1 ignored.
        clicks: the clicks so far.
    """
    missed = _error_region((truth == 1) & ~prediction, clicks)
    false = _error_region((truth == 0) & prediction, clicks)
    # The exact transform is needed only where the bounds leave the answer open.
    if missed.least > false.most:
        return Click(*_deepest(missed)[1], positive=True)
    if false.least >= missed.most:
        return Click(*_deepest(false)[1], positive=False)
    (missed_depth, missed_at), (false_depth, false_at) = _deepest(missed), _deepest(false)
    if missed_depth > false_depth:
        return Click(*missed_at, positive=True)
    return Click(*false_at, positive=False)


class _ErrorRegion(NamedTuple):
    """Wrong pixels in their bounding box, with a ring of right ones around: ``[h + 2, w + 2]``.

    The ring holds a nearest right pixel of every wrong one whose nearest is outside the box, so
    the crop changes no distance. `rough` is the chessboard distance d to the nearest right pixel,
    0 at clicked pixels: the Euclidean one lies between d and d times the root of 2, its maximum
    between `least` and `most`.
    """

    wrong: np.ndarray
    rough: np.ndarray
    top: int
    left: int
    least: float
    most: float


_ROOT_OF_2 = 1.41422


def _error_region(region: np.ndarray, clicks: Sequence[Click]) -> _ErrorRegion:
    left, top, width, height = cv2.boundingRect(region.view(np.uint8))
    if width == 0:
        nothing = np.zeros((1, 1), np.uint8)
        return _ErrorRegion(nothing, nothing, 0, 0, 0.0, 0.0)
    crop = region[top : top + height, left : left + width].view(np.uint8)
    wrong = cv2.copyMakeBorder(crop, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    rough = cv2.distanceTransform(wrong, cv2.DIST_C, cv2.DIST_MASK_3)
    top, left = top - 1, left - 1
    for click in clicks:
        row, column = click.y - top, click.x - left
        if 0 <= row < rough.shape[0] and 0 <= column < rough.shape[1]:
            rough[row, column] = 0.0
    least = float(rough.max())
    return _ErrorRegion(wrong, rough, top, left, least, least * _ROOT_OF_2)


def _deepest(region: _ErrorRegion) -> tuple[float, tuple[int, int]]:
    """Return the depth in pixels and the place (row, column) of the deepest pixel not clicked."""
    if region.least == 0:
        # No error, or all of it clicked: the first pixel of the image, all being zero.
        return 0.0, (0, 0)
    candidates = region.rough * _ROOT_OF_2 >= region.least
    left, top, width, height = cv2.boundingRect(candidates.view(np.uint8))
    # Around the candidates, what their depth depends on; other pixels may come out too deep.
    reach = int(region.most) + 2
    first_row, first_column = max(top - reach, 0), max(left - reach, 0)
    window = np.s_[first_row : top + height + reach, first_column : left + width + reach]
    depth = cv2.distanceTransform(
        np.ascontiguousarray(region.wrong[window]), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
    )
    depth *= candidates[window]
    row, column = divmod(int(depth.argmax()), depth.shape[1])
    place = region.top + first_row + row, region.left + first_column + column
    return float(depth[row, column]), place


def iou_with_truth(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Return the IoU of ``bool [H, W]`` with the object of `truth`, over pixels not ignored."""
    target = truth == 1
    inside = prediction & (truth != IGNORED)
    common = int(np.count_nonzero(inside & target))
    union = int(np.count_nonzero(inside | target))
    return common / union if union else 0.0


@dataclass
class ClickTrace:
    """The clicks on one object and the IoU after each of them."""

    clicks: list[Click] = field(default_factory=list)
    ious: list[float] = field(default_factory=list)

    def clicks_to(self, target: float, limit: int) -> int:
        """Return the number of the first click with an IoU of at least `target`, else `limit`."""
        for number, value in enumerate(self.ious, start=1):
            if value >= target:
                return number
        return limit

    def is_done(self, target: float, limit: int) -> bool:
        """Return whether `target` is reached or `limit` clicks are made."""
        return len(self.ious) >= limit or bool(self.ious and self.ious[-1] >= target)


def clicks_to_target(
    predict: Callable[[Sequence[Click]], np.ndarray],
    truth: np.ndarray,
    target: float = 0.9,
    max_clicks: int = 20,
) -> ClickTrace:
    """Click on one object until the IoU reaches `target`.

    Args:
        predict: function of all clicks so far that gives a mask ``bool [H, W]``.
        truth: ``int [H, W]``, 1 object, 0 not, -1 ignored.
        target: the IoU to stop at.
        max_clicks: the clicks to stop at.
    """
    trace = ClickTrace()
    prediction = np.zeros(truth.shape, bool)
    while not trace.is_done(target, max_clicks):
        trace.clicks.append(next_click(prediction, truth, trace.clicks))
        prediction = np.asarray(predict(trace.clicks), bool)
        trace.ious.append(iou_with_truth(prediction, truth))
    return trace


def best_granularity(traces: Sequence[tuple[float, ClickTrace]]) -> tuple[float, ClickTrace]:
    """Return the pair (granularity, trace) with the fewest clicks.

    Ties go to the higher IoU after the first click, then to the lower granularity. The choice
    looks at the truth: report what it gives under a name of its own.
    """
    return min(traces, key=lambda item: (len(item[1].ious), -item[1].ious[0], item[0]))
