"""Photo and masks are shown through the same window."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unsam.data.view import SHAPES, Shape, View, draw_view, view_masks, view_photo
from unsam.structures import MaskSet
from unsam.structures.photo import scaled_size

INSIDE, OUTSIDE, PADDING = (250, 20, 30), (10, 90, 200), (0, 255, 0)


def rectangles(count: int, size: tuple[int, int], seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    dense = np.zeros((count, *size), bool)
    for mask in dense:
        y0, y1 = np.sort(generator.integers(0, size[0] + 1, 2))
        x0, x1 = np.sort(generator.integers(0, size[1] + 1, 2))
        mask[y0:y1, x0:x1] = True
    return dense


def view_of(dense: np.ndarray, view: View) -> np.ndarray:
    seen, kept = view_masks(
        MaskSet.from_masks(dense), np.arange(len(dense)), view, limit=len(dense), min_area=0
    )
    np.testing.assert_array_equal(kept, np.arange(len(dense)))
    return seen


@settings(max_examples=80, deadline=None)  # the first call compiles
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    image_size=st.integers(1, 60),
    shape=st.sampled_from(SHAPES),
    low=st.floats(0.05, 1.0),
    zoom=st.floats(0.1, 3.0),
    flip=st.booleans(),
    seed=st.integers(0, 99),
)
def test_masks_are_the_pixels_under_the_view(
    height: int,
    width: int,
    image_size: int,
    shape: Shape,
    low: float,
    zoom: float,
    flip: bool,
    seed: int,
) -> None:
    view = draw_view(
        np.random.default_rng(seed),
        (height, width),
        image_size,
        shape=shape,
        jitter_scale=(zoom, zoom),
        crop_scale=(low, 1.0),
        flip_probability=float(flip),
    )
    assert max(view.size) == image_size
    assert shape == "keep" or view.size == (image_size, image_size)
    assert shape != "keep" or view.shown == view.size
    assert 0 <= view.top < view.top + view.height <= height
    assert 0 <= view.left < view.left + view.width <= width
    assert view.mirrored == flip
    dense = rectangles(5, (height, width), seed)
    expected = np.zeros((5, *view.size), bool)
    expected[:, : view.shown[0], : view.shown[1]] = dense[:, view.rows()][:, :, view.columns()]
    np.testing.assert_array_equal(view_of(dense, view), expected)


@pytest.mark.parametrize("turn", [(0.0, 0.0), (25.0, 0.0), (0.0, -20.0), (-17.0, 12.0)])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [(120, 160), (700, 520)])
def test_photo_and_masks_stay_together(
    size: tuple[int, int], shape: Shape, turn: tuple[float, float]
) -> None:
    height, width = size
    dense = np.zeros((1, height, width), bool)
    y, x = np.mgrid[:height, :width]
    # Neither symmetric nor convex, so that no mirrored or turned copy could pass for it.
    dense[0] = (np.hypot((y - 0.4 * height) / height, (x - 0.5 * width) / width) < 0.3) | (
        (y > 0.5 * height) & (x > 0.6 * width) & (x < 0.9 * width)
    )
    photo = np.where(dense[0][..., None], INSIDE, OUTSIDE).astype(np.uint8)
    shifts = []
    for seed in range(6):
        view = draw_view(
            np.random.default_rng(seed),
            size,
            256,
            shape=shape,
            jitter_scale=(0.4, 1.6) if shape == "fixed" else (1.0, 1.0),
            crop_scale=(0.7, 1.0),
            flip_probability=0.5,
        )
        view = View(**{**vars(view), "rotation": turn[0], "shear": turn[1]})
        seen = view_of(dense, view)[0]
        picture = view_photo(photo, view, PADDING)
        assert picture.shape == (*view.size, 3)
        red, padded = picture[..., 0] > 130, (picture == PADDING).all(-1)
        assert seen.sum() > 100
        assert red[seen].mean() > 0.99
        assert (red != seen).mean() < 0.01
        assert not (seen & padded).any(), "padding is no part of a mask"
        shifts.append(np.argwhere(red).mean(0) - np.argwhere(seen).mean(0))
    # No shift of half a pixel, which agreement alone would let pass.
    np.testing.assert_allclose(np.mean(shifts, axis=0), 0, atol=0.15)


def test_rotation_is_counter_clockwise_and_shear_leans_by_the_angle() -> None:
    point = np.zeros((1, 101, 101), bool)
    point[0, 49:52, 89:92] = True
    turned = view_of(point, View(0, 0, 101, 101, (101, 101), (101, 101), rotation=90.0))
    np.testing.assert_allclose(np.argwhere(turned[0]).mean(0), (10, 50), atol=0.5)
    upper = np.zeros((1, 101, 101), bool)
    upper[0, 19:22, 49:52] = True
    leaning = view_of(upper, View(0, 0, 101, 101, (101, 101), (101, 101), shear=45.0))
    np.testing.assert_allclose(np.argwhere(leaning[0]).mean(0), (20, 20), atol=0.5)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("longer", [40, 80, 200])
def test_a_crop_shows_its_pixels(longer: int, mirrored: bool) -> None:
    dense = np.zeros((1, 60, 80), bool)
    dense[0, 20:40, 24:48] = True
    photo = np.repeat(dense[0, :, :, None], 3, axis=2).astype(np.uint8) * 255
    size = scaled_size((48, 64), longer)
    view = View(4, 8, 48, 64, size, size, mirrored)
    picture = view_photo(photo, view)
    # Only pixels that straddle the border may differ.
    assert ((picture[..., 0] > 127) != view_of(dense, view)[0]).mean() < 0.02


def test_the_whole_photo_at_the_same_size_changes_nothing() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    view = View(0, 0, 30, 40, (30, 40), (30, 40))
    np.testing.assert_array_equal(view_photo(photo, view), photo)
    assert view.scale == 1.0


def test_large_scale_jitter_draws_x_and_y_apart() -> None:
    generator = np.random.default_rng(0)
    views = [
        draw_view(generator, (100, 100), 50, shape="fixed", jitter_scale=(0.5, 2.0))
        for _ in range(300)
    ]
    sides = np.array([view.shown[0] for view in views])
    assert sides.min() < 30, "a small photo is padded"
    cut = [view for view in views if view.height < 60]
    assert len(cut) > 50
    places = np.array([(view.top, view.left) for view in cut])
    assert abs(np.corrcoef(places.T)[0, 1]) < 0.3
    for view in views:
        zoom = view.shown[0] / view.height * 2
        assert 0.45 < zoom < 2.1


def test_small_masks_are_dropped_and_the_search_is_bounded() -> None:
    dense = np.zeros((9, 20, 20), bool)
    dense[:, 0, 0] = True
    dense[3, :10, :10] = dense[8, :10, :10] = True
    view = View(0, 0, 20, 20, (20, 20), (20, 20))
    masks = MaskSet.from_masks(dense)
    seen, kept = view_masks(masks, np.arange(9), view, limit=5, min_area=50)
    np.testing.assert_array_equal(kept, [3, 8])
    np.testing.assert_array_equal(seen, dense[[3, 8]])
    _, kept = view_masks(masks, np.arange(9), view, limit=2, min_area=50)
    np.testing.assert_array_equal(kept, [3])


def test_a_mask_that_turns_out_of_the_view_is_dropped() -> None:
    dense = np.zeros((2, 40, 40), bool)
    dense[0, :5, :5] = True
    dense[1, 15:25, 15:25] = True
    view = View(0, 0, 40, 40, (40, 40), (40, 40), rotation=45.0)
    seen, kept = view_masks(MaskSet.from_masks(dense), np.arange(2), view, limit=2, min_area=16)
    np.testing.assert_array_equal(kept, [1])
    assert abs(int(seen[0].sum()) - 100) < 15


@pytest.mark.parametrize("rotation", [0.0, 10.0])
def test_a_thousand_masks_are_no_thousand_arrays(rotation: float) -> None:
    labels = np.arange(1500)[:, None] // 50 * 40 + np.arange(2000)[None, :] // 50
    masks = MaskSet.from_label_map(labels)
    assert len(masks) == 1200
    view = View(0, 0, 1500, 2000, (192, 256), (192, 256), rotation=rotation)
    tracemalloc.start()
    try:
        seen, _ = view_masks(masks, np.arange(1200), view, limit=10, min_area=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(seen) == 10
    assert peak < 1500 * 2000, "not even one array of the photo's size is made"


def test_a_square_of_its_own_size_is_cut_from_a_photo_of_the_given_scale() -> None:
    generator = np.random.default_rng(0)
    for zoom in (0.5, 1.0, 1.5):
        for _ in range(20):
            view = draw_view(
                generator,
                (300, 480),
                320,
                shape="fixed",
                square_size=224,
                jitter_scale=(zoom, zoom),
            )
            assert view.size == (224, 224)
            assert view.shown[1] == min(224, round(zoom * 320))
            assert view.shown[1] / view.width == pytest.approx(zoom * 320 / 480, rel=0.01)
            assert view.shown[0] / view.height == pytest.approx(zoom * 320 / 480, rel=0.01)
