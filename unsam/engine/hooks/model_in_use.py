"""Using the model in the middle of its training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from unsam.engine import random_state
from unsam.engine.trainer import Trainer
from unsam.modeling import SegmentationModel


@contextlib.contextmanager
def model_in_use(trainer: Trainer) -> Iterator[SegmentationModel]:
    """Give the model as it will be used, in evaluation mode; training goes on as if it had not.

    Every rank must enter, for the weights may have to be gathered.
    """
    state = random_state.capture(trainer.device)
    model = trainer.whole_model()
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield model.eval()
    finally:
        for module, training in modes:
            module.training = training
        random_state.restore(state, trainer.device)
