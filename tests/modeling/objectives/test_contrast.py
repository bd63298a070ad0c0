from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.modeling.objectives.photos import context_of, photo
from unsam.modeling.objectives import build_objectives
from unsam.modeling.objectives.contrast import Contrast, negative_weights, region_contrast


@pytest.fixture
def contrast(cfg, model) -> Contrast:
    cfg.OBJECTIVES.CONTRAST.WEIGHT = 1.0
    objective = build_objectives(cfg, model)["CONTRAST"]
    assert isinstance(objective, Contrast)
    return objective


def problem(dtype=torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(2, 12, 5, generator=generator, dtype=dtype)
    inside = torch.zeros(2, 12, dtype=torch.bool)
    inside[0, :5] = inside[1, 7:] = True
    weights = torch.rand(2, 12, generator=generator, dtype=dtype)
    weights[:, 5:7] = 0.0
    weights = weights.masked_fill(inside, 0.0)
    anchors = torch.tensor([[0, 3, -1], [7, 11, 9]])
    return F.normalize(embeddings, dim=-1), anchors, inside, weights


def test_the_loss_is_info_nce_with_weighted_negatives() -> None:
    z, anchors, inside, weights = problem()
    expected = []
    for k in range(2):
        terms = []
        for a in anchors[k].tolist():
            for p in inside[k].nonzero()[:, 0].tolist():
                if a < 0 or a == p:
                    continue
                negatives = sum(
                    weights[k, n].item() * math.exp(z[k, a] @ z[k, n] / 0.2) for n in range(12)
                )
                positive = math.exp(z[k, a] @ z[k, p] / 0.2)
                terms.append(-math.log(positive / (positive + negatives)))
        expected.append(sum(terms) / len(terms))
    found = region_contrast(z, anchors, inside, weights, 0.2)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_the_gradient_of_the_loss_is_right() -> None:
    z, anchors, inside, weights = problem()
    z.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: region_contrast(F.normalize(x, dim=-1), anchors, inside, weights, 0.2), z
    )


def test_a_mask_without_pairs_costs_nothing_and_has_finite_gradients() -> None:
    z, anchors, inside, weights = problem()
    z.requires_grad_()
    loss = region_contrast(z, torch.full_like(anchors, -1), inside, weights, 0.01)
    loss.sum().backward()
    assert loss.tolist() == [0.0, 0.0]
    assert z.grad is not None
    assert (z.grad == 0).all()


def test_negatives_near_the_mask_weigh_more_and_touched_patches_nothing() -> None:
    touched = torch.zeros(1, 1, 7, dtype=torch.bool)
    touched[..., 1] = True
    assert negative_weights(touched, 2, 3.0).tolist() == [[[3.0, 0.0, 3.0, 3.0, 1.0, 1.0, 1.0]]]
    assert negative_weights(touched, 0, 3.0).tolist() == [[[1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0]]]


def test_the_loss_falls_when_the_patches_of_masks_become_alike(contrast) -> None:
    coverage = torch.zeros(1, 4, 4)
    coverage[0, :2] = 1.0
    granularity, image = torch.tensor([0.5]), torch.zeros(3, 64, 64, dtype=torch.uint8)

    def loss(embedding: Tensor) -> float:
        generator = torch.Generator().manual_seed(0)
        return contrast.photo_loss(embedding, coverage, granularity, image, generator).item()

    noise = torch.randn(32, 4, 4, generator=torch.Generator().manual_seed(1))
    halves = torch.cat((noise[:, :1].expand(-1, 2, -1), noise[:, 3:].expand(-1, 2, -1)), 1)
    assert loss(halves.mean(2, keepdim=True).expand(-1, -1, 4)) < loss(noise)


def test_the_gradient_reaches_the_encoder_and_all_of_the_projection(model, contrast) -> None:
    contrast(model, context_of(model, [photo(0), photo(1)]))["loss_contrast"].backward()
    for part in (model.image_encoder.stem, contrast):
        gradients = [parameter.grad for parameter in part.parameters()]
        assert all(g is not None and g.isfinite().all() and g.abs().sum() > 0 for g in gradients)


def test_a_photo_contributes_the_same_in_any_batch(model, contrast) -> None:
    with torch.no_grad():
        alone = [contrast(model, context_of(model, [photo(i)]))["loss_contrast"] for i in range(2)]
        both = contrast(model, context_of(model, [photo(1), photo(0)]))["loss_contrast"]
    torch.testing.assert_close(both, sum(alone) / 2, rtol=1e-4, atol=1e-5)
    assert min(alone) > 0


def test_padding_has_no_part_in_it(model, contrast) -> None:
    context = context_of(model, [photo(1, size=(80, 70)), photo(0)])
    with torch.no_grad():
        expected = contrast(model, context)
        context.features.embedding[0, :, 5:] = context.features.embedding[0, :, :, 4:] = 1e6
        assert contrast(model, context) == expected


@pytest.mark.parametrize("kept", [slice(0, 0), slice(2, 3)], ids=["no masks", "the whole photo"])
def test_photos_with_nothing_to_contrast_give_a_zero_with_a_graph(model, contrast, kept):
    sample = photo(0)
    sample |= {"masks": sample["masks"][kept], "granularity": sample["granularity"][kept]}
    losses = contrast(model, context_of(model, [sample]))
    losses["loss_contrast"].backward()
    assert {name: value.item() for name, value in losses.items()} == {"loss_contrast": 0.0}


def test_autocast_does_not_change_the_precision_of_the_loss(model, contrast) -> None:
    context = context_of(model, [photo(0)])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        low = contrast(model, context)["loss_contrast"]
    with torch.no_grad():
        full = contrast(model, context)["loss_contrast"]
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, full, rtol=1e-6, atol=0)
