from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import variation_of_information

from unsam.evaluation.partitions.agreement import agreement, contingency_table


def random_maps(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, (3, 4)).repeat(6, 0).repeat(5, 1)
    return np.where(rng.random(truth.shape) < 0.8, truth, rng.integers(0, 7, truth.shape)), truth


@pytest.mark.parametrize("seed", range(4))
def test_every_measure_equals_its_definition(seed: int) -> None:
    regions, truth = random_maps(seed)
    found = agreement(contingency_table(regions, truth))
    best = [
        max(
            ((truth == label) & (regions == r)).sum() / ((truth == label) | (regions == r)).sum()
            for r in range(7)
        )
        for label in range(truth.max() + 1)
        if (truth == label).any()
    ]
    np.testing.assert_allclose(found.best_iou[np.bincount(truth.ravel()) > 0], best)
    pairs = np.triu_indices(truth.size, 1)
    together = [(item.ravel()[pairs[0]] == item.ravel()[pairs[1]]) for item in (regions, truth)]
    assert found.rand_index == pytest.approx((together[0] == together[1]).mean(), abs=1e-12)
    information = sum(variation_of_information(truth, regions))
    assert found.information == pytest.approx(information, abs=1e-12)


def test_equal_partitions_agree_whatever_their_labels() -> None:
    truth = random_maps(0)[1]
    found = agreement(contingency_table(9 - truth, truth))
    np.testing.assert_array_equal(found.best_iou[np.unique(truth)], 1)
    assert found.rand_index == 1
    assert found.information == pytest.approx(0, abs=1e-12)


def test_one_region_against_halves() -> None:
    truth = np.zeros((4, 6), int)
    truth[:, 3:] = 1
    found = agreement(contingency_table(np.zeros((4, 6), int), truth))
    np.testing.assert_array_equal(found.best_iou, 0.5)
    assert found.rand_index == pytest.approx(2 * (12 * 11 / 2) / (24 * 23 / 2))
    assert found.information == 1


def test_partitions_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3, 4\) and \(4, 3\)"):
        contingency_table(np.zeros((3, 4), int), np.zeros((4, 3), int))
