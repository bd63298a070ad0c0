"""Grid masks at photo size are, to the bit, what Pillow's resize and a threshold give."""

from __future__ import annotations

import numpy as np
import PIL
import pytest
from PIL import Image

from divide_and_conquer.bicubic_masks import upscale_grids
from unsam.structures import MaskSet

# Older versions of Pillow do rows first; see `_columns_first`.
COLUMNS_FIRST_SINCE = 13


def by_pillow(grid: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    picture = Image.fromarray(grid.astype(np.uint8) * 255).resize((size[1], size[0]))
    values = np.asarray(picture)
    return values > values.max() / 2


def whole(height: int, width: int) -> MaskSet:
    return MaskSet.from_masks(np.ones((1, height, width), bool))


def sizes(seed: int, count: int, largest: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    grid = rng.integers(1, 40, (count, 2))
    crop = rng.integers(1, largest, (count, 2))
    if int(PIL.__version__.partition(".")[0]) < COLUMNS_FIRST_SINCE:
        crop[:, 0] = np.maximum(crop[:, 0], grid[:, 0])
    return np.concatenate([grid, crop], axis=1)


@pytest.mark.parametrize("largest", [12, 40, 250])
@pytest.mark.parametrize("share", [0.03, 0.5, 0.95])
def test_equals_pillow(largest, share):
    rng = np.random.default_rng(largest)
    for h, w, height, width in sizes(int(100 * share), 40, largest):
        grids = rng.random((5, h, w)) < share
        grids[0] = True
        expected = np.stack([by_pillow(grid, (height, width)) for grid in grids])
        found = upscale_grids(grids, (0, 0, width, height), whole(height, width), 0.0)
        filled = np.flatnonzero(expected.any(axis=(1, 2)))
        assert np.array_equal(found.kept, filled), (h, w, height, width)
        assert np.array_equal(found.areas, expected.sum(axis=(1, 2)))
        assert found.masks == MaskSet.from_masks(expected[filled]), (h, w, height, width)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (800, 1200), (32, 32), (31, 33)])
def test_connected_clusters_on_a_grid_of_32(size):
    if size[0] < 32 and int(PIL.__version__.partition(".")[0]) < COLUMNS_FIRST_SINCE:
        pytest.skip("this Pillow resizes low crops rows first")
    rows, columns = np.mgrid[:32, :32]
    grids = np.stack(
        [
            np.hypot(rows - 15, columns - 12) < 9,
            (rows == 4) & (columns >= 3),
            (columns == 31) & (rows > 20),
            rows >= columns,
        ]
    )
    expected = np.stack([by_pillow(grid, size) for grid in grids])
    found = upscale_grids(grids, (0, 0, size[1], size[0]), whole(*size), 0.0)
    assert found.masks == MaskSet.from_masks(expected[expected.any(axis=(1, 2))])


def test_place_and_coverage_in_the_photo():
    rng = np.random.default_rng(1)
    inside = rng.random((60, 90)) < 0.6
    instance = MaskSet.from_masks(inside[None])
    grids = rng.random((30, 9, 7)) < 0.4
    x0, y0, x1, y1 = box = (11, 5, 83, 58)
    dense = np.zeros((30, 60, 90), bool)
    for mask, grid in zip(dense, grids, strict=True):
        mask[y0:y1, x0:x1] = by_pillow(grid, (y1 - y0, x1 - x0))
    share = (dense & inside).sum(axis=(1, 2)) / dense.sum(axis=(1, 2))
    found = upscale_grids(grids, box, instance, float(np.median(share)))
    assert np.allclose(found.coverage, share, rtol=0, atol=1e-12)
    assert np.array_equal(found.kept, np.flatnonzero(share > np.median(share)))
    assert found.masks == MaskSet.from_masks(dense[found.kept])


def test_coverage_must_be_larger_than_the_limit():
    half = np.zeros((1, 8, 8), bool)
    half[:, :, :4] = True
    instance = MaskSet.from_masks(np.pad(half, ((0, 0), (0, 0), (0, 8))))
    grid = np.ones((1, 4, 4), bool)
    box = (0, 0, 8, 8)
    assert len(upscale_grids(grid, box, instance, 0.5).masks) == 0
    assert len(upscale_grids(grid, box, instance, 0.4999).masks) == 1


def test_columns_that_touch_are_one_run():
    found = upscale_grids(np.ones((1, 3, 3), bool), (2, 0, 9, 20), whole(20, 12), 0.0)
    assert found.masks.runs.tolist() == [[40, 180]]


def test_nothing_in_nothing_out():
    found = upscale_grids(np.zeros((2, 3, 3), bool), (0, 0, 9, 9), whole(9, 9), -1.0)
    assert len(found.masks) == 0
    assert found.areas.tolist() == [0, 0]
    assert found.coverage.tolist() == [0, 0]
    assert len(upscale_grids(np.zeros((0, 3, 3), bool), (0, 0, 9, 9), whole(9, 9), 0.0).masks) == 0


@pytest.mark.parametrize(
    ("grids", "box", "count", "message"),
    [
        (np.zeros((3, 3), bool), (0, 0, 9, 9), 1, "K, h, w"),
        (np.zeros((1, 3, 0), bool), (0, 0, 9, 9), 1, "above 0"),
        (np.zeros((1, 3, 3), bool), (0, 0, 0, 9), 1, "empty"),
        (np.zeros((1, 3, 3), bool), (0, 0, 10, 9), 1, "not in the photo"),
        (np.zeros((1, 3, 3), bool), (0, 0, 9, 9), 2, "one instance"),
    ],
)
def test_wrong_input_is_refused(grids, box, count, message):
    with pytest.raises(ValueError, match=message):
        upscale_grids(grids, box, MaskSet.from_masks(np.ones((count, 9, 9), bool)), 0.0)
