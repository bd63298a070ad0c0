from __future__ import annotations

import torch
from torch import Tensor

from unsam.modeling.interactive import TrainingClicks
from unsam.modeling.prompts import BOX_FIRST
from unsam.modeling.sample_random import SampleRandom
from unsam.modeling.semantic_sam.prompt_boxes import check_prompts, is_click
from unsam.modeling.semantic_sam.training_prompts import draw_prompts


def _stream() -> SampleRandom:
    return SampleRandom([int(torch.randint(2**31, ()))])


CLICKS = TrainingClicks(centre_probability=0.0, box_probability=0.0)


def nested_masks(count: int = 9) -> Tensor:
    masks = torch.zeros(count, 64, 96, dtype=torch.bool)
    for index in range(count):
        masks[index, : 6 + 6 * index, : 8 + 9 * index] = True
    return masks


def test_a_click_means_all_masks_that_contain_it_and_its_own() -> None:
    torch.manual_seed(0)
    masks = nested_masks(5)
    drawn = draw_prompts(masks, torch.ones(5), CLICKS, 60, 6, _stream())
    prompts, targets = drawn.prompts, drawn.targets
    check_prompts(prompts)
    assert len(prompts) == 5
    for row in range(5):
        x, y = prompts.points[row, 0].long().tolist()
        meant = {int(index) for index in masks[:, y, x].nonzero()[:, 0]}
        assert {int(index) for index in targets.index[row] if index >= 0} == meant
        assert row in meant


def test_of_too_many_masks_some_are_chosen_by_chance() -> None:
    torch.manual_seed(0)
    masks = nested_masks(9)
    chosen = set()
    for _ in range(20):
        targets = draw_prompts(masks, torch.ones(9), CLICKS, 60, 3, _stream()).targets
        assert targets.index.shape == (9, 3)
        assert all(len(set(row.tolist()) - {-1}) == (row >= 0).sum() for row in targets.index)
        # The finest mask's click lies in all masks.
        assert (targets.index[0] >= 0).all()
        chosen.add(tuple(sorted(targets.index[0].tolist())))
    assert len(chosen) > 3


def test_prompts_are_limited_and_drawn_anew() -> None:
    torch.manual_seed(0)
    masks = nested_masks(9)
    drawn = [draw_prompts(masks, torch.ones(9), CLICKS, 4, 6, _stream()).prompts for _ in range(2)]
    assert [len(prompts) for prompts in drawn] == [4, 4]
    assert not torch.equal(drawn[0].points, drawn[1].points)


def test_a_box_means_its_own_mask_alone() -> None:
    torch.manual_seed(0)
    boxes = TrainingClicks(centre_probability=0.0, box_probability=1.0)
    drawn = draw_prompts(nested_masks(4), torch.ones(4), boxes, 60, 6, _stream())
    prompts, targets = drawn.prompts, drawn.targets
    check_prompts(prompts)
    assert not is_click(prompts).any()
    assert (prompts.labels[:, 0] == BOX_FIRST).all()
    assert targets.index[:, 0].tolist() == [0, 1, 2, 3]
    assert (targets.index[:, 1:] == -1).all()
