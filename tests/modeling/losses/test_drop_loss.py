from __future__ import annotations

import torch

from unsam.modeling.losses import kept_pairs


def test_pairs_of_no_larger_iou_are_dropped() -> None:
    targets = torch.tensor([[1.0, 1, 1, 1]]).expand(4, -1)
    logits = 1000 * torch.tensor(
        [[-1.0, -1, -1, -1], [1, -1, -1, -1], [1, 1, -1, -1], [1, 1, 1, 1]]
    )
    assert kept_pairs(logits, targets, 0.25).tolist() == [False, False, True, True]
    assert kept_pairs(logits, targets, 0.0).tolist() == [False, True, True, True]
    assert kept_pairs(logits, targets, -1.0).all()


def test_the_iou_is_that_of_probabilities() -> None:
    logits, targets = torch.zeros(1, 4), torch.tensor([[1.0, 1, 0, 0]])
    # Half of two of four: one in common, three in either.
    assert kept_pairs(logits, targets, 0.33).all()
    assert not kept_pairs(logits, targets, 0.34).any()
