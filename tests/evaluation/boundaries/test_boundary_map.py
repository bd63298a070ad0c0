from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.bsds_golden import read_bsds
from unsam.data import get_dataset
from unsam.evaluation.boundaries.boundary_map import label_boundaries, mask_strength, ucm_strength
from unsam.evaluation.partitions import annotator_partitions
from unsam.structures import MaskSet


def test_boundaries_of_people_are_the_golden_ones(golden_root: Path) -> None:
    """From the golden label maps, and from the masks of this project's data."""
    records = {Path(r.file_name).stem: r for r in get_dataset("bsds500_val_all")}
    for photo in read_bsds(golden_root)[1][:3]:
        drawn = [label_boundaries(labels) for labels in photo.segments]
        np.testing.assert_array_equal(drawn, photo.boundaries)
        people = [label_boundaries(labels) for labels in annotator_partitions(records[photo.name])]
        np.testing.assert_array_equal(people, photo.boundaries)


def test_a_boundary_lies_on_the_upper_left_side() -> None:
    labels = np.zeros((9, 12), int)
    labels[4:, 7:] = 1
    marked = label_boundaries(labels)
    assert marked[3, 8:].all()
    assert marked[5:, 6].all()
    assert marked.sum() == np.count_nonzero(marked[3]) + np.count_nonzero(marked[4:, 6])
    assert not label_boundaries(np.ones((9, 12), int)).any()


def test_the_strength_of_a_contour_map_is_between_the_pixels() -> None:
    ucm = np.arange(7 * 9).reshape(7, 9)
    np.testing.assert_array_equal(ucm_strength(ucm), ucm[[2, 4, 6]][:, [2, 4, 6, 8]])
    with pytest.raises(ValueError, match="2H"):
        ucm_strength(np.zeros((6, 9)))


def test_a_contour_is_stronger_the_more_masks_share_it() -> None:
    masks = np.zeros((3, 20, 30), bool)
    masks[:, :, :10] = True
    masks[2, :, 10:20] = True
    strength = mask_strength(MaskSet.from_masks(masks))
    assert strength.dtype == np.float32
    assert strength[5, 9] == strength[5, 10] == 1
    assert 0 < strength[5, 19] == strength[5, 20] < 1
    assert not strength[:, 12:18].any()
    assert not mask_strength(MaskSet.empty((20, 30))).any()
