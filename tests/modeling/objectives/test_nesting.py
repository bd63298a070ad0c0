from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.modeling.mask2former.conftest import tiny_cfg as mask2former_cfg
from tests.modeling.mask2former.conftest import tiny_mask2former
from tests.modeling.objectives.photos import context_of, photo, without_masks
from unsam.errors import ConfigError
from unsam.modeling.objectives import WeightSchedule, build_objectives
from unsam.modeling.objectives.nesting import (
    Nesting,
    granularity_pairs,
    nesting_penalty,
    nesting_violation,
)


@pytest.fixture
def nesting(cfg, model) -> Nesting:
    # Without the dropout of the granularity's token.
    model.eval()
    cfg.OBJECTIVES.NESTING.WEIGHT = 1.0
    objective = build_objectives(cfg, model)["NESTING"]
    assert isinstance(objective, Nesting)
    return objective


def test_the_penalty_is_the_share_of_the_finer_probability_above_the_coarser() -> None:
    fine = torch.tensor([[[0.5, 1.0], [0.0, 0.5]], [[0.2, 0.4], [0.0, 0.0]]])
    coarse = torch.tensor([[[0.25, 0.5], [1.0, 0.75]], [[0.2, 0.9], [0.1, 0.0]]])
    assert nesting_penalty(fine, coarse).tolist() == pytest.approx([0.75 / 2.0, 0.0])


def test_the_gradient_moves_only_what_lies_outside_and_both_masks_of_it() -> None:
    fine = torch.tensor([[[0.9, 0.8]]], requires_grad=True)
    coarse = torch.tensor([[[0.1, 0.95]]], requires_grad=True)
    nesting_penalty(fine, coarse).sum().backward()
    assert fine.grad is not None
    assert coarse.grad is not None
    torch.testing.assert_close(fine.grad, torch.tensor([[[1 / 1.7, 0.0]]]))
    torch.testing.assert_close(coarse.grad, -fine.grad)


def test_an_empty_finer_mask_costs_nothing() -> None:
    empty = torch.zeros(1, 2, 2)
    assert nesting_penalty(empty, empty).tolist() == [0.0]
    assert nesting_violation(empty.bool(), empty.bool()).tolist() == [0.0]


def test_the_metric_is_the_share_of_the_area_outside() -> None:
    fine = torch.tensor([[[True, True], [True, True]], [[True, False], [False, False]]])
    coarse = torch.tensor([[[True, False], [True, True]], [[True, True], [False, False]]])
    assert nesting_violation(fine, coarse).tolist() == [0.25, 0.0]


@pytest.mark.parametrize("step", [0.2, 0.9])
def test_granularities_differ_by_the_step_at_least_and_stay_in_their_range(step) -> None:
    first, second = torch.rand(2, 1000, generator=torch.Generator().manual_seed(0))
    fine, coarse = granularity_pairs(first, second, step)
    assert fine.min() >= 0.1
    assert coarse.max() <= 1.0 + 1e-6
    assert (coarse - fine).min() >= step - 1e-6


def test_the_gradient_reaches_the_encoder_and_the_metric_has_none(model, nesting) -> None:
    losses = nesting(model, context_of(model, [photo(0), without_masks(photo(1))]))
    losses["loss_nesting"].backward()
    assert set(losses) == {"loss_nesting", "nesting_violation"}
    assert not losses["nesting_violation"].requires_grad
    gradients = [parameter.grad for parameter in model.image_encoder.stem.parameters()]
    assert all(g is not None and g.isfinite().all() and g.abs().sum() > 0 for g in gradients)


def test_a_model_that_answers_alike_at_all_granularities_is_nested(model, nesting) -> None:
    context = context_of(model, [photo(0)])
    decode = model.decode

    def answer_at_half(features, prompts):
        same = torch.full_like(prompts.granularity, 0.5)
        return decode(features, dataclasses.replace(prompts, granularity=same))

    model.decode = answer_at_half
    losses = nesting(model, context)
    assert [value.item() for value in losses.values()] == [0.0, 0.0]


def test_a_photo_contributes_the_same_in_any_batch(model, nesting) -> None:
    with torch.no_grad():
        first, second = (nesting(model, context_of(model, [photo(i)])) for i in range(2))
        both = nesting(model, context_of(model, [photo(1), photo(0)]))
    for name, value in both.items():
        torch.testing.assert_close(value, (first[name] + second[name]) / 2, rtol=1e-4, atol=1e-5)


def test_models_without_prompts_at_a_granularity_are_refused() -> None:
    cfg = mask2former_cfg()
    cfg.OBJECTIVES.NESTING.WEIGHT = 1.0
    with pytest.raises(ConfigError, match=r"NESTING.*Mask2Former does not answer clicks"):
        build_objectives(cfg, tiny_mask2former(cfg))


@pytest.mark.parametrize(("clicks", "step"), [(0, 0.2), (4, 0.0), (4, 0.95)])
def test_values_out_of_range_are_refused(clicks, step) -> None:
    with pytest.raises(ValueError, match="MIN_STEP"):
        Nesting(schedule=WeightSchedule(1.0), clicks_per_image=clicks, min_step=step)
