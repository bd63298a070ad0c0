from __future__ import annotations

import pytest
import torch
from fvcore.common.config import CfgNode
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from unsam.config import get_cfg
from unsam.modeling.semantic_sam import PromptCriterion
from unsam.modeling.semantic_sam.criterion import PromptTargets, mask_boxes

FORBIDDEN = 1e6


def make_masks(count: int = 5, size: tuple[int, int] = (32, 48)) -> Tensor:
    masks = torch.zeros(count, *size, dtype=torch.bool)
    for index in range(count):
        masks[index, 2 * index : 12 + 4 * index, 3 * index : 20 + 5 * index] = True
    return masks


def make_targets() -> PromptTargets:
    masks = make_masks()
    index = torch.tensor([[0, 1, 2, -1], [3, -1, -1, -1], [4, 2, 0, 1]])
    return PromptTargets(masks, mask_boxes(masks), index)


def make_answers(prompts: int = 3, tokens: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(prompts, tokens, 8, 12, generator=generator, dtype=torch.float64)
    boxes = 0.2 + 0.4 * torch.rand(prompts, tokens, 4, generator=generator, dtype=torch.float64)
    return logits, boxes


def test_matching_per_prompt_is_the_matching_of_the_whole_matrix() -> None:
    criterion, targets = PromptCriterion(num_points=64), make_targets()
    logits, boxes = make_answers()
    torch.manual_seed(3)
    cost = criterion.cost(logits, boxes, targets)
    P, M, _ = cost.shape
    pairs = (targets.index >= 0).nonzero().tolist()
    whole = torch.full((P * M, len(pairs)), FORBIDDEN, dtype=torch.float64)
    for column, (prompt, target) in enumerate(pairs):
        whole[prompt * M : (prompt + 1) * M, column] = cost[prompt, :, target]
    rows, columns = linear_sum_assignment(whole.numpy())
    expected = {
        (int(row), int(targets.index[tuple(pairs[column])]))
        for row, column in zip(rows, columns, strict=True)
    }
    torch.manual_seed(3)
    answers, masks = criterion.match(logits, boxes, targets)
    assert set(zip(answers.tolist(), masks.tolist(), strict=True)) == expected
    assert len(answers) == len(pairs)


def test_a_photo_of_one_mask() -> None:
    every = make_targets()
    targets = PromptTargets(every.masks[:1], every.boxes[:1], torch.zeros(1, 1, dtype=torch.int64))
    logits, boxes = make_answers(prompts=1)
    criterion = PromptCriterion(num_points=64)
    answers, masks = criterion.match(logits, boxes, targets)
    assert answers.shape == (1,)
    assert masks.tolist() == [0]
    losses = criterion(logits[0, answers], torch.ones(1), boxes[0, answers], targets, masks, 1.0)
    assert all(value > 0 for value in losses.values())


def test_all_prompts_are_matched_in_one_transfer(monkeypatch: pytest.MonkeyPatch) -> None:
    transfers = []
    cpu = Tensor.cpu
    monkeypatch.setattr(Tensor, "cpu", lambda x: transfers.append(x.shape) or cpu(x))
    PromptCriterion(num_points=64).match(*make_answers(), make_targets())
    assert transfers == [(6 * (3 + 1 + 4),)]


def test_right_answers_are_found_in_any_order() -> None:
    criterion, targets = PromptCriterion(num_points=512), make_targets()
    small = torch.nn.functional.avg_pool2d(targets.masks[:, None].double(), 4)[:, 0]
    logits = torch.full((3, 6, 8, 12), -8.0, dtype=torch.float64)
    boxes = torch.full((3, 6, 4), 0.5, dtype=torch.float64)
    place = torch.tensor([5, 0, 3, 2])
    for prompt, index in enumerate(targets.index):
        for slot, mask in enumerate(index):
            if mask >= 0:
                logits[prompt, place[slot]] = 16 * small[mask] - 8
                boxes[prompt, place[slot]] = targets.boxes[mask]
    answers, masks = criterion.match(logits, boxes, targets)
    found = dict(zip(answers.tolist(), masks.tolist(), strict=True))
    assert found == {5: 0, 0: 1, 3: 2, 11: 3, 17: 4, 12: 2, 15: 0, 14: 1}


def test_cost_is_the_weighted_sum_of_its_terms() -> None:
    targets = make_targets()
    logits, boxes = make_answers()
    names = ("mask_weight", "dice_weight", "box_weight", "giou_weight")
    parts = []
    for chosen in names:
        torch.manual_seed(5)
        weights = {name: float(name == chosen) for name in names}
        parts.append(PromptCriterion(num_points=64, **weights).cost(logits, boxes, targets))
    torch.manual_seed(5)
    total = PromptCriterion(num_points=64).cost(logits, boxes, targets)
    torch.testing.assert_close(total, 5 * parts[0] + 5 * parts[1] + 5 * parts[2] + 2 * parts[3])
    near = (boxes[0, 1] - targets.boxes[2].double()).abs().sum()
    torch.testing.assert_close(parts[2][0, 1, 2], near)


def test_perfect_answers_cost_next_to_nothing() -> None:
    criterion, targets = PromptCriterion(num_points=256), make_targets()
    rows = torch.tensor([0, 3, 4])
    logits = 40.0 * targets.masks[rows].double() - 20.0
    quality = torch.ones(3, dtype=torch.float64)
    losses = criterion(logits, quality, targets.boxes[rows].double(), targets, rows, 3.0)
    # At the rim of a mask logits and truth are interpolated, so the masks cost a little.
    limits = {"loss_mask": 3.0, "loss_dice": 0.5, "loss_box": 1e-6, "loss_giou": 1e-5}
    for name, limit in limits.items():
        assert losses[name] < limit, name
    assert losses["loss_quality"] < 1e-2
    wrong = criterion(-logits, quality, 1 - targets.boxes[rows].double(), targets, rows, 3.0)
    assert all(wrong[name] > 3 * losses[name] for name in losses)


def test_quality_learns_one_minus_the_dice_loss_and_leaves_the_mask_alone() -> None:
    criterion = PromptCriterion(num_points=64)
    targets, rows = make_targets(), torch.tensor([2])
    logits = make_answers()[0][0, :1].requires_grad_()
    quality = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    losses = criterion(logits, quality, targets.boxes[rows].double(), targets, rows, 1.0)
    gradients = torch.autograd.grad(losses["loss_quality"], (logits, quality), allow_unused=True)
    assert gradients[0] is None
    aim = 0.3 - gradients[1].item() / 2
    assert (0.3 - aim) ** 2 == pytest.approx(losses["loss_quality"].item())
    assert aim == pytest.approx(1 - losses["loss_dice"].item() / 5)


def test_losses_are_divided_by_the_number_of_masks() -> None:
    targets, rows = make_targets(), torch.tensor([1, 2])
    logits, boxes = make_answers()
    arguments = (logits[0, :2], torch.zeros(2).double(), boxes[0, :2], targets, rows)
    criterion = PromptCriterion(num_points=64)
    torch.manual_seed(0)
    one = criterion(*arguments, 1.0)
    torch.manual_seed(0)
    four = criterion(*arguments, 4.0)
    for name in one:
        torch.testing.assert_close(one[name], 4 * four[name])


def test_mask_boxes_are_the_outer_edges_of_the_pixels() -> None:
    masks = torch.zeros(2, 10, 20, dtype=torch.bool)
    masks[0, 2:7, 5:15] = True
    masks[1, 9, 19] = True
    expected = torch.tensor([[0.5, 0.45, 0.5, 0.5], [0.975, 0.95, 0.05, 0.1]])
    torch.testing.assert_close(mask_boxes(masks), expected)


def test_config_gives_the_published_weights() -> None:
    cfg: CfgNode = get_cfg()
    made = PromptCriterion(**PromptCriterion.from_config(cfg))
    assert (
        vars(made).items()
        >= {
            "mask_weight": 5.0,
            "dice_weight": 5.0,
            "box_weight": 5.0,
            "giou_weight": 2.0,
            "quality_weight": 1.0,
            "num_points": 12544,
        }.items()
    )
