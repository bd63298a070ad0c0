from __future__ import annotations

import pytest
import torch

from unsam.config import get_cfg
from unsam.errors import ConfigError
from unsam.modeling.losses import bce_loss, dice_loss
from unsam.modeling.point_criterion import PointCriterion

ARGUMENTS = {
    "mask_weight": 3.0,
    "dice_weight": 2.0,
    "num_points": 8,
    "oversample": 3.0,
    "importance": 0.75,
}


@pytest.mark.parametrize("wrong", [{"num_points": 0}, {"oversample": 0.5}, {"importance": 1.5}])
def test_points_that_cannot_be_drawn_are_refused(wrong):
    assert PointCriterion(**ARGUMENTS).loss_points(torch.zeros(2, 4, 4)).shape == (2, 8, 2)
    with pytest.raises(ValueError, match="NUM_POINTS and OVERSAMPLE of at least 1 and IMPORTANCE"):
        PointCriterion(**ARGUMENTS | wrong)


def test_losses_are_weighted_sums_over_the_number_of_masks():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 8, generator=generator)
    targets = torch.rand(3, 8, generator=generator)
    criterion = PointCriterion(**ARGUMENTS)
    losses = criterion.mask_losses(logits, targets, 4.0)
    torch.testing.assert_close(losses["loss_mask"], 3 * bce_loss(logits, targets).sum() / 4)
    torch.testing.assert_close(losses["loss_dice"], 2 * dice_loss(logits, targets).sum() / 4)
    kept = criterion.mask_losses(logits, targets, 4.0, torch.tensor([True, False, True]))
    fewer = criterion.mask_losses(logits[[0, 2]], targets[[0, 2]], 4.0)
    for name, value in kept.items():
        torch.testing.assert_close(value, fewer[name])


def test_no_masks_cost_nothing():
    logits = torch.zeros(0, 8, requires_grad=True)
    losses = PointCriterion(**ARGUMENTS).mask_losses(logits, logits.detach(), 1.0)
    sum(losses.values()).backward()
    assert all(value.item() == 0 for value in losses.values())
    assert logits.grad is not None


def test_an_object_score_is_not_theirs_to_give():
    cfg = get_cfg()
    cfg.CRITERION.OBJECT_WEIGHT = 1.0
    with pytest.raises(ConfigError, match=r"OBJECT_WEIGHT is 1\.0.*gives no object score"):
        PointCriterion.from_config(cfg)
