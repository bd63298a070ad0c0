"""Granularity in bands: what training balances over and keeps count of."""

from __future__ import annotations

import numpy as np

NUM_BANDS = 9
"""Bands of equal width over [0.1, 1], each 0.1 wide."""


def granularity_bands(granularity: np.ndarray) -> np.ndarray:
    """Return the band of each granularity, ``int64 [N]`` from 0 (finest) to ``NUM_BANDS - 1``.

    Args:
        granularity: ``float [N]`` in [0.1, 1].
    """
    # float32 is a little off at the edges; what is on an edge belongs to the coarser band.
    scaled = (granularity.astype(np.float64) - 0.1) / 0.9 * NUM_BANDS + 1e-5
    return np.clip(scaled.astype(np.int64), 0, NUM_BANDS - 1)
