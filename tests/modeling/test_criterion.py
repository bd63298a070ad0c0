from __future__ import annotations

import pytest
import torch

from unsam.modeling.criterion import MaskCriterion


def _batch(P: int = 4) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(P, 8, 12, generator=generator)
    targets = (torch.rand(P, 8, 12, generator=generator) > 0.6).float()
    quality = torch.rand(P, generator=generator)
    return logits, quality, targets, torch.ones(P, 8, 12, dtype=torch.bool)


def test_losses_equal_the_formulas():
    logits, quality, targets, inside = _batch()
    losses = MaskCriterion()(logits, quality, targets, inside, num_masks=4)
    p = logits.sigmoid()
    p_right = torch.where(targets > 0, p, 1 - p)
    alpha = torch.where(targets > 0, 0.25, 0.75)
    focal = (-alpha * (1 - p_right) ** 2 * p_right.log()).mean((1, 2)).mean()
    dice = 1 - (2 * (p * targets).sum((1, 2)) + 1) / (p.sum((1, 2)) + targets.sum((1, 2)) + 1)
    both = ((logits > 0) & (targets > 0)).sum((1, 2))
    either = ((logits > 0) | (targets > 0)).sum((1, 2))
    torch.testing.assert_close(losses["loss_focal"], 20 * focal)
    torch.testing.assert_close(losses["loss_dice"], dice.mean())
    torch.testing.assert_close(losses["loss_quality"], (quality - both / either).abs().mean())


def test_normalized_focal_loss_is_the_mean_weighted_by_the_focal_factors():
    logits, quality, targets, inside = _batch()
    criterion = MaskCriterion(focal_weight=1.0, focal_alpha=-1, focal_normalized=True)
    losses = criterion(logits, quality, targets, inside, num_masks=4)
    p_right = torch.where(targets > 0, logits.sigmoid(), 1 - logits.sigmoid())
    factor = (1 - p_right) ** 2
    expected = (-(factor * p_right.log()).sum((1, 2)) / factor.sum((1, 2))).mean()
    torch.testing.assert_close(losses["loss_focal"], expected)


def test_normalized_focal_loss_does_not_forget_small_masks():
    """Everything is called background; the missed mask is a thousandth of the photo."""
    logits = torch.full((1, 32, 32), -3.0, requires_grad=True)
    targets = torch.zeros(1, 32, 32)
    targets[0, 5, 5] = 1.0
    shares = []
    for normalized in (False, True):
        criterion = MaskCriterion(
            focal_weight=1.0, focal_alpha=-1, focal_normalized=normalized, dice_weight=0.0
        )
        losses = criterion(logits, torch.ones(1), targets, targets >= 0, 1)
        gradient = torch.autograd.grad(losses["loss_focal"], logits)[0]
        shares.append(-gradient[0, 5, 5].item())
    assert shares[1] > 100 * shares[0]


@pytest.mark.parametrize("normalized", [False, True])
def test_perfect_masks_cost_nothing(normalized):
    _, _, targets, inside = _batch()
    losses = MaskCriterion(focal_normalized=normalized)(
        200 * targets - 100, torch.ones(4), targets, inside, 4
    )
    for value in losses.values():
        assert value.item() == pytest.approx(0.0, abs=1e-4)


def test_padding_counts_for_nothing():
    logits, quality, targets, inside = _batch()
    inside[:, :, 9:] = False
    cut = [x[:, :, :9] for x in (logits, targets, inside)]
    padded = MaskCriterion()(logits, quality, targets, inside, 4)
    plain = MaskCriterion()(cut[0], quality, cut[1], cut[2], 4)
    assert set(padded) == set(plain)
    for name, value in padded.items():
        torch.testing.assert_close(value, plain[name])


def test_every_mask_counts_the_same():
    logits, quality, targets, inside = _batch()
    whole = MaskCriterion()(logits, quality, targets, inside, 4)
    parts = [
        MaskCriterion()(
            logits[i : i + 1], quality[i : i + 1], targets[i : i + 1], inside[i : i + 1], 4
        )
        for i in range(4)
    ]
    for name, value in whole.items():
        torch.testing.assert_close(value, sum(part[name] for part in parts))


def test_quality_gradient_does_not_reach_the_mask():
    logits, quality, targets, inside = _batch()
    logits.requires_grad_()
    quality.requires_grad_()
    losses = MaskCriterion(quality_loss="mse")(logits, quality, targets, inside, 4)
    gradient = torch.autograd.grad(losses["loss_quality"], [logits, quality], allow_unused=True)
    assert gradient[0] is None
    assert gradient[1].abs().sum() > 0


def test_the_object_score_is_supervised_only_with_a_weight():
    logits, quality, targets, inside = _batch()
    targets[1] = 0.0
    score = torch.tensor([1.0, 1.0, -2.0, 3.0], requires_grad=True)
    criterion = MaskCriterion(object_weight=0.5)
    losses = criterion(logits, quality, targets, inside, 8, score)
    right = torch.tensor([1.0, -1.0, -2.0, 3.0]).sigmoid()
    torch.testing.assert_close(losses["loss_object"], 0.5 * -right.log().sum() / 8)
    losses["loss_object"].backward()
    assert torch.equal(score.grad.sign(), torch.tensor([-1.0, 1.0, -1.0, -1.0]))
    plain = MaskCriterion()(logits, quality, targets, inside, 8, score)
    assert tuple(plain) == MaskCriterion().loss_names
    assert tuple(losses) == criterion.loss_names == (*plain, "loss_object")


def test_extreme_logits_stay_finite():
    logits = torch.tensor([[[1e4, -1e4], [1e4, -1e4]]], requires_grad=True)
    targets = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    losses = MaskCriterion()(logits, torch.ones(1), targets, targets >= 0, 1)
    total = sum(losses.values())
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(logits.grad).all()


def test_unknown_quality_loss_is_named():
    with pytest.raises(ValueError, match="QUALITY_LOSS is 'l1' or 'mse', got 'l3'"):
        MaskCriterion(quality_loss="l3")
