from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn import functional as F

from unsam.modeling.losses import focal_loss


def masks(P: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(P, 10, generator=generator, dtype=torch.float64)
    targets = (torch.rand(P, 10, generator=generator) > 0.6).double()
    return logits, targets, torch.rand(P, 10, generator=generator) > 0.2


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (-1.0, 1.5), (0.6, 0.0)])
@pytest.mark.parametrize("normalized", [False, True])
def test_it_is_the_formula(alpha: float, gamma: float, normalized: bool) -> None:
    logits, targets, inside = masks()
    found = focal_loss(logits, targets, inside, alpha=alpha, gamma=gamma, normalized=normalized)
    for row in range(3):
        total = weights = 0.0
        for x, t in zip(logits[row][inside[row]], targets[row][inside[row]], strict=True):
            right = x.sigmoid() if t else 1 - x.sigmoid()
            side = 1.0 if alpha < 0 else alpha if t else 1 - alpha
            factor = (1 - right) ** gamma
            total += -side * factor * right.log()
            weights += factor if normalized else 1.0
        torch.testing.assert_close(found[row], total / max(weights, 1.0))


@pytest.mark.parametrize("alpha", [0.25, -1.0])
def test_gradient(alpha: float) -> None:
    logits, targets, inside = masks()
    # Shares of a cell, as at the rim of a mask.
    targets = 0.1 + 0.8 * targets

    def loss(x: Tensor) -> Tensor:
        return focal_loss(x, targets, inside, alpha=alpha, gamma=2.0, normalized=False)

    assert gradcheck(loss, (logits.requires_grad_(),))


def test_the_normalizer_has_no_gradient() -> None:
    logits, targets, inside = masks()
    logits.requires_grad_()
    common = {"alpha": -1.0, "gamma": 2.0}
    normalized = focal_loss(logits, targets, inside, normalized=True, **common).sum()
    right = torch.where(targets > 0, logits.sigmoid(), 1 - logits.sigmoid())
    weights = ((1 - right) ** 2 * inside).sum(1).detach().clamp(min=1)
    plain = focal_loss(logits, targets, inside, normalized=False, **common)
    expected = (plain * inside.sum(1) / weights).sum()
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (normalized, expected)]
    torch.testing.assert_close(*gradients)


def test_without_weights_it_is_the_cross_entropy() -> None:
    logits, targets, _ = masks()
    inside = torch.ones_like(targets, dtype=torch.bool)
    found = focal_loss(logits, targets, inside, alpha=-1, gamma=0.0, normalized=False)
    expected = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1)
    torch.testing.assert_close(found, expected)
