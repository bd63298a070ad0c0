"""Starting regions, their graph and pooling."""

from __future__ import annotations

import numpy as np
import pytest

from divide_and_conquer.superpixels import felzenszwalb_regions


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 2), (30, 40)])
def test_every_pixel_has_a_region_whatever_the_size(size):
    photo = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    labels = felzenszwalb_regions(photo, scale=50.0, sigma=0.6, min_size=5)
    assert labels.shape == size
    assert labels.dtype == np.int32
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))


def test_regions_follow_edges():
    photo = np.zeros((40, 40, 3), np.uint8)
    photo[10:30, 10:30] = 200
    labels = felzenszwalb_regions(photo, scale=50.0, sigma=0.0, min_size=5)
    assert labels.max() == 1
    assert np.array_equal(labels == labels[20, 20], photo[..., 0] > 0)
