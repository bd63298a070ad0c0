"""Spectral embedding of a region graph: from what neighbours look like to what belongs together.

Features of two far apart regions say little about whether one object holds both; a chain of weak
boundaries between them does. With W the affinity of adjacent regions (common boundary length
times likeness) and M the region sizes, the solutions of ``(D - W) v = lambda M v`` are the soft
cuts of the graph. Entry ``v / sqrt(lambda)`` over the smallest lambda embeds the regions so that
squared distances are commute times of a random walk (Fouss et al. 2007), and the mean over pixels
is zero, so that the cosine of two rows says on which side of the cheapest cuts they lie.

Normalised cuts: Shi and Malik 2000; as a cue for contours: Arbelaez et al. 2011.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.sparse
from scipy.sparse.linalg import ArpackError, eigsh

# Below this number of regions a dense solver is faster.
DENSE_BELOW = 300
# Keeps the graph connected where every affinity underflows.
FLOOR = 1e-6


def spectral_embedding(
    edges: np.ndarray, affinity: np.ndarray, sizes: np.ndarray, dims: int
) -> np.ndarray:
    """Embed the regions of a connected graph.

    Args:
        edges: ``int64 [E, 2]``, unique pairs of adjacent regions.
        affinity: ``float64 [E]``, not negative.
        sizes: ``[N]`` pixels of each region.
        dims: eigenvectors to use, without the constant one; fewer if there are fewer regions.

    Returns:
        ``float64 [N, min(dims, N - 1)]``; ``[1, 1]`` of ones for a single region.
    """
    count = len(sizes)
    if count == 1:
        return np.ones((1, 1))
    dims = min(dims, count - 1)
    values, vectors = _smallest(_normalised_laplacian(edges, affinity, sizes), dims + 1)
    vectors = vectors[:, 1:] / np.sqrt(sizes)[:, None]
    # The sign of an eigenvector is arbitrary; fixing it makes files repeat on other machines.
    largest = np.abs(vectors).argmax(axis=0)
    vectors *= np.where(vectors[largest, np.arange(dims)] < 0, -1.0, 1.0)
    return vectors / np.sqrt(np.maximum(values[1:], 1e-12))


def _normalised_laplacian(
    edges: np.ndarray, affinity: np.ndarray, sizes: np.ndarray
) -> scipy.sparse.csc_matrix:
    count = len(sizes)
    weights = np.asarray(affinity, np.float64) + FLOOR
    scale = 1.0 / np.sqrt(np.asarray(sizes, np.float64))
    first, second = edges[:, 0], edges[:, 1]
    degree = np.bincount(first, weights, count) + np.bincount(second, weights, count)
    off = -weights * scale[first] * scale[second]
    diagonal = np.arange(count)
    rows = np.concatenate([first, second, diagonal])
    columns = np.concatenate([second, first, diagonal])
    entries = np.concatenate([off, off, degree * scale * scale])
    return scipy.sparse.csc_matrix((entries, (rows, columns)), (count, count))


def _smallest(matrix: scipy.sparse.csc_matrix, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the `count` smallest eigenvalues, ascending, and their vectors ``[N, count]``."""
    order = matrix.shape[0]
    if order >= DENSE_BELOW and count < order // 2:
        # The start vector is fixed because ARPACK's default is random.
        start = np.cos(np.arange(order, dtype=np.float64))
        shift = -1e-7 * matrix.diagonal().max()
        try:
            values, vectors = eigsh(matrix, k=count, sigma=shift, v0=start)
            ascending = np.argsort(values, kind="stable")
            return values[ascending], vectors[:, ascending]
        except (ArpackError, RuntimeError):
            # No convergence, or a singular factor: the dense solver always ends.
            pass
    return scipy.linalg.eigh(matrix.toarray(), subset_by_index=[0, count - 1])
