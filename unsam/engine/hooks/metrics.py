"""The numbers of the steps."""

from __future__ import annotations

from typing import Any

import torch

from unsam.engine import distributed
from unsam.engine.hooks.metrics_log import MetricsLog
from unsam.engine.trainer import Hook, Trainer
from unsam.modeling.objectives import Objective

_GIB = 2**30


class MetricsHook(Hook):
    """Writes the means of each period, over its steps and all ranks.

    Names: ``iteration``, ``max_iter``, ``loss`` (sum of the ``loss_*``), every value that the
    model returned, ``weight_<objective>`` (now), ``lr``, ``grad_norm``, ``step_seconds``,
    ``data_seconds`` and ``data_share`` (of the step, waiting for samples), ``images_per_second``,
    ``gpu_memory_gib`` (the largest of any rank since the record before; on CUDA only), ``seconds``
    (training time so far), ``eta_seconds``.

    Args:
        period: steps between two records; the first and the last step are recorded too.
        log: what takes the records.
    """

    def __init__(self, period: int, log: MetricsLog) -> None:
        self._period = max(1, period)
        self._log = log
        self._first_iteration = 0
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def before_train(self, trainer: Trainer) -> None:
        """Note where the run starts."""
        self._first_iteration = trainer.iteration

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
        memory = _take_peak_memory(trainer.device)
        ranks = distributed.gather((self._sums, self._counts, memory))
        self._sums, self._counts = {}, {}
        names = dict.fromkeys(name for sums, _, _ in ranks for name in sums)
        means = {
            name: sum(sums.get(name, 0.0) for sums, _, _ in ranks)
            / sum(counts.get(name, 0) for _, counts, _ in ranks)
            for name in names
        }
        record = _record(trainer, means)
        if trainer.device.type == "cuda":
            record["gpu_memory_gib"] = max(peak for _, _, peak in ranks)
        self._log.write(record)


def _record(trainer: Trainer, means: dict[str, float]) -> dict[str, Any]:
    done = trainer.progress
    grad_norm, step_seconds, data_seconds = (
        means.pop(name) for name in ("grad_norm", "step_seconds", "data_seconds")
    )
    step_seconds = max(step_seconds, 1e-9)
    return {
        "iteration": trainer.iteration,
        "max_iter": trainer.max_iter,
        "loss": sum(value for name, value in means.items() if name.startswith("loss_")),
        **means,
        **_objective_weights(trainer),
        "lr": trainer.learning_rate,
        "grad_norm": grad_norm,
        "step_seconds": step_seconds,
        "data_seconds": data_seconds,
        "data_share": data_seconds / step_seconds,
        "images_per_second": trainer.batch_size / step_seconds,
        "seconds": trainer.seconds,
        "eta_seconds": trainer.seconds / done * (1.0 - done),
    }


def _objective_weights(trainer: Trainer) -> dict[str, float]:
    weights = {}
    for name, objective in trainer.training_model.objectives.items():
        assert isinstance(objective, Objective)
        weights[f"weight_{name.lower()}"] = objective.schedule(trainer.progress)
    return weights


def _take_peak_memory(device: torch.device) -> float:
    """Return the most GiB that tensors took since the last call, 0 where there is no GPU."""
    if device.type != "cuda":
        return 0.0
    peak = torch.cuda.max_memory_allocated(device) / _GIB
    torch.cuda.reset_peak_memory_stats(device)
    return peak
