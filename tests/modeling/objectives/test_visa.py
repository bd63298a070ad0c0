from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from tests.modeling.mask2former.conftest import tiny_cfg as mask2former_cfg
from tests.modeling.mask2former.conftest import tiny_mask2former
from tests.modeling.objectives.photos import context_of, photo, without_masks
from unsam.errors import ConfigError
from unsam.modeling.objectives import build_objectives
from unsam.modeling.objectives.visa import (
    TARGETS,
    Visa,
    affinity_loss,
    draw_pairs,
    interior_weights,
    partition,
    prototype_loss,
    region_prototypes,
)


@pytest.fixture(params=TARGETS)
def visa(cfg, model, request) -> Visa:
    cfg.OBJECTIVES.VISA.WEIGHT = 1.0
    cfg.OBJECTIVES.VISA.TARGET = request.param
    objective = build_objectives(cfg, model)["VISA"]
    assert isinstance(objective, Visa)
    return objective


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_a_patch_belongs_to_the_covering_mask_nearest_to_the_granularity() -> None:
    coverage = torch.tensor([[[1.0, 1.0, 0.6, 0.2]], [[1.0, 0.4, 0.0, 0.0]]])
    granularity = torch.tensor([0.8, 0.3])
    assert partition(coverage, granularity, torch.tensor([0.4])).tolist() == [[1, 0, 0, -1]]
    assert partition(coverage, granularity, torch.tensor([0.9])).tolist() == [[0, 0, 0, -1]]


def test_weights_grow_with_the_distance_to_another_region() -> None:
    regions = torch.zeros(9, 11, dtype=torch.long)
    regions[5:, 6:] = 2
    regions[0, 0] = -1
    expected = torch.empty(9, 11)
    for y in range(9):
        for x in range(11):
            others = (regions != regions[y, x]).nonzero()
            steps = (others - torch.tensor([y, x])).abs().amax(1).min().item()
            expected[y, x] = 1 - math.exp(-(min(steps, 9) - 0.5) / 2.0)
    torch.testing.assert_close(interior_weights(regions, 2.0), expected)


def test_pairs_are_within_a_region_or_across_two_and_never_of_one_patch() -> None:
    labels = torch.tensor([4, 0, 4, 0, 0, 7, 4, 0])
    (first, second), exists = draw_pairs(labels, 2000, torch.Generator().manual_seed(0))
    same = labels[first] == labels[second]
    assert same[:1000].all()
    assert not same[1000:].any()
    # The patch of region 7 is alone; every other one has a partner.
    assert (exists[:1000] == (labels[first] != 7)[:1000]).all()
    assert exists[1000:].all()
    assert (first != second)[exists].all()
    found = set(zip(first[exists].tolist(), second[exists].tolist()))
    assert len(found) == 8 * 7


def test_one_region_has_no_pairs_across() -> None:
    _, exists = draw_pairs(torch.zeros(5, dtype=torch.long), 10, torch.Generator().manual_seed(0))
    assert exists.tolist() == [True] * 5 + [False] * 5


def test_the_affinity_loss_is_a_weighted_cross_entropy() -> None:
    first, second = random(4, 3), random(4, 3, seed=1)
    alike, weight = random(4, seed=2).tanh(), random(4, seed=3).abs()
    total = 0.0
    for a, b, c, w in zip(first, second, alike, weight):
        student = 1 / (1 + math.exp(-(a @ b / (a.norm() * b.norm())).item() / 0.5))
        target = 1 / (1 + math.exp(-c.item() / 0.5))
        total -= w.item() * (target * math.log(student) + (1 - target) * math.log(1 - student))
    found = affinity_loss(first, second, alike, weight, 0.5)
    assert found.item() == pytest.approx(total / weight.sum().item())


def test_the_affinity_loss_is_stationary_where_the_student_agrees() -> None:
    first, second = random(5, 3).requires_grad_(), random(5, 3, seed=1)
    alike = F.cosine_similarity(first.detach(), second)
    affinity_loss(first, second, alike, torch.ones(5), 0.1).backward()
    assert first.grad is not None
    torch.testing.assert_close(first.grad, torch.zeros_like(first), rtol=0, atol=1e-12)


def test_prototypes_are_weighted_means_of_regions() -> None:
    features, weights = random(5, 2), random(5, seed=1).abs()
    prototypes, rows = region_prototypes(features, torch.tensor([9, 2, 9, 2, 2]), weights)
    assert rows.tolist() == [1, 0, 1, 0, 0]
    for row in range(2):
        own = rows == row
        mean = (features[own] * weights[own, None]).sum(0) / weights[own].sum()
        torch.testing.assert_close(prototypes[row], mean)


def test_the_prototype_loss_is_a_cross_entropy_with_shared_targets() -> None:
    student, prototypes = random(4, 3), random(3, 3, seed=1)
    rows, weight = torch.tensor([0, 2, 2, 1]), random(4, seed=2).abs()

    def chances(one: torch.Tensor) -> list[float]:
        powers = [math.exp(F.cosine_similarity(one, p, dim=0).item() / 0.3) for p in prototypes]
        return [power / sum(powers) for power in powers]

    total = sum(
        -w.item() * sum(t * math.log(s) for t, s in zip(chances(prototypes[row]), chances(one)))
        for one, row, w in zip(student, rows, weight)
    )
    found = prototype_loss(student, prototypes, rows, weight, 0.3)
    assert found.item() == pytest.approx(total / weight.sum().item())


def test_the_gradients_of_both_losses_are_right() -> None:
    first, second = random(4, 3).requires_grad_(), random(4, 3, seed=1).requires_grad_()
    alike, weight = random(4, seed=2).tanh(), random(4, seed=3).abs()
    prototypes, rows = random(3, 3, seed=4), torch.tensor([0, 2, 2, 1])
    assert torch.autograd.gradcheck(
        lambda a, b: affinity_loss(a, b, alike, weight, 0.5), (first, second)
    )
    assert torch.autograd.gradcheck(
        lambda a: prototype_loss(a, prototypes, rows, weight, 0.5), (first,)
    )


def test_the_gradient_reaches_the_encoder_and_the_head(model, visa) -> None:
    visa(model, context_of(model, [photo(0), photo(1)]))["loss_visa"].backward()
    for part in (model.image_encoder.stem, visa):
        gradients = [parameter.grad for parameter in part.parameters()]
        assert all(g is not None and g.isfinite().all() and g.abs().sum() > 0 for g in gradients)


def test_a_few_steps_teach_the_encoder_the_frozen_affinities(model, visa) -> None:
    batch = [photo(0), photo(1)]
    parameters = [*model.parameters(), *visa.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=3e-3)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = visa(model, context_of(model, batch))["loss_visa"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1


def test_a_photo_contributes_the_same_in_any_batch(model, visa) -> None:
    with torch.no_grad():
        alone = [visa(model, context_of(model, [photo(i)]))["loss_visa"] for i in range(2)]
        both = visa(model, context_of(model, [photo(1), photo(0)]))["loss_visa"]
    torch.testing.assert_close(both, sum(alone) / 2, rtol=1e-4, atol=1e-5)
    assert sum(alone) > 0


def test_padding_has_no_part_in_it(model, visa) -> None:
    context = context_of(model, [photo(1, size=(80, 70)), photo(0)])
    with torch.no_grad():
        expected = visa(model, context)
        context.features.embedding[0, :, 5:] = context.features.embedding[0, :, :, 4:] = 1e6
        assert visa(model, context) == expected


def test_photos_without_masks_give_a_zero_with_a_graph(model, visa) -> None:
    losses = visa(model, context_of(model, [without_masks(photo(0))]))
    losses["loss_visa"].backward()
    assert {name: value.item() for name, value in losses.items()} == {"loss_visa": 0.0}


def test_it_guides_models_whose_patches_are_mask_features() -> None:
    cfg = mask2former_cfg()
    cfg.OBJECTIVES.VISA.WEIGHT = cfg.OBJECTIVES.CONTRAST.WEIGHT = 1.0
    mask2former = tiny_mask2former(cfg)
    context = context_of(mask2former, [photo(0)])
    for objective in build_objectives(cfg, mask2former).values():
        (loss,) = objective(mask2former, context).values()
        (gradient,) = torch.autograd.grad(loss, context.features.mask_features, retain_graph=True)
        assert loss > 0
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize(
    ("key", "value"), [("TARGET", "edges"), ("TEMPERATURE", 0.0), ("NUM_PAIRS", 1)]
)
def test_values_out_of_range_are_refused(cfg, model, key, value) -> None:
    cfg.OBJECTIVES.VISA.WEIGHT = 1.0
    cfg.OBJECTIVES.VISA[key] = value
    with pytest.raises(ConfigError, match=rf"OBJECTIVES\.VISA.*{key}"):
        build_objectives(cfg, model)
