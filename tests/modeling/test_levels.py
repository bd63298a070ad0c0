"""Answers to one prompt lie between its finest and its coarsest, by the side of their area."""

from __future__ import annotations

import torch

from unsam.modeling.levels import granularity_of_answers


def _squares(*sides: int) -> torch.Tensor:
    logits = torch.full((len(sides), 30, 30), -1.0)
    for square, side in zip(logits, sides, strict=True):
        square[:side, :side] = 1
    return logits


def test_the_published_example() -> None:
    """Areas 25, 100, 400 and 900 are granularities 0.1, 0.28, 0.64 and 1."""
    both = torch.stack((_squares(5, 10, 20, 30), _squares(7, 7, 7, 7)))
    levels = granularity_of_answers(both)
    torch.testing.assert_close(levels[0], torch.tensor([0.1, 0.28, 0.64, 1.0]))
    assert levels[1].tolist() == [1, 1, 1, 1]


def test_single_and_empty_answers_are_wholes_and_no_prompt_is_no_answer() -> None:
    assert granularity_of_answers(_squares(4)[None]).tolist() == [[1.0]]
    assert granularity_of_answers(_squares(0, 0)[None]).tolist() == [[1.0, 1.0]]
    torch.testing.assert_close(granularity_of_answers(_squares(0, 9)[None])[0, 0].item(), 0.1)
    assert granularity_of_answers(torch.zeros(0, 3, 4, 4)).shape == (0, 3)
