"""Mask logits at a quarter of the input to runs at the size of the photo, one mask at a time.

The published way enlarges all logits to the padded input, cuts the padding off, resizes to the
photo and thresholds: 25 GiB for 2,000 masks of a 1500x2250 photo. Both interpolations are linear
and act on rows and columns apart, so together each pixel is a weighted sum of three cells in each
direction. `MaskGrower` computes just the pixels that a positive cell touches and keeps only runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from torch import Tensor

from unsam.modeling.segmentation_model import InputFrame
from unsam.structures import MaskSet
from unsam.structures.mask_set import concatenate_runs

_TAPS = 3


@dataclass(frozen=True)
class GrownMasks:
    """Masks of a photo, and the mean probability inside each, float64 ``[N]`` (0 if empty)."""

    masks: MaskSet
    sureness: np.ndarray


class MaskGrower:
    """Brings mask logits of one frame to the photo's size.

    Args:
        frame: where the photo lies in the input.
        stride: pixels of the input per cell of the logits.
    """

    def __init__(self, frame: InputFrame, stride: int = 4) -> None:
        self.frame = frame
        self._rows, self._columns = (
            _axis_weights(
                frame.padded_size[axis] // stride,
                stride,
                frame.input_size[axis],
                frame.photo_size[axis],
            )
            for axis in (0, 1)
        )

    def grow(self, columns: Tensor) -> GrownMasks:
        """Interpolate and threshold at 0.

        Args:
            columns: logits ``[N, w, h]`` of all cells of the padded input, columns first as masks
                are stored; float32 or float64.
        """
        logits = columns.cpu().numpy()
        (first_x, weight_x), (first_y, weight_y) = self._columns, self._rows
        weight_x, weight_y = weight_x.astype(logits.dtype), weight_y.astype(logits.dtype)
        parts, sureness = [], np.zeros(len(logits))
        for index, cells in enumerate(logits):
            runs, area, total = _grow_mask(cells, first_x, weight_x, first_y, weight_y)
            parts.append(runs)
            # As published, where it keeps an empty mask from dividing by zero.
            sureness[index] = total / (area + 1e-6)
        return GrownMasks(MaskSet(self.frame.photo_size, *concatenate_runs(parts)), sureness)


def _axis_weights(
    num_cells: int, stride: int, input_length: int, photo_length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first cell int64 ``[L]`` and the weights ``[L, 3]`` of each pixel of an axis.

    Args:
        num_cells: cells of the padded input.
        stride: pixels of the input per cell.
        input_length: pixels of the input that hold the photo.
        photo_length: pixels L of the photo.
    """
    near, far, share = _bilinear(np.arange(photo_length), input_length / photo_length, input_length)
    first = _bilinear(near, 1 / stride, num_cells)[0]
    weights = np.zeros((photo_length, _TAPS))
    pixels = np.arange(photo_length)
    for source, part in ((near, 1 - share), (far, share)):
        cell, next_cell, inner = _bilinear(source, 1 / stride, num_cells)
        weights[pixels, cell - first] += part * (1 - inner)
        weights[pixels, next_cell - first] += part * inner
    return first, weights


def _bilinear(
    position: np.ndarray, scale: float, length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return both neighbours of pixels in a source of `length`, and the share of the second.

    As torch interpolates with ``align_corners=False``.
    """
    source = np.maximum((position + 0.5) * scale - 0.5, 0)
    near = np.minimum(np.floor(source).astype(np.int64), length - 1)
    return near, np.minimum(near + 1, length - 1), source - near


@njit(cache=True, nogil=True)
def _positive_range(cells: np.ndarray) -> tuple[int, int, int, int]:
    """Return first and last column and row of the cells over 0; ``(w, -1, h, -1)`` without any."""
    w, h = cells.shape
    left, right, top, bottom = w, -1, h, -1
    for x in range(w):
        for y in range(h):
            if cells[x, y] > 0:
                left, right = min(left, x), x
                top, bottom = min(top, y), max(bottom, y)
    return left, right, top, bottom


@njit(cache=True, nogil=True)
def _grow_mask(
    cells: np.ndarray,
    first_x: np.ndarray,
    weight_x: np.ndarray,
    first_y: np.ndarray,
    weight_y: np.ndarray,
) -> tuple[np.ndarray, int, float]:
    """Return runs ``int32 [R, 2]``, area, and summed probability inside, of cells ``[w, h]``."""
    w, h = cells.shape
    height = first_y.size
    left, right, top, bottom = _positive_range(cells)
    # No other pixel has a positive cell among its three.
    x_start = np.searchsorted(first_x, left - 2)
    x_stop = np.searchsorted(first_x, right, side="right")
    y_start = np.searchsorted(first_y, top - 2)
    y_stop = np.searchsorted(first_y, bottom, side="right")
    low, high = max(0, top - 2), min(h, bottom + 3)
    # Two cells of zeros after the last, which have no weight.
    profile = np.zeros(h + 2, cells.dtype)
    runs = np.empty((64, 2), np.int32)
    count, area, total = 0, 0, 0.0
    for x in range(x_start, x_stop):
        column = first_x[x]
        profile[low:high] = 0
        for tap in range(3):
            if column + tap < w:
                for y in range(low, high):
                    profile[y] += weight_x[x, tap] * cells[column + tap, y]
        inside = False
        for y in range(y_start, y_stop):
            row = first_y[y]
            value = (
                weight_y[y, 0] * profile[row]
                + weight_y[y, 1] * profile[row + 1]
                + weight_y[y, 2] * profile[row + 2]
            )
            if value > 0:
                area += 1
                total += 1.0 / (1.0 + math.exp(-value))
                index = x * height + y
                if not inside and (count == 0 or runs[count - 1, 1] != index):
                    if count == runs.shape[0]:
                        larger = np.empty((2 * count, 2), np.int32)
                        larger[:count] = runs
                        runs = larger
                    runs[count, 0] = index
                    count += 1
                runs[count - 1, 1] = index + 1
            inside = value > 0
    return runs[:count].copy(), area, total
