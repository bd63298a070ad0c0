"""What happens around the steps: metrics, checkpoints, evaluation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from unsam.checkpoint.checkpointer import Checkpointer, save_weights
from unsam.engine import distributed, random_state
from unsam.engine.run_state import training_state
from unsam.engine.trainer import Hook, Trainer
from unsam.engine.writers import MetricsWriter

logger = logging.getLogger(__name__)


class MetricsHook(Hook):
    """Hands the means of each period, over its steps and all ranks, to the writers.

    Names: ``iteration``, ``max_iter``, ``loss`` (sum of the ``loss_*``), every value that the
    model returned, ``lr``, ``grad_norm``, ``step_seconds``, ``data_seconds``,
    ``images_per_second``, ``seconds`` (training time so far), ``eta_seconds``.

    Args:
        period: steps between two records; the first and the last step are recorded too.
        make_writers: gives the main rank's writers once the run's first step is known.
    """

    def __init__(self, period: int, make_writers: Callable[[int], Sequence[MetricsWriter]]) -> None:
        self._period = max(1, period)
        self._make_writers = make_writers
        self._writers: list[MetricsWriter] = []
        self._first_iteration = 0
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def before_train(self, trainer: Trainer) -> None:
        """Open the writers."""
        self._first_iteration = trainer.iteration
        with distributed.together():
            if distributed.is_main():
                self._writers = list(self._make_writers(trainer.iteration))

    def after_step(self, trainer: Trainer) -> None:
        """Add the step; write when the period is full."""
        self._add(trainer.losses)
        self._add(
            {
                "grad_norm": trainer.gradient_norm,
                "step_seconds": trainer.step_seconds,
                "data_seconds": trainer.data_seconds,
            }
        )
        first = trainer.iteration == self._first_iteration + 1
        if first or trainer.iteration % self._period == 0 or trainer.progress >= 1.0:
            self._write(trainer)

    def _add(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1

    def _write(self, trainer: Trainer) -> None:
        everyone = distributed.gather((self._sums, self._counts))
        self._sums, self._counts = {}, {}
        if not distributed.is_main():
            return
        names = dict.fromkeys(name for sums, _ in everyone for name in sums)
        means = {
            name: sum(sums.get(name, 0.0) for sums, _ in everyone)
            / sum(counts.get(name, 0) for _, counts in everyone)
            for name in names
        }
        metrics = self._record(trainer, means)
        for writer in list(self._writers):
            try:
                writer.write(metrics)
            except Exception as error:
                # Days of training must not end because a log could not be written.
                logger.warning("%s is switched off: %s", type(writer).__name__, error)
                self._writers.remove(writer)

    def _record(self, trainer: Trainer, means: dict[str, float]) -> dict[str, Any]:
        done = trainer.progress
        model_values = {
            name: value
            for name, value in means.items()
            if name not in ("grad_norm", "step_seconds", "data_seconds")
        }
        total = sum(value for name, value in model_values.items() if name.startswith("loss_"))
        return {
            "iteration": trainer.iteration,
            "max_iter": trainer.max_iter,
            "loss": total,
            **model_values,
            "lr": trainer.learning_rate,
            "grad_norm": means["grad_norm"],
            "step_seconds": means["step_seconds"],
            "data_seconds": means["data_seconds"],
            "images_per_second": trainer.batch_size / max(means["step_seconds"], 1e-9),
            "seconds": trainer.seconds,
            "eta_seconds": trainer.seconds / done * (1.0 - done),
        }


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
        with distributed.together():
            if distributed.is_main():
                averaged = trainer.average
                model = trainer.model if averaged is None else averaged.model
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


class EvaluationHook(Hook):
    """Evaluates each period; training goes on exactly as if it had not.

    Args:
        period: steps between two evaluations.
        evaluate: does it, on every rank; an error of one must reach all.
    """

    def __init__(self, period: int, evaluate: Callable[[], Any]) -> None:
        self._period = period
        self._evaluate = evaluate

    def after_step(self, trainer: Trainer) -> None:
        """Evaluate when the period is full."""
        if trainer.iteration % self._period:
            return
        state = random_state.capture(trainer.device)
        trainer.model.eval()
        try:
            self._evaluate()
        finally:
            trainer.model.train()
            random_state.restore(state, trainer.device)
