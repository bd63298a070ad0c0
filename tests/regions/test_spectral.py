"""The spectral embedding of region graphs."""

from __future__ import annotations

import numpy as np
import pytest

from unsam.regions import spectral
from unsam.regions.conquer import grid_edges
from unsam.regions.spectral import spectral_embedding


def cosine(rows):
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit @ unit.T


def test_squared_distances_are_commute_times():
    """With all eigenvectors, distances are effective resistances: an independent formula."""
    rng = np.random.default_rng(0)
    edges, count = grid_edges(4, 5), 20
    weights = rng.uniform(0.5, 2, len(edges))
    rows = spectral_embedding(edges, weights - spectral.FLOOR, np.ones(count), count - 1)
    laplacian = np.zeros((count, count))
    for (a, b), w in zip(edges, weights, strict=True):
        laplacian[[a, b], [a, b]] += w
        laplacian[[a, b], [b, a]] -= w
    inverse = np.linalg.pinv(laplacian)
    a, b = 3, 17
    resistance = inverse[a, a] + inverse[b, b] - 2 * inverse[a, b]
    assert ((rows[a] - rows[b]) ** 2).sum() == pytest.approx(resistance)


def test_a_weak_boundary_separates():
    edges = grid_edges(6, 6)
    crosses = (edges[:, 0] % 6 == 2) & (edges[:, 1] % 6 == 3)
    rows = spectral_embedding(edges, np.where(crosses, 0.01, 1.0), np.ones(36), 4)
    likeness = cosine(rows)
    left = np.arange(36) % 6 < 3
    assert likeness[left][:, left].min() > likeness[left][:, ~left].max()


def test_mean_over_pixels_is_zero():
    sizes = np.arange(1.0, 21)
    rows = spectral_embedding(grid_edges(4, 5), np.ones(31), sizes, 6)
    assert np.allclose(sizes @ rows, 0, atol=1e-9)


def test_sparse_and_dense_solvers_agree(monkeypatch):
    rng = np.random.default_rng(3)
    edges, sizes = grid_edges(20, 20), rng.integers(1, 50, 400)
    weights = rng.uniform(0.1, 1, len(edges))
    sparse = spectral_embedding(edges, weights, sizes, 8)
    monkeypatch.setattr(spectral, "DENSE_BELOW", 10**6)
    assert np.allclose(sparse, spectral_embedding(edges, weights, sizes, 8), atol=1e-6)


def test_small_graphs():
    assert spectral_embedding(np.zeros((0, 2), int), np.zeros(0), np.ones(1), 8).shape == (1, 1)
    rows = spectral_embedding(np.array([[0, 1]]), np.ones(1), np.array([3, 1]), 8)
    assert rows.shape == (2, 1)
    assert rows[0, 0] * rows[1, 0] < 0
