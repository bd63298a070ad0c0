from __future__ import annotations

import pytest
import torch

from unsam.modeling.prompts import BOX_FIRST, BOX_LAST, NEGATIVE, PADDING, POSITIVE, Prompts
from unsam.modeling.semantic_sam.prompt_boxes import check_prompts, is_click, prompt_boxes


def make(points: list, labels: list) -> Prompts:
    return Prompts(
        torch.tensor(points, dtype=torch.float32),
        torch.tensor(labels),
        None,
        torch.zeros(len(labels), dtype=torch.int64),
    )


def test_a_click_is_a_small_box_in_shares_of_the_padded_input() -> None:
    prompts = make([[[48.0, 16.0]]], [[POSITIVE]])
    inside = torch.tensor([[0.75, 0.5]])
    found = prompt_boxes(prompts, inside, (64, 96), 0.005)
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.25, 0.00375, 0.0025]]))


def test_a_box_is_its_centre_and_size() -> None:
    prompts = make([[[24.0, 16.0], [72.0, 48.0]]], [[BOX_FIRST, BOX_LAST]])
    found = prompt_boxes(prompts, torch.ones(1, 2), (64, 96), 0.005)
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.5, 0.5, 0.5]]))
    assert not is_click(prompts)[0]


def test_padding_has_no_effect_on_either_side() -> None:
    alone = make([[[48.0, 16.0]]], [[POSITIVE]])
    after = make([[[48.0, 16.0], [7.0, 3.0]]], [[POSITIVE, PADDING]])
    before = make([[[9.0, 1.0], [48.0, 16.0]]], [[PADDING, POSITIVE]])
    for padded in (after, before):
        check_prompts(padded)
        torch.testing.assert_close(
            prompt_boxes(padded, torch.ones(1, 2), (64, 96), 0.005),
            prompt_boxes(alone, torch.ones(1, 2), (64, 96), 0.005),
        )


@pytest.mark.parametrize(
    "labels",
    [
        [POSITIVE, POSITIVE],
        [BOX_FIRST, PADDING],
        [BOX_LAST, BOX_LAST],
        [PADDING, PADDING],
        [BOX_FIRST, BOX_LAST, POSITIVE],
    ],
)
def test_anything_but_one_click_or_one_box_is_refused_in_one_line(labels: list[int]) -> None:
    prompts = make([[[1.0, 1.0]] * len(labels)], [labels])
    with pytest.raises(ValueError, match="takes one click or one box per prompt") as error:
        check_prompts(prompts)
    assert "\n" not in str(error.value)


def test_clicks_off_the_object_and_masks_are_refused() -> None:
    with pytest.raises(ValueError, match="no clicks off the object"):
        check_prompts(make([[[1.0, 1.0]]], [[NEGATIVE]]))
    prompts = make([[[1.0, 1.0]]], [[POSITIVE]])
    earlier = torch.zeros(1, 4, 4)
    with_mask = Prompts(prompts.points, prompts.labels, None, prompts.image_of_prompt, earlier)
    with pytest.raises(ValueError, match="no masks"):
        check_prompts(with_mask)


def test_one_wrong_prompt_among_many_is_counted() -> None:
    prompts = make([[[1.0, 1.0], [2.0, 2.0]]] * 3, [[1, -1], [1, 1], [2, 3]])
    with pytest.raises(ValueError, match=r"in 1 of 3 prompt\(s\)"):
        check_prompts(prompts)
