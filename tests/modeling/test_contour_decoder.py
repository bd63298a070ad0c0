from __future__ import annotations

import pytest
import torch

from unsam.modeling.contour_decoder import ContourDecoder, contour_loss
from unsam.modeling.image_encoder import EncodedImages


def test_one_logit_per_pixel() -> None:
    decoder = ContourDecoder(embed_dim=8, high_res_dims=(4, 6), dims=(3, 4, 5, 6))
    features = EncodedImages(
        torch.randn(2, 8, 2, 3), (torch.randn(2, 4, 8, 12), torch.randn(2, 6, 4, 6))
    )
    logits = decoder(torch.randn(2, 3, 32, 48), features)
    assert logits.shape == (2, 32, 48)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in decoder.parameters())


def test_the_loss_is_the_weighted_cross_entropy_within_the_photos() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, dtype=torch.float64)
    strength = torch.rand(2, 3, 4, dtype=torch.float64)
    inside = torch.ones(2, 3, 4, dtype=torch.bool)
    inside[1, :, 2:] = False
    total = 0.0
    for index in range(2):
        terms = [
            -(1 + 4 * t) * (t * p.log() + (1 - t) * (1 - p).log())
            for p, t, real in zip(
                logits[index].sigmoid().flatten(),
                strength[index].flatten(),
                inside[index].flatten(),
                strict=True,
            )
            if real
        ]
        total += sum(terms) / len(terms) / 2
    assert contour_loss(logits, strength, inside).item() == pytest.approx(float(total), rel=1e-5)
    moved = torch.where(inside, logits, 100.0)
    assert contour_loss(moved, strength, inside) == contour_loss(logits, strength, inside)
    assert contour_loss(logits, strength, torch.zeros_like(inside)) == 0
