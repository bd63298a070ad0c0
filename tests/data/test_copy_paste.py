"""Pasted masks carry their pixels and their granularity, and cut what lies beneath."""

from __future__ import annotations

import numpy as np
import pytest

from unsam.data.copy_paste import MAX_PASTED, MaskedPhoto, copy_paste


def photo_of(dense: np.ndarray, colour: int, granularity: list[float]) -> MaskedPhoto:
    image = np.full((*dense.shape[1:], 3), colour, np.uint8)
    return MaskedPhoto(image, dense, np.array(granularity, np.float32))


@pytest.fixture
def target() -> MaskedPhoto:
    dense = np.zeros((3, 40, 50), bool)
    dense[0] = True
    dense[1, :20] = True
    dense[2, 30:34, 40:44] = True
    return photo_of(dense, 50, [1.0, 0.5, 0.1])


@pytest.fixture
def donor() -> MaskedPhoto:
    """One object with a part, and a mask that reaches beyond both."""
    dense = np.zeros((6, 30, 30), bool)
    dense[:MAX_PASTED, 5:15, 5:17] = True
    dense[4, 6:10, 6:10] = True
    dense[5, 5:29, 5:29] = True
    return photo_of(dense, 200, [0.9, 0.9, 0.9, 0.9, 0.2, 1.0])


def paste(target: MaskedPhoto, donor: MaskedPhoto, seed: int = 0, limit: int = 20) -> MaskedPhoto:
    return copy_paste(np.random.default_rng(seed), target, donor, limit=limit)


@pytest.mark.parametrize("seed", range(8))
def test_pixels_and_masks_come_together(target: MaskedPhoto, donor: MaskedPhoto, seed: int) -> None:
    before = target.image.copy(), target.masks.copy()
    result = paste(target, donor, seed)
    pasted = result.image[..., 0] == 200
    assert pasted.sum() == 120
    coarse = result.granularity == np.float32(0.9)
    assert coarse.sum() == MAX_PASTED
    for mask in result.masks[coarse]:
        np.testing.assert_array_equal(mask, pasted)
    part = result.masks[result.granularity == np.float32(0.2)]
    assert part.sum() == 16
    assert not (part & ~pasted).any()
    beneath = (result.granularity == 1.0) | (result.granularity == 0.5)
    assert beneath.sum() == 2, "the mask that reaches beyond what is pasted stays behind"
    assert not (result.masks[beneath] & pasted).any()
    np.testing.assert_array_equal(result.masks[beneath][0], ~pasted)
    np.testing.assert_array_equal(target.image, before[0])
    np.testing.assert_array_equal(target.masks, before[1])


@pytest.mark.parametrize(("covered", "remain"), [(50, 0), (40, 0), (20, 2)])
def test_masks_that_lose_most_of_their_area_are_dropped(
    target: MaskedPhoto, covered: int, remain: int
) -> None:
    dense = np.zeros((1, 40, 100), bool)
    dense[0, :, :covered] = True
    whole = MaskedPhoto(target.image, target.masks[:2], target.granularity[:2])
    result = paste(whole, photo_of(dense, 200, [0.7]))
    assert len(result.masks) == 1 + remain
    assert result.granularity[-1] == np.float32(0.7)
    np.testing.assert_array_equal(result.masks[-1], result.image[..., 0] == 200)


def test_a_region_larger_than_the_photo_is_cut(target: MaskedPhoto) -> None:
    dense = np.zeros((2, 90, 60), bool)
    dense[:, :, 10:30] = True
    result = paste(target, photo_of(dense, 200, [0.7, 0.8]))
    pasted = result.image[..., 0] == 200
    assert pasted.sum() == 40 * 20
    np.testing.assert_array_equal(result.masks[-1], pasted)


def test_the_background_of_the_donor_is_not_pasted(target: MaskedPhoto, donor: MaskedPhoto) -> None:
    assert donor.masks[5].mean() > 0.5
    turned = MaskedPhoto(donor.image, donor.masks[::-1], donor.granularity[::-1])
    result = paste(target, turned)
    assert 0 < (result.image == 200).all(-1).sum() <= 120
    assert paste(target, photo_of(donor.masks[5:], 200, [1.0])) is target


def test_limit_and_donors_without_masks(target: MaskedPhoto, donor: MaskedPhoto) -> None:
    assert len(paste(target, donor, limit=3).masks) == 3
    chosen = {tuple(paste(target, donor, seed, limit=3).granularity) for seed in range(20)}
    assert len(chosen) > 3, "which masks stay is drawn"
    nothing = MaskedPhoto(donor.image, donor.masks[:0], donor.granularity[:0])
    assert paste(target, nothing) is target
