from __future__ import annotations

import itertools

import pytest
import torch

from unsam.modeling.losses import (
    bce_loss,
    box_l1_loss,
    dice_loss,
    giou_loss,
    hungarian,
    pairwise_box_cost,
    pairwise_mask_cost,
)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def test_mask_costs_are_the_losses_of_the_pairs() -> None:
    logits, targets = 8 * random(5, 40) - 4, random(3, 40, seed=1)
    cost = pairwise_mask_cost(logits, targets, mask_weight=5.0, dice_weight=2.0)
    for query, mask in itertools.product(range(5), range(3)):
        pair = logits[[query]], targets[[mask]]
        expected = 5 * bce_loss(*pair) + 2 * dice_loss(*pair)
        torch.testing.assert_close(cost[query, mask], expected[0])


def test_box_costs_are_the_losses_of_the_pairs_up_to_a_constant() -> None:
    boxes, targets = 0.2 + 0.3 * random(4, 4), 0.2 + 0.3 * random(3, 4, seed=1)
    cost = pairwise_box_cost(boxes, targets, l1_weight=5.0, giou_weight=2.0)
    for row, column in itertools.product(range(4), range(3)):
        pair = boxes[[row]], targets[[column]]
        expected = 5 * box_l1_loss(*pair) + 2 * (giou_loss(*pair) - 1)
        # The loss divides by a little more than the union.
        torch.testing.assert_close(cost[row, column], expected[0], atol=1e-5, rtol=0)


def test_autocast_does_not_round_the_costs() -> None:
    logits, targets = 8 * random(5, 400).float() - 4, random(3, 400, seed=1).float()
    exact = pairwise_mask_cost(logits, targets, 5.0, 2.0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(pairwise_mask_cost(logits, targets, 5.0, 2.0), exact)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4)])
def test_matching_is_the_best_of_all(shape: tuple[int, int]) -> None:
    cost = random(*shape)
    [(rows, columns)] = hungarian([cost])
    wide = cost if shape[0] <= shape[1] else cost.T
    best = min(
        wide[torch.arange(len(wide)), torch.tensor(order)].sum().item()
        for order in itertools.permutations(range(wide.shape[1]), len(wide))
    )
    assert cost[rows, columns].sum().item() == pytest.approx(best)
    assert len(set(rows.tolist())) == len(set(columns.tolist())) == min(shape)


def test_many_blocks_are_matched_as_each_alone() -> None:
    costs = [random(*shape, seed=sum(shape)) for shape in ((6, 3), (6, 0), (2, 4), (1, 1))]
    together = hungarian(costs)
    for cost, pair in zip(costs, together, strict=True):
        [alone] = hungarian([cost])
        assert all(torch.equal(a, b) for a, b in zip(pair, alone, strict=True))
        assert pair[0].dtype == torch.int64
    assert hungarian([]) == []


def test_blocks_cross_to_the_cpu_together(monkeypatch: pytest.MonkeyPatch) -> None:
    transfers = []
    cpu = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda x: transfers.append(x.shape) or cpu(x))
    hungarian([random(6, 3), random(5, 2)])
    assert transfers == [(28,)]


def test_matching_avoids_costs_that_are_no_numbers() -> None:
    cost = torch.tensor([[float("nan"), 1.0], [2.0, float("inf")]])
    [(rows, columns)] = hungarian([cost])
    assert rows.tolist() == [0, 1]
    assert columns.tolist() == [1, 0]
