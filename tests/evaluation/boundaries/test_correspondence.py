from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial.distance import cdist

from unsam.evaluation.boundaries import corresponding_pixels

OUTLIER = 100_000


def distances(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return cdist(np.argwhere(predicted), np.argwhere(truth))


def optimum(lengths: np.ndarray, limit: float) -> tuple[int, int]:
    """Pairs and their summed distance in hundredths, by a dense assignment with outliers."""
    costs = np.where(lengths <= limit, np.rint(100 * lengths), OUTLIER).astype(np.int64)
    chosen = costs[linear_sum_assignment(costs)]
    return int((chosen < OUTLIER).sum()), int(chosen[chosen < OUTLIER].sum())


def scattered(seed: int, share: float) -> np.ndarray:
    return np.random.default_rng(seed).random((40, 55)) < share


@pytest.mark.parametrize("shares", [(0.1, 0.1), (0.05, 0.2), (0.2, 0.05), (0.02, 0.02), (0.4, 0.3)])
def test_most_pairs_at_least_distance(shares: tuple[float, float]) -> None:
    for seed in range(4):
        predicted, truth = scattered(seed, shares[0]), scattered(100 + seed, shares[1])
        limit = 0.035 * np.hypot(40, 55)
        found = corresponding_pixels(predicted, truth, 0.035)
        assert not (found & ~predicted).any()
        pairs, cost = optimum(distances(predicted, truth), limit)
        assert found.sum() == pairs
        # The chosen pixels alone can be paired as cheaply as the best choice of pixels.
        assert optimum(distances(found, truth), limit) == (pairs, cost)


def test_as_many_pairs_as_scipy_on_lines() -> None:
    rng = np.random.default_rng(5)
    truth = np.zeros((200, 300), bool)
    truth[rng.integers(0, 200, 8)] = True
    truth[:, rng.integers(0, 300, 8)] = True
    predicted = np.roll(truth, (2, 3), (0, 1)) & (rng.random(truth.shape) < 0.8)
    predicted |= binary_dilation(predicted) & (rng.random(truth.shape) < 0.2)
    within = csr_matrix(distances(predicted, truth) <= 0.0075 * np.hypot(200, 300))
    pairs = (maximum_bipartite_matching(within) >= 0).sum()
    assert corresponding_pixels(predicted, truth).sum() == pairs
    assert corresponding_pixels(truth, predicted).sum() == pairs


@pytest.mark.parametrize(("shift", "share"), [(0, 1.0), (4, 1.0), (5, 0.0)])
def test_the_tolerance_is_inclusive(shift: int, share: float) -> None:
    truth, predicted = np.zeros((300, 400), bool), np.zeros((300, 400), bool)
    truth[20:280, 100] = True
    predicted[20:280, 100 + shift] = True
    assert corresponding_pixels(predicted, truth, 4 / 500).mean() * 300 * 400 == share * 260


def test_nothing_matches_nothing() -> None:
    empty, full = np.zeros((30, 40), bool), np.ones((30, 40), bool)
    assert not corresponding_pixels(empty, full).any()
    assert not corresponding_pixels(full, empty).any()
    assert corresponding_pixels(full, full).all()


def test_maps_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(30, 40\) and \(40, 30\)"):
        corresponding_pixels(np.zeros((30, 40), bool), np.zeros((40, 30), bool))
