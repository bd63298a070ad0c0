from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.bsds_golden import read_bsds
from tests.evaluation.synthetic import random_rectangles
from unsam.data import ImageRecord, get_dataset
from unsam.errors import DataError
from unsam.evaluation.partitions import annotator_partitions, arrangement
from unsam.structures import MaskSet


def same_partition(first: np.ndarray, second: np.ndarray) -> bool:
    pairs = np.unique(np.stack([first.ravel(), second.ravel()], 1), axis=0)
    return len(pairs) == len(np.unique(first)) == len(np.unique(second))


def test_the_masks_of_a_person_are_the_person_s_label_map(golden_root: Path) -> None:
    records = {Path(r.file_name).stem: r for r in get_dataset("bsds500_val_all")}
    for photo in read_bsds(golden_root)[1][:2]:
        people = annotator_partitions(records[photo.name])
        assert len(people) == len(photo.segments)
        assert all(map(same_partition, people, photo.segments))


def test_a_selection_of_regions_is_refused() -> None:
    record = get_dataset("bsds500_val_distinct")[0]
    with pytest.raises(DataError, match="bsds500_val_all"):
        annotator_partitions(record)


def test_an_arrangement_has_a_label_for_each_set_of_masks() -> None:
    masks = random_rectangles(np.random.default_rng(3), 50, 70, 12)
    labels = arrangement(MaskSet.from_masks(masks))
    members = np.unique(masks.reshape(12, -1).T, axis=0, return_inverse=True)[1]
    assert labels.min() == 0
    assert same_partition(labels, members)


def test_without_annotators_all_masks_are_one_person() -> None:
    masks = MaskSet.from_masks(random_rectangles(np.random.default_rng(4), 50, 70, 5))
    (labels,) = annotator_partitions(ImageRecord(1, "a.jpg", 50, 70, masks.to_coco(1)))
    np.testing.assert_array_equal(labels, arrangement(masks))
    (labels,) = annotator_partitions(ImageRecord(1, "a.jpg", 50, 70, []))
    assert not labels.any()
