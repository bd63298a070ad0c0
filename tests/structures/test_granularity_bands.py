from __future__ import annotations

import numpy as np

from unsam.structures.granularity_bands import NUM_BANDS, granularity_bands


def test_bands_are_a_tenth_wide_and_begin_at_their_lower_edge() -> None:
    edges = np.arange(1, 11, dtype=np.float32) / 10
    assert granularity_bands(edges).tolist() == [*range(NUM_BANDS), NUM_BANDS - 1]
    assert granularity_bands(edges[:-1] + np.float32(0.095)).tolist() == list(range(NUM_BANDS))


def test_rounding_below_the_least_granularity_and_no_mask_at_all() -> None:
    assert granularity_bands(np.array([np.nextafter(np.float32(0.1), 0)])).tolist() == [0]
    assert granularity_bands(np.zeros(0, np.float32)).shape == (0,)
