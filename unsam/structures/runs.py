"""Compiled operations on masks stored as runs.

A mask is a sorted list of disjoint runs ``[start, end)`` over pixel numbers ``x * H + y`` (column
by column, as COCO counts them). The runs of N masks lie in one array ``runs int32 [R, 2]``; those
of mask i are ``runs[offsets[i]:offsets[i + 1]]`` with ``offsets int64 [N + 1]``. Touching runs are
always joined, so equal masks have equal runs. Nothing here makes a full-size array per mask.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def encode_flat(flat: np.ndarray) -> np.ndarray:
    """Return the runs ``int32 [R, 2]`` of the non-zero pixels of ``flat uint8 [W * H]``."""
    count = 0
    inside = False
    for value in flat:
        if value != 0 and not inside:
            count += 1
        inside = value != 0
    runs = np.empty((count, 2), np.int32)
    row = 0
    inside = False
    for index in range(flat.size):
        if flat[index] != 0:
            if not inside:
                runs[row, 0] = index
                inside = True
        elif inside:
            runs[row, 1] = index
            row += 1
            inside = False
    if inside:
        runs[row, 1] = flat.size
    return runs


@njit(cache=True)
def encode_labels(flat: np.ndarray, num_labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ``(runs, offsets)`` of labels 0 to ``num_labels - 1`` of ``flat int32 [W * H]``.

    One pass over the pixels whatever the number of labels; negative labels are background.
    """
    counts = np.zeros(num_labels + 1, np.int64)
    previous = -1
    for value in flat:
        if value != previous and value >= 0:
            counts[value + 1] += 1
        previous = value
    offsets = np.cumsum(counts)
    cursor = offsets[:-1].copy()
    runs = np.empty((offsets[-1], 2), np.int32)
    previous = -1
    for index in range(flat.size):
        value = flat[index]
        if value != previous:
            if previous >= 0:
                runs[cursor[previous], 1] = index
                cursor[previous] += 1
            if value >= 0:
                runs[cursor[value], 0] = index
        previous = value
    if previous >= 0:
        runs[cursor[previous], 1] = flat.size
    return runs, offsets


@njit(cache=True)
def encode_tree(
    flat: np.ndarray, parent: np.ndarray, depth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``(runs, offsets)`` of every node of a tree whose leaves label ``flat int32 [W * H]``.

    Where the leaf changes from a to b, only the ancestors of a and b below their common one end
    and begin, so the work is proportional to the runs that come out.

    Args:
        flat: leaf node of each pixel, column by column.
        parent: ``int64 [M]``, -1 for roots.
        depth: ``int64 [M]``, 0 for roots.
    """
    num_nodes = parent.size
    counts = np.zeros(num_nodes + 1, np.int64)
    previous = np.int64(-1)
    for value in flat:
        if value != previous:
            a, b = previous, np.int64(value)
            while a != b:
                if b < 0 or (a >= 0 and depth[a] > depth[b]):
                    a = parent[a]
                elif a < 0 or depth[b] > depth[a]:
                    counts[b + 1] += 1
                    b = parent[b]
                else:
                    counts[b + 1] += 1
                    a = parent[a]
                    b = parent[b]
            previous = np.int64(value)
    offsets = np.cumsum(counts)
    cursor = offsets[:-1].copy()
    runs = np.empty((offsets[-1], 2), np.int32)
    previous = np.int64(-1)
    for index in range(flat.size + 1):
        value = np.int64(flat[index]) if index < flat.size else np.int64(-1)
        if value != previous:
            a, b = previous, value
            while a != b:
                step_a = a >= 0 and (b < 0 or depth[a] >= depth[b])
                step_b = b >= 0 and (a < 0 or depth[b] >= depth[a])
                if step_a:
                    runs[cursor[a], 1] = index
                    cursor[a] += 1
                    a = parent[a]
                if step_b:
                    runs[cursor[b], 0] = index
                    b = parent[b]
            previous = value
    return runs, offsets


@njit(cache=True)
def paint(runs: np.ndarray, flat: np.ndarray, value: int) -> None:
    """Set ``flat [W * H]`` to `value` on the runs, in place."""
    for row in range(runs.shape[0]):
        flat[runs[row, 0] : runs[row, 1]] = value


@njit(cache=True)
def claim(runs: np.ndarray, owner: np.ndarray, old: int, new: int) -> int:
    """Give the runs' pixels that `old` has in ``owner [W * H]`` to `new`, and count them."""
    count = 0
    for row in range(runs.shape[0]):
        for index in range(runs[row, 0], runs[row, 1]):
            if owner[index] == old:
                owner[index] = new
                count += 1
    return count


@njit(cache=True)
def innermost_owner(runs: np.ndarray, owner: np.ndarray, parent: np.ndarray, needed: float) -> int:
    """Return the innermost node of a growing tree that holds at least `needed` of the pixels.

    Args:
        runs: ``int32 [R, 2]`` of one mask.
        owner: ``[W * H]``, the innermost node of each pixel, -1 for none.
        parent: ``int64 [M]``, each lower than its child, -1 for a root.
        needed: number of pixels, over half of the mask's, so that there is at most one chain.

    Returns:
        The node, -1 if no root holds so many.
    """
    held = np.zeros(parent.size, np.int64)
    for row in range(runs.shape[0]):
        for index in range(runs[row, 0], runs[row, 1]):
            if owner[index] >= 0:
                held[owner[index]] += 1
    found = -1
    for node in range(parent.size - 1, -1, -1):
        if held[node] >= needed and found < 0:
            found = node
        if parent[node] >= 0:
            held[parent[node]] += held[node]
    return found


@njit(cache=True)
def areas(runs: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return the pixels of each mask, ``int64 [N]``."""
    out = np.zeros(offsets.size - 1, np.int64)
    for mask in range(out.size):
        for row in range(offsets[mask], offsets[mask + 1]):
            out[mask] += runs[row, 1] - runs[row, 0]
    return out


@njit(cache=True)
def boxes(runs: np.ndarray, offsets: np.ndarray, height: int) -> np.ndarray:
    """Return tight XYXY boxes ``int64 [N, 4]``, maxima exclusive; zeros for an empty mask."""
    out = np.zeros((offsets.size - 1, 4), np.int64)
    for mask in range(out.shape[0]):
        first, last = offsets[mask], offsets[mask + 1]
        if first == last:
            continue
        top, bottom = height, 0
        for row in range(first, last):
            start, end = runs[row, 0], runs[row, 1] - 1
            if start // height != end // height:
                top, bottom = 0, height
                break
            top = min(top, start % height)
            bottom = max(bottom, end % height + 1)
        out[mask, 0] = runs[first, 0] // height
        out[mask, 1] = top
        out[mask, 2] = (runs[last - 1, 1] - 1) // height + 1
        out[mask, 3] = bottom
    return out


@njit(cache=True)
def self_intersections(
    runs: np.ndarray, owner: np.ndarray, order: np.ndarray, num_masks: int
) -> np.ndarray:
    """Return the common pixels of every pair of N masks, ``int64 [N, N]``.

    A sweep over all runs by their start: a run meets just those still open, so the work is the
    number of pairs of runs that really overlap, and never more than merging the runs mask by mask.

    Args:
        runs: ``int32 [R, 2]`` of all masks.
        owner: ``int32 [R]``, the mask of each run.
        order: ``int64 [R]``, the runs by ascending start.
        num_masks: N.
    """
    common = np.zeros((num_masks, num_masks), np.int64)
    open_end = np.empty(num_masks, np.int64)
    open_mask = np.empty(num_masks, np.int64)
    num_open = 0
    for row in order:
        start, end, mask = runs[row, 0], runs[row, 1], owner[row]
        kept = 0
        for slot in range(num_open):
            other_end = open_end[slot]
            if other_end > start:
                other = open_mask[slot]
                open_end[kept] = other_end
                open_mask[kept] = other
                kept += 1
                common[mask, other] += min(end, other_end) - start
        open_end[kept] = end
        open_mask[kept] = mask
        num_open = kept + 1
        common[mask, mask] += end - start
    for i in range(num_masks):
        for j in range(i):
            total = common[i, j] + common[j, i]
            common[i, j] = total
            common[j, i] = total
    return common


@njit(cache=True)
def cross_intersections(
    runs: np.ndarray, owner: np.ndarray, order: np.ndarray, num_first: int, num_second: int
) -> np.ndarray:
    """Return the common pixels of N first and M second masks, ``int64 [N, M]``.

    As `self_intersections`; owners from `num_first` on are the second set.
    """
    common = np.zeros((num_first, num_second), np.int64)
    room = 2 * max(num_first, num_second) + 1
    open_end = np.empty((2, room), np.int64)
    open_mask = np.empty((2, room), np.int64)
    num_open = np.zeros(2, np.int64)
    for row in order:
        start, end, mask = runs[row, 0], runs[row, 1], owner[row]
        side = 0 if mask < num_first else 1
        other_side = 1 - side
        kept = 0
        for slot in range(num_open[other_side]):
            other_end = open_end[other_side, slot]
            if other_end > start:
                other = open_mask[other_side, slot]
                open_end[other_side, kept] = other_end
                open_mask[other_side, kept] = other
                kept += 1
                overlap = min(end, other_end) - start
                if side == 0:
                    common[mask, other - num_first] += overlap
                else:
                    common[other, mask - num_first] += overlap
        num_open[other_side] = kept
        # Runs that have ended leave the list of their own side when it is full: at most one run of
        # each mask is open, so that this takes a step per run on average.
        if num_open[side] == room:
            kept = 0
            for slot in range(room):
                if open_end[side, slot] > start:
                    open_end[side, kept] = open_end[side, slot]
                    open_mask[side, kept] = open_mask[side, slot]
                    kept += 1
            num_open[side] = kept
        open_end[side, num_open[side]] = end
        open_mask[side, num_open[side]] = mask
        num_open[side] += 1
    return common


@njit(cache=True)
def greedy_suppress(overlap: np.ndarray, threshold: float, alive: np.ndarray) -> np.ndarray:
    """Return which of N masks, in order of priority, survive: ``bool [N]``.

    Args:
        overlap: IoU among them, ``float64 [N, N]``.
        threshold: a mask goes when its IoU with a survivor before it is larger.
        alive: ``bool [N]``, masks that are out already.
    """
    keep = alive.copy()
    for i in range(keep.size):
        if keep[i]:
            for j in range(i + 1, keep.size):
                if overlap[i, j] > threshold:
                    keep[j] = False
    return keep


@njit(cache=True)
def resize_runs(
    runs: np.ndarray, height: int, first_row: np.ndarray, source_column: np.ndarray, rows: int
) -> np.ndarray:
    """Return the runs of one mask resized by nearest neighbour, ``int32 [R', 2]``.

    Args:
        runs: ``int32 [R, 2]`` of the mask.
        height: of the source.
        first_row: ``int64 [height + 1]``, the first target row whose source row is at least y.
        source_column: ``int64 [target width]``, non-decreasing.
        rows: target height.
    """
    out = np.empty((max(16, 2 * runs.shape[0]), 2), np.int32)
    count = 0
    for column in range(source_column.size):
        low = source_column[column] * height
        high = low + height
        row = np.searchsorted(runs[:, 1], low, side="right")
        while row < runs.shape[0] and runs[row, 0] < high:
            start = first_row[max(runs[row, 0], low) - low] + column * rows
            end = first_row[min(runs[row, 1], high) - low] + column * rows
            row += 1
            if end <= start:
                continue
            if count and out[count - 1, 1] == start:
                out[count - 1, 1] = end
                continue
            if count == out.shape[0]:
                grown = np.empty((2 * count, 2), np.int32)
                grown[:count] = out
                out = grown
            out[count, 0] = start
            out[count, 1] = end
            count += 1
    return out[:count].copy()
