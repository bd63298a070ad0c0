"""Levels: every mask is in exactly one, colours lie on masks only, parts lie on their wholes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from unsam.errors import DataError
from unsam.structures import MaskSet, RegionTree, read_photo
from unsam.visualization.levels import (
    draw_levels,
    fit_photo,
    split_levels,
    tree_colours,
    tree_depths,
)


def quarters(size: int = 32) -> MaskSet:
    """A whole, its four quarters, and the four quarters of the first of them."""
    labels = np.zeros((size, size), int)
    half, quarter = size // 2, size // 4
    labels[:half, half:], labels[half:, :half], labels[half:, half:] = 4, 5, 6
    labels[:quarter, quarter:half], labels[quarter:half, :quarter] = 1, 2
    labels[quarter:half, quarter:half] = 3
    parent = [7, 7, 7, 7, 8, 8, 8, 8, -1]
    granularity = [0.1, 0.1, 0.1, 0.1, 0.3, 0.3, 0.3, 0.3, 1.0]
    return RegionTree(labels, parent, granularity).masks(source="conquer")


@pytest.fixture(scope="module")
def real(data_root: Path) -> tuple[np.ndarray, MaskSet]:
    json_path = sorted((data_root / "sa1b_layout").glob("*.json"))[0]
    record = json.loads(json_path.read_text())
    masks = MaskSet.from_sa1b(record)
    share = masks.areas / (masks.size[0] * masks.size[1])
    masks = masks.replace(granularity=0.1 + 0.9 * np.sqrt(share)).with_parents()
    return read_photo(json_path.parent / record["image"]["file_name"]), masks


def test_every_mask_is_in_exactly_one_level() -> None:
    granularity = np.concatenate([np.random.default_rng(0).uniform(0.1, 1, 999), [0.1, 0.2, 1.0]])
    bands = split_levels(granularity.astype(np.float32))
    np.testing.assert_array_equal(
        np.sort(np.concatenate([index for *_, index in bands])), range(1002)
    )
    for low, high, index in bands:
        inside = granularity[index]
        assert (inside >= low - 1e-6).all()
        assert (inside < high + (high == 1.0)).all()


def test_a_granularity_at_an_edge_begins_the_coarser_level() -> None:
    bands = split_levels(np.array([0.15, 0.2, 0.3, 0.5, 1.0], np.float32))
    assert [(low, index.tolist()) for low, _, index in bands] == [
        (0.5, [3, 4]), (0.3, [2]), (0.2, [1]), (0.15, [0]), (0.1, [])
    ]  # fmt: skip


@pytest.mark.parametrize("edges", [(1.0,), (0.9, 0.1), (1.0, 0.2), (1.0, 0.3, 0.5, 0.1)])
def test_wrong_edges_are_refused(edges: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="edges"):
        split_levels(np.ones(2, np.float32), edges)


def test_only_pixels_of_a_levels_masks_are_coloured(real: tuple[np.ndarray, MaskSet]) -> None:
    photo, masks = real
    drawn = draw_levels(photo, masks, tree_colours(masks))
    assert sum(level.index.size for level in drawn) == len(masks)
    for level in drawn:
        assert level.image.shape == photo.shape
        inside = np.zeros(masks.size, bool)
        for index in level.index:
            inside |= masks.mask(int(index))
        spread = np.ptp(level.image.astype(int), axis=2)
        assert (spread[~inside] <= 1).all()
        if inside.any():
            assert (spread[inside] > 8).mean() > 0.8


def test_a_part_lies_on_its_whole_and_is_seen_above_it() -> None:
    masks = quarters()
    photo = np.full((32, 32, 3), 90, np.uint8)
    coarse, *_, fine = draw_levels(photo, masks, tree_colours(masks), (1.0, 0.2, 0.1))
    assert coarse.index.size == 5
    assert fine.index.size == 4
    fine_colours = fine.image.astype(int)
    assert np.ptp(fine_colours[:16, :16], axis=2).min() > 0
    assert np.ptp(fine_colours[17:, 17:], axis=2).max() <= 1
    corners = {tuple(fine.image[y, x]) for y in (3, 11) for x in (3, 11)}
    assert len(corners) == 4


def test_colours_are_stable_and_siblings_differ() -> None:
    masks = quarters()
    colours = tree_colours(masks).astype(int)
    np.testing.assert_array_equal(colours, tree_colours(masks))
    for index in range(len(masks)):
        family = np.flatnonzero(masks.parent == masks.parent[index])
        others = [
            *family[family != index],
            *([masks.parent[index]] if masks.parent[index] >= 0 else []),
        ]
        for other in others:
            assert np.abs(colours[index] - colours[other]).max() > 20


def test_parents_in_a_circle_are_an_error() -> None:
    assert tree_depths(np.array([-1, 0, 1, 0])).tolist() == [0, 1, 2, 1]
    with pytest.raises(DataError, match="circle"):
        tree_depths(np.array([1, 0, -1]))


@pytest.mark.parametrize("shape", [(1, 1), (3, 900), (900, 3), (37, 21)])
def test_photos_of_any_shape_fit(shape: tuple[int, int]) -> None:
    photo = np.zeros((*shape, 3), np.uint8)
    small = fit_photo(photo, 64)
    assert max(small.shape[:2]) == 64
    masks = MaskSet.from_masks(np.ones((1, *shape), bool))
    levels = draw_levels(small, masks, tree_colours(masks))
    assert all(level.image.shape == small.shape for level in levels)
