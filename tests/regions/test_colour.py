"""Soft colour histograms."""

from __future__ import annotations

import numpy as np

from unsam.regions.colour import colour_histograms, soft_bins, to_lab


def test_soft_bins_share_one_unit():
    values = np.array([[-5.0, 0.0, 1.25, 9.0]])
    bins = soft_bins(values, 0.0, 3.0, 4)
    assert np.allclose(bins.sum(axis=2), 1)
    assert np.allclose(bins[0, 2], [0, 0.75, 0.25, 0])
    assert bins[0, 0].tolist() == [1, 0, 0, 0]
    assert bins[0, 3].tolist() == [0, 0, 0, 1]


def test_the_mean_over_pixels_is_the_histogram_of_the_region() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    histograms = colour_histograms(photo, 8)
    assert histograms.shape == (6, 7, 24)
    assert np.allclose(histograms.sum(axis=2), 3, atol=1e-5)
    lightness = to_lab(photo)[..., 0]
    centres = np.linspace(0, 100, 8)
    assert np.allclose(histograms[..., :8] @ centres, lightness, atol=1e-3)
