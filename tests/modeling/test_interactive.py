from __future__ import annotations

import numpy as np
import pytest
import torch

from unsam.data.augmentation import draw_order
from unsam.modeling.interactive import (
    PromptKind,
    TrainingClicks,
    choose_masks,
    correction_clicks,
    first_prompts,
)
from unsam.modeling.prompts import BOX_FIRST, BOX_LAST, NEGATIVE, PADDING, POSITIVE
from unsam.modeling.sample_random import SampleRandom
from unsam.structures.granularity_bands import NUM_BANDS, granularity_bands

UNIFORM = torch.tensor([0.1, 0.5, 0.9])


def _draws(count: int) -> tuple[SampleRandom, list[int]]:
    return SampleRandom([int(torch.randint(2**31, ()))]), [count]


def _rectangles() -> tuple[torch.Tensor, torch.Tensor]:
    masks = torch.zeros(3, 32, 48, dtype=torch.bool)
    masks[0, 4:20, 8:40] = True
    masks[1, :, :8] = True
    masks[2, 31, 47] = True  # one pixel: too small for the coarse grid
    cells = torch.nn.functional.avg_pool2d(masks[:, None].float(), 4)[:, 0]
    return masks, cells


@pytest.mark.parametrize("centre", [0.0, 0.5, 1.0])
def test_first_clicks_lie_in_the_mask(centre):
    torch.manual_seed(0)
    masks, cells = _rectangles()
    for _ in range(20):
        points, labels, _ = first_prompts(masks, cells, 4, centre, 0.0, *_draws(3))
        assert labels.tolist() == [[POSITIVE, PADDING]] * 3
        column, row = points[:, 0].floor().long().unbind(1)
        assert masks[torch.arange(3), row, column].all()


def test_centre_clicks_keep_away_from_the_edge():
    torch.manual_seed(0)
    masks, cells = _rectangles()
    points, _, _ = first_prompts(masks, cells, 4, 1.0, 0.0, *_draws(3))
    x, y = points[0, 0].tolist()
    assert 8 <= y <= 16
    assert 12 <= x <= 36


def test_uniform_clicks_reach_every_pixel():
    torch.manual_seed(0)
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, 2:4, 5:8] = True
    many = mask.expand(600, -1, -1)
    points, _, _ = first_prompts(many, many.float(), 1, 0, 0, *_draws(600))
    hits = torch.zeros(8, 8)
    for x, y in points[:, 0].long().tolist():
        hits[y, x] += 1
    assert hits[~mask[0]].sum() == 0
    assert hits[mask[0]].min() > 50


def test_boxes_are_about_the_masks_extent():
    torch.manual_seed(0)
    masks, cells = _rectangles()
    points, labels, _ = first_prompts(masks[:1], cells[:1], 4, 0.0, 1.0, *_draws(1))
    assert labels.tolist() == [[BOX_FIRST, BOX_LAST]]
    size = torch.tensor([32.0, 16.0])
    error = (points[0] - torch.tensor([[8.0, 4.0], [40.0, 20.0]])).abs() / size
    assert error.max() <= 0.2 + 1e-6


def test_corrections_tell_missed_from_spilled():
    torch.manual_seed(0)
    masks, cells = _rectangles()
    inside = torch.ones_like(cells, dtype=torch.bool)
    missed, labels = correction_clicks(
        torch.full_like(cells, -1.0), cells, inside, 4, torch.rand(3)
    )
    assert labels[:2, 0].tolist() == [POSITIVE, POSITIVE]
    column, row = missed[:2, 0].floor().long().unbind(1)
    assert masks[torch.arange(2), row, column].all()
    spilled, labels = correction_clicks(
        torch.full_like(cells, 1.0), cells, inside, 4, torch.rand(3)
    )
    assert labels[:2, 0].tolist() == [NEGATIVE, NEGATIVE]
    column, row = spilled[:2, 0].floor().long().unbind(1)
    assert not masks[torch.arange(2), row, column].any()


def test_nothing_to_correct_is_padding_and_padding_is_never_clicked():
    _, cells = _rectangles()
    inside = torch.ones_like(cells, dtype=torch.bool)
    right = torch.where(cells > 0.5, 1.0, -1.0)
    assert correction_clicks(right, cells, inside, 4, UNIFORM)[1].tolist() == [[PADDING]] * 3
    inside[:, :, 3:] = False
    points, labels = correction_clicks(torch.full_like(cells, 1.0), cells, inside, 4, UNIFORM)
    assert (points[labels != PADDING][:, 0] < 12).all()


def test_draws_depend_on_the_samples_alone():
    masks, cells = _rectangles()
    drawn = [
        first_prompts(masks, cells, 4, 0.5, 0.5, SampleRandom([5, 6]), [2, 1]) for _ in range(2)
    ]
    for first, second in zip(*drawn, strict=True):
        assert torch.equal(first, second)
    alone, _, _ = first_prompts(masks[2:], cells[2:], 4, 0.5, 0.5, SampleRandom([6]), [1])
    assert torch.equal(alone[0], drawn[0][0][2])


def test_balanced_choice_prefers_rare_granularities():
    torch.manual_seed(0)
    granularity = torch.cat((torch.full((96,), 0.15), torch.tensor([0.45, 0.65, 0.85, 1.0])))
    rare = [(choose_masks(granularity, 8, "balanced") >= 96).sum().item() for _ in range(50)]
    uniform = [(choose_masks(granularity, 8, "uniform") >= 96).sum().item() for _ in range(50)]
    assert sum(rare) / 50 > 2.5
    assert sum(uniform) / 50 < 1.0
    chosen = choose_masks(granularity, 8, "balanced")
    assert chosen.unique().numel() == 8
    assert choose_masks(granularity[:5], 8, "uniform").tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("draw", ["clicks", "loader"])
def test_of_mostly_fine_masks_a_balanced_choice_is_even_over_the_bands(draw):
    generator = np.random.default_rng(0)
    fine = generator.uniform(0.1, 0.2, 1200)
    others = generator.uniform(0.2, 1.0, 800)
    granularity = np.concatenate((fine, others)).astype(np.float32)  # 60 % below 0.2, as published

    def shares(balanced):
        stream = torch.Generator().manual_seed(1)
        counts = np.zeros(NUM_BANDS)
        for _ in range(100):
            if draw == "clicks":
                sampling = "balanced" if balanced else "uniform"
                chosen = choose_masks(torch.from_numpy(granularity), 36, sampling, stream).numpy()
            else:
                chosen = draw_order(generator, granularity, balanced=balanced)[:36]
            counts += np.bincount(granularity_bands(granularity[chosen]), minlength=NUM_BANDS)
        return counts / counts.sum()

    np.testing.assert_allclose(shares(balanced=True), 1 / 9, atol=0.03)
    np.testing.assert_allclose(shares(balanced=False), [0.6, *[0.05] * 8], atol=0.04)


def test_weights_act_on_top_of_the_sampling():
    granularity = torch.tensor([0.15] * 60 + [0.95] * 40)
    weights = torch.where(granularity > 0.5, 3.0, 1.0)
    stream = torch.Generator().manual_seed(0)

    def coarse(sampling):
        chosen = [choose_masks(granularity, 1, sampling, stream, weights) for _ in range(400)]
        return (torch.cat(chosen) >= 60).float().mean().item()

    assert coarse("uniform") == pytest.approx(120 / 180, abs=0.07)
    assert coarse("balanced") == pytest.approx(3 / 4, abs=0.07)


def test_reweighted_chances_of_the_kinds_of_prompts():
    clicks = TrainingClicks(centre_probability=0.25, box_probability=0.2)
    assert clicks.reweighted(None) is clicks
    # Uniform, centre, box: 0.6, 0.2, 0.2 times the factors.
    other = clicks.reweighted(torch.tensor([1.0, 2.0, 5.0]))
    assert other.box_probability == pytest.approx(0.5)
    assert other.centre_probability == pytest.approx(0.4)
    for kind in ({"box_probability": 1.0}, {"box_probability": 0.0, "centre_probability": 1.0}):
        only = TrainingClicks(**kind)
        again = only.reweighted(torch.tensor([3.0, 1.0, 2.0]))
        assert again.box_probability == only.box_probability


def test_the_kind_of_each_prompt_is_told():
    masks, cells = _rectangles()
    for kind, centre, box in (
        (PromptKind.UNIFORM_CLICK, 0.0, 0.0),
        (PromptKind.CENTRE_CLICK, 1.0, 0.0),
        (PromptKind.BOX, 1.0, 1.0),
    ):
        _, _, kinds = first_prompts(masks[:2], cells[:2], 4, centre, box, *_draws(2))
        assert kinds.tolist() == [kind, kind]
    # A mask of less than half a cell has no centre on the coarse grid.
    _, _, kinds = first_prompts(masks[2:], cells[2:], 4, 1.0, 0.0, *_draws(1))
    assert kinds.tolist() == [PromptKind.UNIFORM_CLICK]


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="'uniform' or 'balanced', got 'fair'"):
        TrainingClicks(mask_sampling="fair")
    with pytest.raises(ValueError, match="at least 1"):
        TrainingClicks(rounds=0)
