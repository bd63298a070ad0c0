"""One-to-one correspondence of the pixels of two boundary maps within a tolerance."""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np

from unsam.regions.compiled import kernel

TOLERANCE = 0.0075
# Distances are counted in hundredths of a pixel, so that the order of equal ones is defined.
_UNITS_PER_PIXEL = 100
_UNREACHED = np.int64(2**31 - 1)


def corresponding_pixels(
    predicted: np.ndarray, truth: np.ndarray, tolerance: float = TOLERANCE
) -> np.ndarray:
    """Pair predicted with true boundary pixels, each with at most one, and say which have one.

    As many pairs as there can be and, among all such pairings, the least sum of distances: what
    the benchmark of BSDS500 asks for (Martin et al., PAMI 2004, appendix B; a pixel without a
    partner costs a hundred times the largest distance there).

    The pairing grows by shortest augmenting paths under dual prices (Hungarian method; Kuhn 1955,
    Jonker and Volgenant 1987), on the graph of the pixels within the tolerance. A true pixel from
    which no free predicted one can be reached proves that all predicted pixels on the way will
    keep a partner whatever comes, so these leave the graph. The distances of those pairs are then
    not the least, but which predicted pixels have a partner, and how many, does not depend on it.

    Args:
        predicted: ``bool [H, W]``, thinned.
        truth: ``bool [H, W]``, one person's boundaries.
        tolerance: largest distance of a pair, as a share of the diagonal.

    Returns:
        ``bool [H, W]``: the predicted pixels with a partner, as many as true pixels with one.

    Raises:
        ValueError: maps of different sizes.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"boundary maps of different sizes: {predicted.shape} and {truth.shape}")
    distance = tolerance * float(np.hypot(*truth.shape))
    reach = int(distance)
    stride = truth.shape[1] + 2 * reach
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
    lengths = np.hypot(rows, columns)
    near = np.argsort(lengths, kind="stable")
    near = near[lengths[near] <= distance]
    padded = np.pad(predicted, reach).reshape(-1)
    number = np.where(padded, np.cumsum(padded) - 1, -1).astype(np.int32)
    starts, ends, costs = _graph(
        number,
        np.flatnonzero(np.pad(truth, reach)),
        (rows * stride + columns)[near],
        np.rint(lengths[near] * _UNITS_PER_PIXEL).astype(np.int32),
    )
    found = np.zeros(predicted.shape, bool)
    found[predicted] = _assign(starts, ends, costs, int(np.count_nonzero(predicted)))
    return found


@kernel
def _graph(
    number: np.ndarray, places: np.ndarray, offsets: np.ndarray, lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the pairs within the tolerance, by true pixel and nearest first.

    Args:
        number: ``int32 [places]``, the number of each predicted pixel, -1 elsewhere; padded so
            that no offset leads out of it.
        places: ``int64 [T]`` of the true pixels.
        offsets: ``int64``, from a pixel to all within the tolerance, nearest first.
        lengths: ``int32``, their lengths.

    Returns:
        True pixel t has the predicted pixels ``ends[starts[t]:starts[t + 1]]``, at `costs`.
    """
    starts = np.zeros(places.size + 1, np.int64)
    ends = np.empty(places.size * offsets.size, np.int32)
    costs = np.empty(ends.size, np.int32)
    count = 0
    for t in range(places.size):
        for k in range(offsets.size):
            other = number[places[t] + offsets[k]]
            if other >= 0:
                ends[count] = other
                costs[count] = lengths[k]
                count += 1
        starts[t + 1] = count
    return starts, ends[:count], costs[:count]


class _Pairing(NamedTuple):
    """The state of the assignment of T true to P predicted pixels.

    Attributes:
        of_true: ``int32 [T]``, the predicted partner, -1 for none.
        of_predicted: ``int32 [P]``, the true partner, -1 for none.
        price_of_true: ``int64 [T]``; no pair costs less than the prices of its two pixels
            together, and the pairs in use cost just as much.
        price: ``int64 [P]``, at most 0, and 0 where free.
        distance: ``int64 [P]``, from the start of the search, under prices.
        came_from: ``int32 [P]``, the true pixel from which the search came.
        done: ``bool [P]``, the distance is final; after a failed search for good.
    """

    of_true: np.ndarray
    of_predicted: np.ndarray
    price_of_true: np.ndarray
    price: np.ndarray
    distance: np.ndarray
    came_from: np.ndarray
    done: np.ndarray


@kernel
def _assign(
    starts: np.ndarray, ends: np.ndarray, costs: np.ndarray, num_predicted: int
) -> np.ndarray:
    """Return which predicted pixels have a partner, ``bool [P]``; see `corresponding_pixels`."""
    num_true = starts.size - 1
    pairing = _Pairing(
        np.full(num_true, -1, np.int32),
        np.full(num_predicted, -1, np.int32),
        np.zeros(num_true, np.int64),
        np.zeros(num_predicted, np.int64),
        np.full(num_predicted, _UNREACHED, np.int64),
        np.empty(num_predicted, np.int32),
        np.zeros(num_predicted, np.bool_),
    )
    for t in range(num_true):
        for edge in range(starts[t], starts[t + 1]):
            if costs[edge] > costs[starts[t]]:
                break
            pairing.price_of_true[t] = costs[edge]
            if pairing.of_predicted[ends[edge]] < 0:
                pairing.of_predicted[ends[edge]] = t
                pairing.of_true[t] = ends[edge]
                break
    reached = np.empty(num_predicted, np.int32)
    for start in range(num_true):
        if pairing.of_true[start] < 0:
            goal, count = _search(start, starts, ends, costs, pairing, reached)
            if goal >= 0:
                _augment(start, goal, pairing, reached[:count])
    return pairing.of_predicted >= 0


@kernel
def _search(
    start: int,
    starts: np.ndarray,
    ends: np.ndarray,
    costs: np.ndarray,
    pairing: _Pairing,
    reached: np.ndarray,
) -> tuple[int, int]:
    """Find the nearest free predicted pixel by alternating paths (Dijkstra).

    Returns:
        That pixel, -1 if none can be reached, and how many entries of `reached` are filled in.
    """
    of_predicted, distance, done = pairing.of_predicted, pairing.distance, pairing.done
    heap = [np.int64(0) for _ in range(0)]
    count, t = 0, start
    shortest = np.int64(0)
    while True:
        for edge in range(starts[t], starts[t + 1]):
            p = ends[edge]
            length = shortest + costs[edge] - pairing.price_of_true[t] - pairing.price[p]
            if not done[p] and length < distance[p]:
                if distance[p] == _UNREACHED:
                    reached[count] = p
                    count += 1
                distance[p] = length
                pairing.came_from[p] = t
                heapq.heappush(heap, (length << 32) | p)
        nearest = -1
        while len(heap) and nearest < 0:
            candidate = int(heapq.heappop(heap) & 0xFFFFFFFF)
            if not done[candidate]:
                nearest = candidate
        if nearest < 0 or of_predicted[nearest] < 0:
            return nearest, count
        done[nearest] = True
        t, shortest = of_predicted[nearest], distance[nearest]


@kernel
def _augment(start: int, goal: int, pairing: _Pairing, reached: np.ndarray) -> None:
    """Move the prices by what the search found, pair up along its path, and forget the search."""
    shortest = pairing.distance[goal]
    pairing.price_of_true[start] += shortest
    for p in reached:
        if pairing.done[p]:
            pairing.price[p] -= shortest - pairing.distance[p]
            pairing.price_of_true[pairing.of_predicted[p]] += shortest - pairing.distance[p]
            pairing.done[p] = False
        pairing.distance[p] = _UNREACHED
    p, t = goal, -1
    while t != start:
        t = pairing.came_from[p]
        previous = pairing.of_true[t]
        pairing.of_predicted[p] = t
        pairing.of_true[t] = p
        p = previous
