"""The order of the masks, and colour."""

from __future__ import annotations

import numpy as np
import pytest

from unsam.data.augmentation import draw_order, jitter_colour


def test_balanced_order_evens_out_the_bands() -> None:
    granularity = np.concatenate([np.full(900, 0.15), np.full(100, 0.95)]).astype(np.float32)
    generator = np.random.default_rng(0)

    def coarse_share(balanced: bool) -> float:
        shares = [
            (granularity[draw_order(generator, granularity, balanced=balanced)[:50]])
            for _ in range(40)
        ]
        return float(np.mean(np.stack(shares) > 0.5))

    assert coarse_share(False) == pytest.approx(0.1, abs=0.03)
    assert coarse_share(True) == pytest.approx(0.45, abs=0.08)
    order = draw_order(generator, granularity, balanced=True)
    np.testing.assert_array_equal(np.sort(order), np.arange(1000))
    assert draw_order(generator, granularity[:0], balanced=True).size == 0


def test_colour_jitter() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    generator = np.random.default_rng(1)
    assert jitter_colour(generator, photo, 0.0) is photo
    changed = jitter_colour(generator, photo, 0.4)
    assert changed.dtype == np.uint8
    assert changed.shape == photo.shape
    assert not np.array_equal(changed, photo)
    grey = np.full((4, 4, 3), 100, np.uint8)
    result = jitter_colour(generator, grey, 0.4)
    assert np.ptp(result) == 0, "a grey photo has no colour to gain and no contrast to lose"


def test_strengths_of_brightness_contrast_and_saturation() -> None:
    photo = np.random.default_rng(0).integers(60, 160, (20, 20, 3), dtype=np.uint8)
    generator = np.random.default_rng(1)
    brighter = jitter_colour(generator, photo, (0.3, 0.0, 0.0)).astype(float)
    factors = brighter / photo
    assert np.ptp(factors) < 0.02, "brightness multiplies every level alike"
    contrasted = jitter_colour(generator, photo, (0.0, 0.3, 0.0)).astype(float)
    assert contrasted.mean() == pytest.approx(photo.mean(), abs=1)
    assert abs(contrasted.std() / photo.std() - 1) > 0.02
    faded = jitter_colour(generator, photo, (0.0, 0.0, 0.3)).astype(float)
    assert faded @ (0.299, 0.587, 0.114) == pytest.approx(photo @ (0.299, 0.587, 0.114), abs=1)


def test_chance_of_turning_grey() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    generator = np.random.default_rng(0)
    grey = [
        bool((np.ptp(jitter_colour(generator, photo, 0.0, 0.25), axis=-1) == 0).all())
        for _ in range(400)
    ]
    assert np.mean(grey) == pytest.approx(0.25, abs=0.06)
