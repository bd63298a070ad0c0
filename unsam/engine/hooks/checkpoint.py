"""Checkpoints during the run, the weights at its end."""

from __future__ import annotations

import logging
from pathlib import Path

from unsam.checkpoint.checkpointer import Checkpointer, save_weights
from unsam.engine import distributed
from unsam.engine.run_state import training_state
from unsam.engine.trainer import Hook, Trainer

logger = logging.getLogger(__name__)


class CheckpointHook(Hook):
    """Saves a checkpoint each period, at the end and on interruption; the weights at the end.

    Args:
        checkpointer: keeps the files.
        period: steps between two checkpoints; 0 saves only at the end.
        config: the merged config as YAML.
        weights_file: where the weights alone go at the end, as safetensors.
    """

    def __init__(
        self, checkpointer: Checkpointer, period: int, config: str, weights_file: Path
    ) -> None:
        self._checkpointer = checkpointer
        self._period = period
        self._config = config
        self._weights_file = weights_file
        self._saved = -1

    def before_train(self, trainer: Trainer) -> None:
        """Note where the run starts: that state is on disk already, or is none."""
        self._saved = trainer.iteration

    def after_step(self, trainer: Trainer) -> None:
        """Save when the period is full."""
        if self._period > 0 and trainer.iteration % self._period == 0:
            self._save(trainer)

    def on_interrupt(self, trainer: Trainer) -> None:
        """Save where the run stands."""
        self._save(trainer)

    def after_train(self, trainer: Trainer) -> None:
        """Save the last state, and the weights alone."""
        self._save(trainer)
        model = trainer.whole_model()
        with distributed.together():
            if distributed.is_main():
                save_weights(model, self._weights_file, self._config)
        logger.info("weights: %s", self._weights_file)

    def _save(self, trainer: Trainer) -> None:
        if trainer.iteration == self._saved:
            return
        state = training_state(trainer, self._config)
        with distributed.together():
            if distributed.is_main():
                logger.info("checkpoint: %s", self._checkpointer.save(state))
        self._saved = trainer.iteration
