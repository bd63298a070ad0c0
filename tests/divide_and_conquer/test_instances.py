"""Instances and their parts: containment, near copies, and what the released code does."""

from __future__ import annotations

import numpy as np
import pytest

from divide_and_conquer.instances import Instances, relate, sureness
from unsam.structures import MaskSet

SETTINGS = {"min_area_share": 0.05, "containment": 0.8}


def boxes(*corners, score=None, size=(100, 100)):
    """Masks that are boxes ``(x0, y0, x1, y1)`` in a photo of 100 x 100 pixels."""
    dense = np.zeros((len(corners), *size), bool)
    for mask, (x0, y0, x1, y1) in zip(dense, corners, strict=True):
        mask[y0:y1, x0:x1] = True
    return MaskSet.from_masks(dense, score=score)


def as_lists(relation):
    return relation.instances.tolist(), [part.tolist() for part in relation.parts]


@pytest.mark.parametrize("published", [False, True])
def test_large_masks_in_no_other_are_instances(published):
    masks = boxes(
        (0, 0, 50, 50),  # An instance.
        (10, 10, 40, 40),  # Large, but in it: its part.
        (12, 12, 15, 15),  # Small, in both: a part of the instance.
        (60, 60, 70, 70),  # Small and alone: neither.
        (55, 0, 99, 50),  # An instance without parts.
    )
    relation = relate(masks, **SETTINGS, published=published)
    assert as_lists(relation) == ([0, 4], [[1, 2], []])


@pytest.mark.parametrize("published", [False, True])
def test_a_part_may_belong_to_two_instances(published):
    masks = boxes((0, 0, 60, 60), (30, 0, 90, 60), (40, 10, 50, 20))
    assert as_lists(relate(masks, **SETTINGS, published=published)) == ([0, 1], [[2], [2]])


def test_of_near_copies_the_better_one_stands():
    corners = ((0, 0, 50, 50), (1, 0, 51, 50), (5, 5, 10, 10))
    masks = boxes(*corners, score=[0.4, 0.9, 1.0])
    assert as_lists(relate(masks, **SETTINGS)) == ([1], [[0, 2]])
    equal = boxes((0, 0, 49, 50), (0, 0, 50, 50), (0, 0, 50, 50))
    assert as_lists(relate(equal, **SETTINGS)) == ([1], [[0, 2]])


def test_of_near_copies_the_surer_source_stands():
    masks = boxes((0, 0, 50, 50), (1, 0, 51, 50), (5, 5, 10, 10), score=[1.0, 0.2, 0.5])
    people = masks.replace(source=np.array(["divide", "human", "divide"]))
    assert as_lists(relate(people, **SETTINGS)) == ([1], [[0, 2]])
    assert (np.diff(sureness(people)[[0, 1]]) > 0).all()


def test_published_near_copies_exclude_each_other():
    masks = boxes((0, 0, 50, 50), (1, 0, 51, 50), (5, 5, 10, 10))
    assert as_lists(relate(masks, **SETTINGS, published=True)) == ([], [])


def test_published_a_mask_that_is_no_instance_excludes():
    # Each lies in the next one by 5/6, the first in the last one by 2/3 only.
    masks = boxes((0, 0, 60, 30), (10, 0, 80, 30), (20, 0, 100, 30))
    assert as_lists(relate(masks, **SETTINGS, published=True)) == ([2], [[1]])
    assert as_lists(relate(masks, **SETTINGS)) == ([0, 2], [[], [1]])


def test_the_limits_themselves_do_not_count():
    masks = boxes((0, 0, 50, 10), (60, 0, 100, 50), (52, 0, 92, 10))
    relation = relate(masks, **SETTINGS)
    # 5 % of the photo is not more than 5 %; 80 % inside is not more than 80 %.
    assert as_lists(relation) == ([1], [[]])


@pytest.mark.parametrize("seed", range(10))
def test_no_large_mask_is_lost(seed):
    rng = np.random.default_rng(seed)
    centre, half = rng.integers(0, 100, (60, 2)), rng.integers(2, 45, (60, 2))
    low, high = np.maximum(centre - half, 0), np.minimum(centre + half, 100)
    masks = boxes(*np.concatenate([low, high], axis=1), score=rng.random(60).round(1))
    relation = relate(masks, **SETTINGS)
    large = masks.areas > 0.05 * 100 * 100
    found = set(relation.instances.tolist()).union(*(part.tolist() for part in relation.parts))
    assert set(np.flatnonzero(large).tolist()) <= found
    inside = masks.containment() > 0.8
    for instance, parts in zip(relation.instances, relation.parts, strict=True):
        assert inside[parts, instance].all()
        assert not np.isin(parts, relation.instances).any()


@pytest.mark.parametrize("seed", range(10))
def test_without_copies_no_instance_lies_in_another(seed):
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 70, (60, 2))
    high = np.minimum(low + rng.integers(2, 80, (60, 2)), 100)
    masks = boxes(*np.concatenate([low, high], axis=1))
    inside = masks.containment() > 0.8
    originals = masks.filter(~np.triu(inside & inside.T, 1).any(axis=1))
    relation = relate(originals, **SETTINGS)
    chosen = originals.filter(relation.instances)
    assert (chosen.containment() > 0.8).sum() == len(chosen)
    released = relate(originals, **SETTINGS, published=True)
    assert set(released.instances.tolist()) <= set(relation.instances.tolist())


def test_each_mask_an_instance():
    relation = Instances.all_of(boxes((0, 0, 5, 5), (1, 1, 3, 3)))
    assert as_lists(relation) == ([0, 1], [[], []])


def test_no_masks_and_wrong_limits():
    assert as_lists(relate(MaskSet.empty((5, 5)), **SETTINGS)) == ([], [])
    with pytest.raises(ValueError, match="containment"):
        relate(MaskSet.empty((5, 5)), min_area_share=0.05, containment=0.4)
