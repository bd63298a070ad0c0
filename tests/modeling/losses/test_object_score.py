from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import gradcheck

from unsam.modeling.losses import object_score_loss

# A pixel, a sliver of one, nothing, and a pixel in the padding.
TARGETS = torch.tensor([[0.0, 1.0, 0.0], [0.1, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
INSIDE = torch.tensor([True, True, False]).expand(4, -1)


def test_it_is_the_cross_entropy_of_whether_the_mask_has_a_pixel() -> None:
    logits = torch.tensor([2.0, -1.0, 0.5, -3.0])
    expected = [
        -math.log(p if exists else 1 - p)
        for p, exists in zip(logits.sigmoid().tolist(), (1, 1, 0, 0), strict=True)
    ]
    assert object_score_loss(logits, TARGETS, INSIDE).tolist() == pytest.approx(expected, rel=1e-5)


def test_gradient() -> None:
    logits = torch.tensor([2.0, -1.0, 0.5, -3.0], dtype=torch.float64, requires_grad=True)
    assert gradcheck(object_score_loss, (logits, TARGETS, INSIDE))
