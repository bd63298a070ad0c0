from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.morphology import thin

from unsam.evaluation.boundaries.thinning import thinned


@pytest.mark.parametrize("share", [0.02, 0.2, 0.5, 0.8, 0.98])
@pytest.mark.parametrize("sigma", [0, 1, 4])
def test_thinning_equals_scikit_image(share: float, sigma: float) -> None:
    """From specks to blobs; all reach the borders."""
    noise = gaussian_filter(np.random.default_rng(7).random((90, 120)), sigma)
    marked = noise < np.quantile(noise, share)
    before = marked.copy()
    found = thinned(marked)
    np.testing.assert_array_equal(found, thin(marked))
    np.testing.assert_array_equal(marked, before)
    np.testing.assert_array_equal(thinned(found), found)
    np.testing.assert_array_equal(thinned(np.asfortranarray(marked)), found)


def test_trivial_maps_stay_what_they_are() -> None:
    assert not thinned(np.zeros((5, 7), bool)).any()
    assert thinned(np.ones((1, 1), bool)).all()
    np.testing.assert_array_equal(thinned(np.ones((1, 9), bool)), thin(np.ones((1, 9), bool)))
