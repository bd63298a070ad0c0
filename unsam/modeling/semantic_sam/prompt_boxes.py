"""Clicks and boxes as what SemanticSam reads: a box and a kind for each prompt."""

from __future__ import annotations

import torch
from torch import Tensor

from unsam.modeling.prompts import BOX_FIRST, BOX_LAST, NEGATIVE, POSITIVE, Prompts

BOX_KIND = 0
"""Row of the prompt kind embedding for boxes."""


def check_prompts(prompts: Prompts) -> None:
    """Refuse what is not one click or one box per prompt; padding does not count.

    Raises:
        ValueError: several clicks, a click with a box, half a box, a click off the object, a mask.
    """
    labels = prompts.labels
    if prompts.mask_logits is not None:
        raise ValueError("SemanticSam takes points and boxes, no masks; leave the mask out")
    # A compiled model cannot look at values.
    if torch.compiler.is_compiling():
        return
    if bool((labels == NEGATIVE).any()):
        raise ValueError(
            "SemanticSam takes no clicks off the object; leave them out and choose another answer"
        )
    clicks, first, last = ((labels == kind).sum(1) for kind in (POSITIVE, BOX_FIRST, BOX_LAST))
    single = (clicks == 1) & (first == 0) & (last == 0)
    boxed = (clicks == 0) & (first == 1) & (last == 1)
    wrong = int((~(single | boxed)).sum())
    if wrong:
        raise ValueError(
            f"SemanticSam takes one click or one box per prompt, got something else in {wrong} of "
            f"{len(labels)} prompt(s); ask about each click in a prompt of its own"
        )


def prompt_boxes(
    prompts: Prompts, inside: Tensor, padded_size: tuple[int, int], click_size: float
) -> Tensor:
    """Return prompts as boxes: a click becomes a small box around it.

    Args:
        prompts: P, checked by `check_prompts`.
        inside: float ``[P, 2]``, the share of the padded input's width and height that the photo
            of each prompt covers.
        padded_size: ``(h, w)`` of the padded input.
        click_size: width and height of a click's box, as a share of the photo's.

    Returns:
        ``[P, 4]`` in the type of `inside`: centre x, centre y, width, height as fractions of the
        padded input.
    """
    height, width = padded_size
    points = prompts.points.to(inside.dtype) / inside.new_tensor((width, height))
    click, first, last = (
        (points * (prompts.labels == kind)[..., None]).sum(1)
        for kind in (POSITIVE, BOX_FIRST, BOX_LAST)
    )
    clicks = torch.cat((click, click_size * inside), dim=1)
    boxes = torch.cat(((first + last) / 2, last - first), dim=1)
    return torch.where(is_click(prompts)[:, None], clicks, boxes)


def is_click(prompts: Prompts) -> Tensor:
    """Return which prompts are clicks, not boxes, bool ``[P]``."""
    return (prompts.labels == POSITIVE).any(1)
