"""The mean field by lattice is the mean field by all pairs; masks do not influence each other."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from divide_and_conquer.refine.acceptance import Acceptance
from divide_and_conquer.refine.crf import CrfRefiner, DenseCrf, dense_crf
from unsam.errors import ConfigError


def exact_crf(photo, probability, iterations=10):
    """The definition, with both kernels as full matrices and both labels written out."""
    height, width = probability.shape
    y, x = np.mgrid[:height, :width]
    place = np.stack([x.ravel(), y.ravel()], axis=1).astype(float)
    color = photo.reshape(-1, 3).astype(float)
    kernels = []
    for positions, weight in (
        (place / 3, 7),
        (np.concatenate([place / 50, color / 5], axis=1), 10),
    ):
        square = (positions**2).sum(axis=1)
        distance = square[:, None] + square[None] - 2 * positions @ positions.T
        kernel = np.exp(-np.maximum(distance, 0) / 2)
        root = 1 / np.sqrt(kernel.sum(axis=1))
        kernels.append(weight * kernel * root[:, None] * root[None])
    both = np.stack([1 - probability.ravel(), probability.ravel()], axis=1)
    unary = -np.log(np.exp(both) / np.exp(both).sum(axis=1, keepdims=True))
    belief = np.exp(-unary)
    for _ in range(iterations):
        energy = unary - sum(kernel @ belief for kernel in kernels)
        energy -= energy.min(axis=1, keepdims=True)
        belief = np.exp(-energy) / np.exp(-energy).sum(axis=1, keepdims=True)
    return belief.argmax(axis=1).reshape(height, width).astype(bool)


@pytest.fixture(scope="module")
def disturbed(shapes):
    photo, masks = shapes
    small = cv2.resize(photo, (60, 48), interpolation=cv2.INTER_AREA)
    dense = masks.resize((48, 60)).masks()
    cells = [cv2.resize(mask.astype(np.float32), (15, 12)) > 0.5 for mask in dense]
    return small, np.stack([cell.repeat(4, 0).repeat(4, 1) for cell in cells]).astype(np.float32)


def test_against_all_pairs(disturbed):
    photo, probability = disturbed
    ours = dense_crf(photo, probability)
    theirs = np.stack([exact_crf(photo, start) for start in probability])
    assert (theirs != (probability > 0.5)).sum() > 100
    assert (ours & theirs).sum() / (ours | theirs).sum() >= 0.97


def test_masks_do_not_influence_each_other(disturbed):
    photo, probability = disturbed
    field = DenseCrf(photo)
    many = np.concatenate([probability, 1 - probability, probability[:3]])
    together = field.logits(many)
    for index in (0, 3, 4, 7, 10):
        assert np.array_equal(field.logits(many[index : index + 1])[0], together[index])


def test_labels_may_be_exchanged(disturbed):
    photo, probability = disturbed
    field = DenseCrf(photo)
    assert np.allclose(field.logits(probability), -field.logits(1 - probability), atol=1e-2)


def test_an_even_photo_is_smoothed_and_even_masks_stay():
    grey = np.full((40, 40, 3), 90, np.uint8)
    masks = np.zeros((3, 40, 40), np.float32)
    masks[1] = 1
    masks[2, 20, 20] = 1
    result = dense_crf(grey, masks)
    assert not result[0].any()
    assert result[1].all()
    assert not result[2].any()


def test_no_masks_and_one_pixel():
    photo = np.zeros((5, 7, 3), np.uint8)
    assert dense_crf(photo, np.zeros((0, 5, 7), np.float32)).shape == (0, 5, 7)
    assert dense_crf(photo[:1, :1], np.ones((1, 1, 1), np.float32)).all()


def test_wrong_shapes_are_programming_errors():
    photo = np.zeros((5, 7, 3), np.uint8)
    with pytest.raises(ValueError, match="expected \\[N, 5, 7\\]"):
        dense_crf(photo, np.zeros((1, 7, 5), np.float32))
    with pytest.raises(ValueError, match="expected uint8"):
        dense_crf(photo.astype(np.float32), np.zeros((1, 5, 7), np.float32))


def test_masks_of_like_size_and_place_share_a_window():
    refiner = CrfRefiner(input_size=64, iterations=1, acceptance=Acceptance(0.5, 0.9))
    size = (480, 640)
    first = refiner.window(np.array([100, 100, 200, 180]), size)
    assert first == refiner.window(np.array([102, 101, 203, 183]), size)
    assert first.left <= 100 - 25
    assert first.right >= 200 + 25
    assert refiner.window(np.array([0, 479, 1, 480]), size) == (0, 472, 8, 480)


@pytest.mark.parametrize(("size", "iterations"), [(4, 10), (480, 0)])
def test_values_out_of_range_are_the_users(size, iterations):
    with pytest.raises(ConfigError, match=r"REFINE\.CRF"):
        CrfRefiner(input_size=size, iterations=iterations, acceptance=Acceptance(0.5, 0.9))
