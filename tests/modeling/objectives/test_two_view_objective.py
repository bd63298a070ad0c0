from __future__ import annotations

import pytest
import torch

from unsam.modeling.objectives.two_view_objective import counts_of, mean_over_photos, promptable


def test_each_photo_weighs_the_same_however_many_masks_it_has():
    values = torch.tensor([1.0, 2.0, 3.0, 10.0])
    mean = mean_over_photos(values, torch.tensor([0, 0, 0, 2]), num_photos=4)
    assert mean == pytest.approx((2.0 + 0.0 + 10.0 + 0.0) / 4)


def test_no_mask_at_all_is_zero():
    nothing = torch.zeros(0, dtype=torch.int64)
    assert mean_over_photos(torch.zeros(0), nothing, num_photos=3) == 0
    assert counts_of(nothing, 3) == [0, 0, 0]


def test_counts_are_in_the_order_of_the_photos():
    assert counts_of(torch.tensor([0, 2, 2]), 4) == [1, 0, 2, 0]


def test_a_missing_teacher_is_a_mistake_of_the_program():
    with pytest.raises(AssertionError, match="teacher"):
        promptable(None)
