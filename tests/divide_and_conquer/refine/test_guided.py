"""The guided filter is the ridge regression of its definition, on a coarser grid where large."""

from __future__ import annotations

import numpy as np
import pytest

from divide_and_conquer.refine.acceptance import Acceptance
from divide_and_conquer.refine.guided import GuidedRefiner, guided_filter
from unsam.errors import ConfigError


def by_definition(guide, values, radius, epsilon):
    """Fit each window by itself; only pixels whose windows' windows lie within are right."""
    height, width = values.shape
    fits = np.zeros((height, width, 4))
    for y in range(radius, height - radius):
        for x in range(radius, width - radius):
            window = np.s_[y - radius : y + radius + 1, x - radius : x + radius + 1]
            colors = guide[window].reshape(-1, 3).astype(float)
            wanted = values[window].reshape(-1)
            centred = colors - colors.mean(axis=0)
            covariance = centred.T @ centred / len(colors) + epsilon * np.eye(3)
            slope = np.linalg.solve(covariance, centred.T @ (wanted - wanted.mean()) / len(colors))
            fits[y, x] = *slope, wanted.mean() - slope @ colors.mean(axis=0)
    out = np.zeros((height, width))
    for y in range(2 * radius, height - 2 * radius):
        for x in range(2 * radius, width - 2 * radius):
            window = np.s_[y - radius : y + radius + 1, x - radius : x + radius + 1]
            fit = fits[window].mean(axis=(0, 1))
            out[y, x] = fit[:3] @ guide[y, x] + fit[3]
    return out


def test_against_the_definition():
    rng = np.random.default_rng(0)
    guide = rng.random((20, 24, 3)).astype(np.float32)
    values = (rng.random((20, 24)) > 0.5).astype(np.float32)
    inner = np.s_[4:-4, 4:-4]
    ours = guided_filter(guide, values, 2, 1e-2)
    assert np.allclose(ours[inner], by_definition(guide, values, 2, 1e-2)[inner], atol=1e-4)


def test_a_constant_stays_and_the_guide_itself_is_kept():
    guide = np.random.default_rng(0).random((30, 30, 3)).astype(np.float32)
    assert np.allclose(guided_filter(guide, np.full((30, 30), 0.7, np.float32), 3, 1e-3), 0.7)
    assert np.allclose(guided_filter(guide, guide[..., 1], 3, 1e-9), guide[..., 1], atol=1e-3)


def test_the_coarse_grid_is_near_the_full_one(shapes, monkeypatch):
    photo, masks = shapes
    guide = photo.astype(np.float32) / 255
    mask = masks.mask(0).astype(np.float32)
    coarse = guided_filter(guide, mask, 16, 1e-3)
    monkeypatch.setattr("divide_and_conquer.refine.guided._RADIUS_IN_CELLS", 100)
    full = guided_filter(guide, mask, 16, 1e-3)
    assert np.abs(coarse - full).mean() < 0.02
    assert ((coarse > 0.5) == (full > 0.5)).mean() > 0.99


@pytest.mark.parametrize(("share", "epsilon"), [(0, 1e-3), (1.5, 1e-3), (0.1, 0)])
def test_values_out_of_range_are_the_users(share, epsilon):
    with pytest.raises(ConfigError, match=r"REFINE\.GUIDED"):
        GuidedRefiner(radius_share=share, epsilon=epsilon, acceptance=Acceptance(0.5, 0.9))
