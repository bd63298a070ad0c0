"""What the tests of the objectives on two views share: a student, its teacher, a micro-batch."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from tests.modeling.conftest import make_sample
from unsam.modeling.objectives.second_view import SecondViewAugmentation
from unsam.modeling.promptable import PromptableModel
from unsam.modeling.prompts import Prompts
from unsam.modeling.sample_random import SampleRandom
from unsam.modeling.training_context import TrainingContext

UNCHANGED = SecondViewAugmentation((1.0, 1.0), 0.0, 0.0, 0.0, 0.0, 0.0)


def teacher_of(model: PromptableModel) -> PromptableModel:
    return copy.deepcopy(model).eval().requires_grad_(False)


def context_of(
    model: PromptableModel, teacher: PromptableModel, batch: Sequence[dict[str, Any]]
) -> TrainingContext:
    return TrainingContext(
        batch=batch,
        features=model.encode([sample["image"] for sample in batch]),
        num_masks=1.0,
        random=SampleRandom.from_batch(batch),
        teacher=teacher,
    )


def samples(*counts: int, seed: int = 0) -> list[dict[str, Any]]:
    return [
        make_sample(seed + index, num_masks=count) | {"seed": seed + index}
        for index, count in enumerate(counts)
    ]


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in model.state_dict().values()]


def learns(parameters: Sequence[nn.Parameter]) -> bool:
    return any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in parameters)


def answer_discs(model: PromptableModel, radius: float) -> None:
    """Make a model answer each prompt with a disc of some pixels around its first point."""

    def decode(features: Any, prompts: Prompts) -> tuple[torch.Tensor, torch.Tensor]:
        h, w = (4 * side for side in features.embedding.shape[-2:])
        y, x = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
        cells = model.mask_stride * torch.stack((x, y), -1)
        distance = (cells - prompts.points[:, 0, None, None]).norm(dim=-1)
        return radius - distance, torch.ones(len(prompts))

    model.decode = decode  # type: ignore[method-assign]
