"""A moving average of the weights: steadier than the model, and the teacher of some objectives."""

from __future__ import annotations

import copy
from typing import Any

import torch

from unsam.engine.parallel import whole
from unsam.modeling import SegmentationModel


class WeightAverage:
    """Exponential moving average of a model's weights and buffers (Tarvainen and Valpola 2017).

    The decay rises with the steps, ``min(decay, (1 + n) / (10 + n))``, so that the average leaves
    the random start behind quickly.

    Args:
        model: what is averaged, not wrapped; copied here.
        decay: share of the average that a step keeps, in (0, 1).

    Attributes:
        model: the averaged model, in evaluation mode, without gradients.
    """

    def __init__(self, model: SegmentationModel, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, model: SegmentationModel, iteration: int) -> None:
        """Move towards `model` after the step that made the count of steps `iteration`."""
        decay = min(self._decay, (1 + iteration) / (10 + iteration))
        own, new = self.model.state_dict(), whole(model.state_dict())
        averaged = [name for name, tensor in own.items() if tensor.is_floating_point()]
        torch._foreach_lerp_(
            [own[name] for name in averaged], [new[name] for name in averaged], 1.0 - decay
        )
        for name in own.keys() - set(averaged):
            own[name].copy_(new[name])

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights by name."""
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take averaged weights that `state_dict` returned."""
        self.model.load_state_dict(state)
