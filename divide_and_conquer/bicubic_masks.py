"""Masks of patch grids at the size of their crop, exactly as Pillow's bicubic resize gives them.

The published pipelines turn each cluster of patches into an 8-bit picture of 0 and 255, resize it
to the crop with Pillow's default filter, and take what is above half of its maximum (reference
sheet of UnSAM, section 1.3, step 8). Pillow's 8-bit resize is separable: first along rows, then
along columns (but see `_columns_first`), with coefficients in fixed point and a rounding to 8 bits
after each pass. All this is integer arithmetic, thus it is repeated here to the bit.

How it is fast. Only pixels within reach of the cluster's bounding box are looked at. Between the
two passes there is one column of grid values; the pixels of an output column fall into groups that
see the same few grid rows, and a group that sees equal values takes that value without arithmetic.
What comes out are runs, written column by column; the share inside the instance is counted in the
same pass, and a mask whose share is too low is forgotten at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from unsam.regions.compiled import kernel
from unsam.structures import MaskSet

# Fixed point of Pillow's 8-bit resize: 32 bits less 8 for the pixel and 2 for overshoot.
_PRECISION = 22
_HALF = 1 << (_PRECISION - 1)
# Bicubic: reach in input pixels, and the parameter of the kernel.
_REACH = 2.0
_SHARPNESS = -0.5


@dataclass(frozen=True)
class UpscaledMasks:
    """Grid masks at photo size.

    Attributes:
        masks: those of the K given ones that are kept, in their order, with default fields.
        kept: ``int64 [len(masks)]``, their indices among the K.
        areas: ``int64 [K]``, pixels of each given mask at photo size.
        coverage: ``float64 [K]``, the share of these pixels inside the instance; 0 if there are
            none.
    """

    masks: MaskSet
    kept: np.ndarray
    areas: np.ndarray
    coverage: np.ndarray


class _Axis(NamedTuple):
    """How the cells of one axis of the output depend on those of the input, as Pillow has it.

    Attributes:
        first: ``int64 [out]``, the first input cell that an output cell sees; never decreases.
        last: ``int64 [out]``, one past the last one; never decreases.
        weights: ``int64 [out, most]``, their coefficients times 2^22.
        groups: ``int64 [G + 1]``, starts of the stretches of output cells that see the same
            input cells.
    """

    first: np.ndarray
    last: np.ndarray
    weights: np.ndarray
    groups: np.ndarray


class _Inside(NamedTuple):
    """The instance, column by column of the box.

    Attributes:
        rows: ``int64 [R, 2]``, row intervals ``[start, end)`` in the photo.
        offsets: ``int64 [columns + 1]``, those of column x are ``rows[offsets[x]:offsets[x + 1]]``.
    """

    rows: np.ndarray
    offsets: np.ndarray


def upscale_grids(
    grids: np.ndarray,
    box: tuple[int, int, int, int],
    instance: MaskSet,
    min_coverage: float,
) -> UpscaledMasks:
    """Resize K masks of a grid over a box of the photo and keep those that lie in an instance.

    A mask is where the bicubic resize of its grid, as values 0 and 255, is above half of the
    maximum of the result. On a box smaller than the grid the filter widens, as Pillow's does.

    Args:
        grids: ``bool [K, h, w]``.
        box: ``(x0, y0, x1, y1)`` in the photo, maxima exclusive, at least one pixel.
        instance: one mask of photo size.
        min_coverage: kept are masks with a larger share of their pixels inside the instance.

    Returns:
        The kept masks in photo coordinates, and what is known of all K.

    Raises:
        ValueError: shapes do not fit, the box is empty or not in the photo, or the instance is
            not one mask.
    """
    grids = np.ascontiguousarray(grids, bool)
    height, width = instance.size
    x0, y0, x1, y1 = box
    if grids.ndim != 3 or 0 in grids.shape[1:]:
        raise ValueError(f"grids must be [K, h, w] with h and w above 0, got {grids.shape}")
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ValueError(f"the box {box} is empty or not in the photo of {width}x{height} pixels")
    if len(instance) != 1:
        raise ValueError(f"expected one instance mask, got {len(instance)}")
    across, down = _axis(grids.shape[2], x1 - x0), _axis(grids.shape[1], y1 - y0)
    pictures = grids.view(np.uint8) * np.uint8(255)
    if _columns_first(grids.shape[1:], (y1 - y0, x1 - x0)):
        pictures = _shrink_columns(pictures, down)
        down = _axis(y1 - y0, y1 - y0)
    runs, offsets, areas, covered = _upscale(
        pictures,
        across,
        down,
        _columns_of(instance.runs, height, x0, x1),
        np.array([x0, y0, height], np.int64),
        float(min_coverage),
    )
    coverage = covered / np.maximum(areas, 1)
    kept = np.flatnonzero((areas > 0) & (coverage > min_coverage))
    return UpscaledMasks(MaskSet(instance.size, runs, offsets), kept, areas, coverage)


def _columns_first(grid: tuple[int, ...], crop: tuple[int, int]) -> bool:
    """Return whether the pass along columns comes first, for sizes ``(rows, columns)``.

    Pillow 13 has it so where the rows lost are many more than the columns lost. The order shows in
    the rounding, for a few pixels of crops that are lower than their grid.
    """
    return crop[0] < grid[0] and grid[0] - crop[0] > 2 * (grid[1] - crop[1])


@kernel
def _shrink_columns(pictures: np.ndarray, down: _Axis) -> np.ndarray:
    """Do the pass along columns for all of ``pictures uint8 [K, h, w]``: ``uint8 [K, out, w]``."""
    result = np.empty((pictures.shape[0], down.first.size, pictures.shape[2]), np.uint8)
    for index in range(pictures.shape[0]):
        for y in range(down.first.size):
            for x in range(pictures.shape[2]):
                total = np.int64(_HALF)
                for row in range(down.first[y], down.last[y]):
                    total += down.weights[y, row - down.first[y]] * pictures[index, row, x]
                result[index, y, x] = min(max(int(total >> _PRECISION), 0), 255)
    return result


@kernel
def _axis(size_in: int, size_out: int) -> _Axis:
    """Return Pillow's fixed-point bicubic coefficients from `size_in` to `size_out` cells."""
    scale = size_in / size_out
    # Where the picture shrinks, the filter widens with it.
    stretch = max(scale, 1.0)
    reach = _REACH * stretch
    first = np.empty(size_out, np.int64)
    last = np.empty(size_out, np.int64)
    weights = np.zeros((size_out, math.ceil(reach) * 2 + 1), np.int64)
    groups = np.zeros(size_out + 1, np.int64)
    num_groups = 0
    for cell in range(size_out):
        centre = (cell + 0.5) * scale
        first[cell] = max(int(centre - reach + 0.5), 0)
        last[cell] = min(int(centre + reach + 0.5), size_in)
        total = 0.0
        for k in range(last[cell] - first[cell]):
            total += _bicubic((k + first[cell] - centre + 0.5) * (1.0 / stretch))
        for k in range(last[cell] - first[cell]):
            value = _bicubic((k + first[cell] - centre + 0.5) * (1.0 / stretch))
            if total != 0.0:
                value /= total
            # Half away from zero, as the conversion to int cuts off.
            weights[cell, k] = int(value * (1 << _PRECISION) + (0.5 if value >= 0 else -0.5))
        if cell and (first[cell] != first[cell - 1] or last[cell] != last[cell - 1]):
            num_groups += 1
            groups[num_groups] = cell
    groups[num_groups + 1] = size_out
    return _Axis(first, last, weights, groups[: num_groups + 2].copy())


@kernel
def _bicubic(x: float) -> float:
    """Return the cubic convolution kernel at distance `x`."""
    a = _SHARPNESS
    x = abs(x)
    if x < 1.0:
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    if x < 2.0:
        return (((x - 5.0) * x + 8.0) * x - 4.0) * a
    return 0.0


@kernel
def _columns_of(runs: np.ndarray, height: int, x0: int, x1: int) -> _Inside:
    """Cut the runs of one mask at columns and keep those of columns x0 to x1."""
    pieces = 0
    for row in range(runs.shape[0]):
        pieces += (runs[row, 1] - 1) // height - runs[row, 0] // height + 1
    rows = np.empty((pieces, 2), np.int64)
    offsets = np.zeros(x1 - x0 + 1, np.int64)
    done = 0
    for row in range(runs.shape[0]):
        start, end = np.int64(runs[row, 0]), np.int64(runs[row, 1])
        while start < end:
            column = start // height
            stop = min(end, (column + 1) * height)
            if x0 <= column < x1:
                rows[done, 0] = start - column * height
                rows[done, 1] = stop - column * height
                done += 1
                offsets[column - x0 + 1] += 1
            start = stop
    return _Inside(rows[:done].copy(), np.cumsum(offsets))


@kernel
def _upscale(
    pictures: np.ndarray,
    across: _Axis,
    down: _Axis,
    inside: _Inside,
    place: np.ndarray,
    min_coverage: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return runs and offsets of the kept masks, and of all masks area and pixels inside.

    Args:
        pictures: ``uint8 [K, h, w]``.
        across: the axis along a row.
        down: the axis along a column.
        inside: the instance.
        place: ``int64 [3]``: first column and first row of the box, height of the photo.
        min_coverage: as of `upscale_grids`.
    """
    num_masks = pictures.shape[0]
    areas = np.zeros(num_masks, np.int64)
    covered = np.zeros(num_masks, np.int64)
    offsets = np.zeros(num_masks + 1, np.int64)
    runs = np.empty((4096, 2), np.int32)
    kept = 0
    for index in range(num_masks):
        extent = _extent(pictures[index])
        highest = 255
        # The maximum is nearly always 255; if it is not, it is known only after the first pass.
        for _ in range(2):
            runs, end, area, common, found = _upscale_one(
                pictures[index], extent, across, down, inside, place, highest, runs, offsets[kept]
            )
            if found // 2 == highest // 2:
                break
            highest = found
        areas[index], covered[index] = area, common
        if area and common / area > min_coverage:
            kept += 1
            offsets[kept] = end
    return runs[: offsets[kept]].copy(), offsets[: kept + 1].copy(), areas, covered


@kernel
def _extent(picture: np.ndarray) -> np.ndarray:
    """Return the tight box of what is not 0, ``int64 [4]``: rows from, to, columns from, to."""
    box = np.array([picture.shape[0], 0, picture.shape[1], 0])
    for row in range(picture.shape[0]):
        for column in range(picture.shape[1]):
            if picture[row, column]:
                box[0], box[1] = min(box[0], row), row + 1
                box[2], box[3] = min(box[2], column), max(box[3], column + 1)
    return box


@kernel
def _upscale_one(
    picture: np.ndarray,
    extent: np.ndarray,
    across: _Axis,
    down: _Axis,
    inside: _Inside,
    place: np.ndarray,
    highest: int,
    runs: np.ndarray,
    begin: int,
) -> tuple[np.ndarray, int, int, int, int]:
    """Write the runs of one mask from row `begin` on.

    Returns:
        runs (moved, if it had to grow), the row after the last one, area, pixels inside the
        instance, and the maximum of the resized picture.
    """
    values = np.zeros(picture.shape[0], np.int64)
    pieces = np.empty((down.first.size, 2), np.int64)
    # Above half of the maximum, in the fixed point of the sums.
    least = (highest // 2 + 1) << _PRECISION
    end, area, common, most = begin, 0, 0, 0
    for x in range(across.first.size):
        if across.first[x] >= extent[3] or across.last[x] <= extent[2]:
            continue
        _blend_rows(picture, extent, across, x, values)
        count, reached = _column_pieces(values, extent, down, least, pieces)
        most = max(most, reached)
        if runs.shape[0] < end + count:
            grown = np.empty((2 * (end + count), 2), np.int32)
            grown[:end] = runs[:end]
            runs = grown
        base = (place[0] + x) * place[2] + place[1]
        for piece in range(count):
            start, stop = pieces[piece, 0], pieces[piece, 1]
            area += stop - start
            if end > begin and runs[end - 1, 1] == base + start:
                runs[end - 1, 1] = base + stop
            else:
                runs[end, 0], runs[end, 1] = base + start, base + stop
                end += 1
        common += _common(pieces[:count], inside, x, place[1])
    return runs, end, area, common, min(most >> _PRECISION, 255)


@kernel
def _blend_rows(
    picture: np.ndarray, extent: np.ndarray, across: _Axis, x: int, values: np.ndarray
) -> None:
    """First pass: column `x` of the output, still in grid rows, into ``values int64 [h]``."""
    low = max(across.first[x], extent[2])
    high = min(across.last[x], extent[3])
    for row in range(extent[0], extent[1]):
        total = np.int64(_HALF)
        for column in range(low, high):
            total += across.weights[x, column - across.first[x]] * picture[row, column]
        values[row] = min(max(total >> _PRECISION, 0), 255)


@kernel
def _column_pieces(
    values: np.ndarray, extent: np.ndarray, down: _Axis, least: int, pieces: np.ndarray
) -> tuple[int, int]:
    """Second pass: write the rows of one column whose sum is at least `least`.

    Returns:
        The number of pieces ``[start, end)``, and the largest sum.
    """
    count, most, inside = 0, 0, False
    for group in range(down.groups.size - 1):
        start, stop = down.groups[group], down.groups[group + 1]
        low, high = down.first[start], down.last[start]
        if high <= extent[0] or low >= extent[1]:
            # Nothing of the mask is in reach: the sum is that of zeros.
            if inside:
                pieces[count, 1] = start
                count += 1
                inside = False
            continue
        equal = True
        for row in range(low + 1, high):
            equal = equal and values[row] == values[low]
        # Coefficients add up to 1, but for less than the rounding takes away.
        total = (values[low] << _PRECISION) + _HALF
        for y in range(start, start + 1 if equal else stop):
            if not equal:
                total = _HALF
                for row in range(low, high):
                    total += down.weights[y, row - low] * values[row]
            most = max(most, total)
            if (total >= least) != inside:
                pieces[count, 1 if inside else 0] = y
                count += inside
                inside = not inside
    if inside:
        pieces[count, 1] = down.first.size
        count += 1
    return count, most


@kernel
def _common(pieces: np.ndarray, inside: _Inside, x: int, y0: int) -> int:
    """Return the pixels that the pieces of column `x` share with the instance."""
    total = 0
    row = inside.offsets[x]
    last = inside.offsets[x + 1]
    for piece in range(pieces.shape[0]):
        start, stop = pieces[piece, 0] + y0, pieces[piece, 1] + y0
        while row < last and inside.rows[row, 1] <= start:
            row += 1
        other = row
        while other < last and inside.rows[other, 0] < stop:
            total += min(stop, inside.rows[other, 1]) - max(start, inside.rows[other, 0])
            other += 1
    return total
