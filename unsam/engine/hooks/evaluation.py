"""Evaluations during the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from unsam.engine.hooks.metrics_log import MetricsLog
from unsam.engine.hooks.model_in_use import model_in_use
from unsam.engine.trainer import Hook, Trainer
from unsam.modeling import SegmentationModel

Evaluate = Callable[[SegmentationModel], Mapping[str, Mapping[str, Mapping[str, float]]] | None]
"""Evaluates a model: dataset -> evaluator -> metric -> value, or None where nothing is to log."""


class EvaluationHook(Hook):
    """Evaluates each period; training goes on exactly as if it had not.

    The numbers are written as one record, ``eval/<dataset>/<metric>``.

    Args:
        period: steps between two evaluations.
        evaluate: does it with the model as it will be used, on every rank; an error of one must
            reach all.
        log: what takes the numbers.
    """

    def __init__(self, period: int, evaluate: Evaluate, log: MetricsLog) -> None:
        self._period = period
        self._evaluate = evaluate
        self._log = log

    def after_step(self, trainer: Trainer) -> None:
        """Evaluate when the period is full."""
        if trainer.iteration % self._period:
            return
        with model_in_use(trainer) as model:
            results = self._evaluate(model) or {}
        numbers = {
            f"eval/{dataset}/{metric}": value
            for dataset, evaluators in results.items()
            for metrics in evaluators.values()
            for metric, value in metrics.items()
        }
        if numbers:
            self._log.write({"iteration": trainer.iteration, **numbers})
