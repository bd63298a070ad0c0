from __future__ import annotations

import torch
from torch.autograd import gradcheck

from unsam.modeling.losses import bce_loss


def masks() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(4, 9, generator=generator, dtype=torch.float64)
    return logits, torch.rand(4, 9, generator=generator, dtype=torch.float64)


def test_it_is_the_mean_over_points_of_the_formula() -> None:
    logits, targets = masks()
    p = logits.sigmoid()
    expected = -(targets * p.log() + (1 - targets) * (1 - p).log()).mean(1)
    torch.testing.assert_close(bce_loss(logits, targets), expected)
    torch.testing.assert_close(bce_loss(logits, targets > 0.5), bce_loss(logits, targets.round()))


def test_gradient() -> None:
    logits, targets = masks()
    assert gradcheck(bce_loss, (logits.requires_grad_(), targets))
