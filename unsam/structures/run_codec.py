"""COCO's compressed run-length text, to and from runs, compiled and in bulk.

The text (pycocotools, ``maskApi.c`` defines it) holds the lengths of alternating background and
foreground runs; from the fourth on, the difference to the length two before; each number in groups
of five bits, lowest first, with bit 6 as "more follows" and the sign in the last group, plus 48.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def counts_to_runs(counts: np.ndarray, num_pixels: int) -> np.ndarray:
    """Return the runs ``int32 [R, 2]`` of uncompressed counts ``int64 [C]``.

    Counts that are negative, or do not add up to `num_pixels`, give the one run ``[-1, -1]``.
    """
    bad = np.full((1, 2), -1, np.int32)
    runs = np.empty((counts.size // 2, 2), np.int32)
    rows = 0
    position = 0
    for index in range(counts.size):
        length = counts[index]
        if length < 0 or position + length > num_pixels:
            return bad
        if index % 2 == 1 and length > 0:
            if rows and runs[rows - 1, 1] == position:
                runs[rows - 1, 1] = position + length
            else:
                runs[rows, 0] = position
                runs[rows, 1] = position + length
                rows += 1
        position += length
    if position != num_pixels:
        return bad
    return runs[:rows].copy()


@njit(cache=True)
def decode_text(text: np.ndarray) -> np.ndarray:
    """Return the counts ``int64 [C]`` of compressed ``text uint8 [T]``; ``[-1]`` if broken."""
    counts = np.empty(text.size + 1, np.int64)
    size = 0
    position = 0
    while position < text.size:
        value = np.int64(0)
        shift = 0
        more = True
        while more:
            if position == text.size or shift > 40:
                return np.full(1, -1, np.int64)
            group = np.int64(text[position]) - 48
            if group < 0 or group > 63:
                return np.full(1, -1, np.int64)
            position += 1
            value |= (group & 31) << shift
            more = (group & 32) != 0
            shift += 5
            if not more and (group & 16):
                value |= np.int64(-1) << shift
        if size > 2:
            value += counts[size - 2]
        counts[size] = value
        size += 1
    return counts[:size].copy()


@njit(cache=True)
def encode_text(
    runs: np.ndarray, offsets: np.ndarray, num_pixels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the compressed text of N masks: ``(uint8 [T], int64 [N + 1] offsets into it)``."""
    text = np.empty(16 * (runs.shape[0] + offsets.size) + 16, np.uint8)
    ends = np.zeros(offsets.size, np.int64)
    size = 0
    for mask in range(offsets.size - 1):
        first, last = offsets[mask], offsets[mask + 1]
        previous = 0
        before = np.zeros(2, np.int64)
        for number in range(2 * (last - first) + 1):
            if number == 2 * (last - first):
                value = np.int64(num_pixels - previous)
                if value == 0 and number > 0:
                    break
                previous = num_pixels
            else:
                edge = runs[first + number // 2, number % 2]
                value = np.int64(edge - previous)
                previous = edge
            delta = value - before[number % 2] if number > 2 else value
            before[number % 2] = value
            more = True
            while more:
                group = delta & 31
                delta >>= 5
                more = delta != -1 if group & 16 else delta != 0
                text[size] = (group | 32 if more else group) + 48
                size += 1
        ends[mask + 1] = size
    return text[:size].copy(), ends
