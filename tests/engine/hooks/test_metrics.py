"""The numbers of the steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.engine.hooks.kept import kept_log
from tests.engine.tiny import make_trainer, tiny_cfg
from unsam.engine.hooks import MetricsHook
from unsam.modeling.objectives import Objective, WeightSchedule


def test_records_are_means_over_their_period(annotations: Path, tmp_path: Path) -> None:
    (each, each_log), (pairs, pairs_log) = kept_log(), kept_log()
    cfg = tiny_cfg(annotations, tmp_path / "run", MAX_ITER=5)
    hooks = MetricsHook(1, each_log), each_log, MetricsHook(2, pairs_log), pairs_log
    trainer, _ = make_trainer(cfg, *hooks)
    trainer.train()
    losses = [record["loss"] for record in each.records]
    assert [record["iteration"] for record in pairs.records] == [1, 2, 4, 5]
    assert pairs.records[2]["loss"] == pytest.approx(np.mean(losses[2:4]))
    for record in each.records:
        assert record["loss"] == pytest.approx(record["loss_mask"] + record["loss_size"])
        assert record["samples"] == 2.0
        assert record["data_seconds"] <= record["step_seconds"]
        assert record["data_share"] * record["step_seconds"] == pytest.approx(
            record["data_seconds"]
        )
        assert record["images_per_second"] * record["step_seconds"] == pytest.approx(2.0)
        assert "gpu_memory_gib" not in record
    assert each.records[-1]["eta_seconds"] == 0.0


def test_weight_of_an_objective_follows_its_schedule(annotations: Path, tmp_path: Path) -> None:
    class Nothing(Objective):
        def forward(self, model: object, context: object) -> dict[str, torch.Tensor]:
            return {"loss_nothing": torch.zeros(())}

    kept, log = kept_log()
    cfg = tiny_cfg(annotations, tmp_path / "run", MAX_ITER=4)
    trainer, _ = make_trainer(cfg, MetricsHook(1, log), log)
    ramp = Nothing(schedule=WeightSchedule(2.0, "linear", 0.0, 1.0))
    trainer.training_model.objectives["NOTHING"] = ramp
    trainer.train()
    assert [record["weight_nothing"] for record in kept.records] == [0.5, 1.0, 1.5, 2.0]


def test_gpu_memory_is_the_peak_since_the_record_before(
    annotations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, log = kept_log()
    cfg = tiny_cfg(annotations, tmp_path / "run", MAX_ITER=2)
    hook = MetricsHook(1, log)
    trainer, _ = make_trainer(cfg, log)
    trainer.train()
    peaks, resets = iter([3 * 2**30, 2**30]), []
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: next(peaks))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", resets.append)
    trainer.device = torch.device("cuda")
    log.before_train(trainer)
    hook.after_step(trainer)
    hook.after_step(trainer)
    assert [record["gpu_memory_gib"] for record in kept.records] == [3.0, 1.0]
    assert len(resets) == 2
