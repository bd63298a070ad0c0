from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional as F

from unsam.modeling.point_losses import (
    PointCriterion,
    hungarian,
    pairwise_mask_cost,
    point_bce,
    point_dice,
    sample_points,
    soft_dice,
    uncertain_points,
)


def _points(N: int, K: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    # Some beyond the borders, where there is nothing.
    return torch.rand(N, K, 2, generator=generator, dtype=torch.float64) * 1.2 - 0.1


def test_points_at_pixel_centres_read_the_pixels():
    maps = torch.arange(12.0).reshape(1, 1, 3, 4)
    y, x = torch.meshgrid(torch.arange(3), torch.arange(4), indexing="ij")
    centres = torch.stack(((x + 0.5) / 4, (y + 0.5) / 3), dim=-1).reshape(1, -1, 2)
    torch.testing.assert_close(sample_points(maps, centres), maps.flatten(1))


@pytest.mark.parametrize("channels", [1, 3])
def test_bool_maps_are_read_as_their_float_copies(channels):
    maps = torch.rand(2, channels, 7, 5, generator=torch.Generator().manual_seed(0)) > 0.5
    points = _points(2, 50)
    sampled = sample_points(maps, points)
    assert sampled.shape == ((2, 50) if channels == 1 else (2, channels, 50))
    torch.testing.assert_close(sampled, sample_points(maps.double(), points))


def test_a_linear_function_is_read_exactly_between_pixels():
    x = torch.linspace(0.5, 9.5, 10, dtype=torch.float64).expand(1, 1, 6, 10)
    points = 0.1 + 0.8 * torch.rand(1, 20, 2, dtype=torch.float64)
    torch.testing.assert_close(sample_points(x, points), points[..., 0] * 10)


def test_most_uncertain_points_lie_near_the_border_of_the_mask():
    torch.manual_seed(0)
    columns = torch.linspace(-8, 8, 64).expand(2, 64, 64)
    points = uncertain_points(columns, num_points=200, oversample=4.0, importance=0.75)
    assert points.shape == (2, 200, 2)
    assert ((points >= 0) & (points <= 1)).all()
    near = (points[..., 0] - 0.5).abs()
    # 150 of 800 random points, the nearest to the middle, lie in about 0.19 of the width; a little
    # more near the edges of the map, beyond which everything is zero.
    assert near[:, :150].mean() < 0.07
    assert near[:, :150].max() < 0.2
    assert near[:, 150:].max() > 0.35


def test_no_masks_give_no_points_and_no_loss():
    points = uncertain_points(torch.zeros(0, 8, 8), 10, 3.0, 0.75)
    assert points.shape == (0, 10, 2)
    logits = torch.zeros(0, 8, 8, requires_grad=True)
    sampled = sample_points(logits[:, None], points)
    loss = point_bce(sampled, sampled.detach(), 1.0) + point_dice(sampled, sampled.detach(), 1.0)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None


def test_pair_costs_are_the_losses_of_the_pairs():
    generator = torch.Generator().manual_seed(3)
    logits = 4 * torch.randn(5, 40, generator=generator, dtype=torch.float64)
    targets = torch.rand(3, 40, generator=generator, dtype=torch.float64)
    cost = pairwise_mask_cost(logits, targets, mask_weight=5.0, dice_weight=2.0)
    for query, mask in itertools.product(range(5), range(3)):
        pair = logits[query : query + 1], targets[mask : mask + 1], 1.0
        expected = 5 * point_bce(*pair) + 2 * point_dice(*pair)
        torch.testing.assert_close(cost[query, mask], expected)


def test_losses_equal_the_formulas():
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -3.0]])
    targets = torch.tensor([[1.0, 0.0, 0.25], [1.0, 1.0, 0.0]])
    p = logits.sigmoid()
    bce = F.binary_cross_entropy(p, targets, reduction="none").mean(1).sum() / 4
    dice = (1 - (2 * (p * targets).sum(1) + 1) / (p.sum(1) + targets.sum(1) + 1)).sum() / 4
    torch.testing.assert_close(point_bce(logits, targets, 4), bce)
    torch.testing.assert_close(point_dice(logits, targets, 4), dice)


def test_soft_dice_of_sure_masks_is_that_of_sets():
    targets = torch.tensor([[1.0, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
    logits = 100 * torch.tensor(
        [[1.0, 1, -1, -1], [-1, 1, 1, 1], [-1, -1, -1, -1], [-1, -1, -1, -1]]
    )
    expected = torch.tensor([1.0, (2 * 2 + 1) / (3 + 3 + 1), 1.0, 1 / 5])
    torch.testing.assert_close(soft_dice(logits, targets), expected)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4)])
def test_matching_is_the_best_of_all(shape):
    cost = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows, columns = hungarian(cost)
    wide = cost if shape[0] <= shape[1] else cost.T
    best = min(
        wide[torch.arange(len(wide)), torch.tensor(order)].sum().item()
        for order in itertools.permutations(range(wide.shape[1]), len(wide))
    )
    assert cost[rows, columns].sum().item() == pytest.approx(best)
    assert len(set(rows.tolist())) == len(set(columns.tolist())) == min(shape)


def test_matching_avoids_costs_that_are_no_numbers():
    cost = torch.tensor([[float("nan"), 1.0], [2.0, float("inf")]])
    rows, columns = hungarian(cost)
    assert rows.tolist() == [0, 1]
    assert columns.tolist() == [1, 0]


@pytest.mark.parametrize("wrong", [{"num_points": 0}, {"oversample": 0.5}, {"importance": 1.5}])
def test_points_that_cannot_be_drawn_are_refused(wrong):
    arguments = {
        "mask_weight": 1.0,
        "dice_weight": 1.0,
        "num_points": 8,
        "oversample": 3.0,
        "importance": 0.75,
    }
    assert PointCriterion(**arguments).loss_points(torch.zeros(2, 4, 4)).shape == (2, 8, 2)
    with pytest.raises(ValueError, match="NUM_POINTS and OVERSAMPLE of at least 1 and IMPORTANCE"):
        PointCriterion(**arguments | wrong)
