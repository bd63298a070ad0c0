"""Photo and masks are shown through the same window."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unsam.data import augmentation
from unsam.data.augmentation import View
from unsam.structures import MaskSet
from unsam.structures.photo import scaled_size


def rectangles(count: int, size: tuple[int, int], seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    dense = np.zeros((count, *size), bool)
    for mask in dense:
        y0, y1 = np.sort(generator.integers(0, size[0] + 1, 2))
        x0, x1 = np.sort(generator.integers(0, size[1] + 1, 2))
        mask[y0:y1, x0:x1] = True
    return dense


@settings(max_examples=60, deadline=None)  # the first call compiles
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    longer=st.integers(1, 60),
    low=st.floats(0.05, 1.0),
    flip=st.booleans(),
    seed=st.integers(0, 99),
)
def test_masks_are_the_pixels_under_the_view(
    height: int, width: int, longer: int, low: float, flip: bool, seed: int
) -> None:
    view = augmentation.draw_view(
        np.random.default_rng(seed),
        (height, width),
        longer,
        crop_scale=(low, 1.0),
        flip_probability=float(flip),
    )
    assert max(view.size) == longer
    assert 0 <= view.top <= view.top + view.height <= height
    assert 0 <= view.left <= view.left + view.width <= width
    assert view.mirrored == flip
    dense = rectangles(5, (height, width), seed)
    masks = MaskSet.from_masks(dense)
    seen, kept = augmentation.view_masks(masks, np.arange(5), view, limit=5, min_area=1)
    expected = dense[:, view.rows()][:, :, view.columns()]
    present = expected.any((1, 2))
    np.testing.assert_array_equal(kept, np.flatnonzero(present))
    np.testing.assert_array_equal(seen, expected[present])


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("longer", [40, 80, 200])
def test_photo_and_mask_move_together(longer: int, mirrored: bool) -> None:
    dense = np.zeros((1, 60, 80), bool)
    dense[0, 20:40, 24:48] = True
    photo = np.repeat(dense[0, :, :, None], 3, axis=2).astype(np.uint8) * 255
    view = View(4, 8, 48, 64, scaled_size((48, 64), longer), mirrored)
    seen, _ = augmentation.view_masks(
        MaskSet.from_masks(dense), np.arange(1), view, limit=1, min_area=1
    )
    picture = augmentation.view_photo(photo, view)
    assert picture.shape == (*view.size, 3)
    # Only pixels that straddle the border may differ.
    differing = (picture[..., 0] > 127) != seen[0]
    assert differing.mean() < 0.02


def test_the_whole_photo_at_the_same_size_changes_nothing() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    view = View(0, 0, 30, 40, (30, 40), mirrored=False)
    np.testing.assert_array_equal(augmentation.view_photo(photo, view), photo)
    assert view.scale == 1.0


def test_small_masks_are_dropped_and_the_search_is_bounded() -> None:
    dense = np.zeros((9, 20, 20), bool)
    dense[:, 0, 0] = True
    dense[3, :10, :10] = dense[8, :10, :10] = True
    view = View(0, 0, 20, 20, (20, 20), mirrored=False)
    masks = MaskSet.from_masks(dense)
    _, kept = augmentation.view_masks(masks, np.arange(9), view, limit=5, min_area=50)
    np.testing.assert_array_equal(kept, [3, 8])
    _, kept = augmentation.view_masks(masks, np.arange(9), view, limit=2, min_area=50)
    np.testing.assert_array_equal(kept, [3])


def test_balanced_order_evens_out_the_bands() -> None:
    granularity = np.concatenate([np.full(900, 0.15), np.full(100, 0.95)]).astype(np.float32)
    generator = np.random.default_rng(0)

    def coarse_share(balanced: bool) -> float:
        shares = [
            (granularity[augmentation.draw_order(generator, granularity, balanced=balanced)[:50]])
            for _ in range(40)
        ]
        return float(np.mean(np.stack(shares) > 0.5))

    assert coarse_share(False) == pytest.approx(0.1, abs=0.03)
    assert coarse_share(True) == pytest.approx(0.45, abs=0.08)
    order = augmentation.draw_order(generator, granularity, balanced=True)
    np.testing.assert_array_equal(np.sort(order), np.arange(1000))
    assert augmentation.draw_order(generator, granularity[:0], balanced=True).size == 0


def test_colour_jitter() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    generator = np.random.default_rng(1)
    assert augmentation.jitter_colour(generator, photo, 0.0) is photo
    changed = augmentation.jitter_colour(generator, photo, 0.4)
    assert changed.dtype == np.uint8
    assert changed.shape == photo.shape
    assert not np.array_equal(changed, photo)
    grey = np.full((4, 4, 3), 100, np.uint8)
    result = augmentation.jitter_colour(generator, grey, 0.4)
    assert np.ptp(result) == 0, "a grey photo has no colour to gain and no contrast to lose"
