from __future__ import annotations

import torch
from torch.autograd import gradcheck

from unsam.modeling.losses import dice_loss, soft_dice


def masks() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 8, generator=generator, dtype=torch.float64)
    targets = torch.rand(3, 8, generator=generator, dtype=torch.float64)
    return logits, targets, torch.rand(3, 8, generator=generator) > 0.3


def test_it_is_the_formula_within_the_photo() -> None:
    logits, targets, inside = masks()
    found = dice_loss(logits, targets, inside)
    for row in range(3):
        p, t = logits[row][inside[row]].sigmoid(), targets[row][inside[row]]
        torch.testing.assert_close(found[row], 1 - (2 * (p @ t) + 1) / (p.sum() + t.sum() + 1))
    everywhere = torch.ones_like(inside)
    assert torch.equal(dice_loss(logits, targets), dice_loss(logits, targets, everywhere))


def test_soft_dice_of_sure_masks_is_that_of_sets() -> None:
    targets = torch.tensor([[1.0, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
    signs = torch.tensor([[1.0, 1, -1, -1], [-1, 1, 1, 1], [-1, -1, -1, -1], [-1, -1, -1, -1]])
    expected = torch.tensor([1.0, (2 * 2 + 1) / (3 + 3 + 1), 1.0, 1 / 5])
    torch.testing.assert_close(soft_dice(100 * signs, targets), expected)


def test_gradient() -> None:
    logits, targets, inside = masks()
    assert gradcheck(dice_loss, (logits.requires_grad_(), targets, inside))
