"""How well two partitions of a photo agree: covering, Rand index, variation of information."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Agreement(NamedTuple):
    """How a partition agrees with the true one.

    Attributes:
        best_iou: ``float64 [M]``, for each true region the largest IoU with any region.
        rand_index: share of the pairs of pixels that both put together or both put apart.
        information: variation of information in bits, 0 for equal partitions.
    """

    best_iou: np.ndarray
    rand_index: float
    information: float


def contingency_table(regions: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the common pixels of every region with every true one, ``int64 [N, M]``.

    Args:
        regions: ``int [H, W]``, labels from 0 to N - 1.
        truth: ``int [H, W]``, labels from 0 to M - 1.

    Raises:
        ValueError: maps of different sizes.
    """
    if regions.shape != truth.shape:
        raise ValueError(f"partitions of different sizes: {regions.shape} and {truth.shape}")
    count, true_count = int(regions.max()) + 1, int(truth.max()) + 1
    pairs = regions.reshape(-1).astype(np.int64) * true_count + truth.reshape(-1)
    return np.bincount(pairs, minlength=count * true_count).reshape(count, true_count)


def agreement(table: np.ndarray) -> Agreement:
    """Return all measures of one contingency table (Arbelaez et al., PAMI 2011, section 2.3).

    Args:
        table: of `contingency_table`; empty regions change nothing.
    """
    areas = table.sum(axis=1).astype(np.float64)
    true_areas = table.sum(axis=0).astype(np.float64)
    union = areas[:, None] + true_areas[None, :] - table
    total = areas.sum()
    pairs = total * (total - 1) / 2
    apart = ((areas**2).sum() + (true_areas**2).sum()) / 2 - (table.astype(np.float64) ** 2).sum()
    joint = table[table > 0] / total
    return Agreement(
        best_iou=(table / np.maximum(union, 1)).max(axis=0),
        rand_index=float(1 - apart / pairs) if pairs else 1.0,
        information=2 * _entropy(joint) - _entropy(areas / total) - _entropy(true_areas / total),
    )


def _entropy(shares: np.ndarray) -> float:
    """Return the entropy in bits of shares that sum to 1."""
    positive = shares[shares > 0]
    return float(-(positive * np.log2(positive)).sum())
