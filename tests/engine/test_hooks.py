"""Metrics, checkpoints and random generators around the steps."""

from __future__ import annotations

import json
import logging
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.engine.tiny import make_dataset, make_trainer, tiny_cfg
from unsam.checkpoint.atomic import StorageError
from unsam.engine import random_state
from unsam.engine.hooks import MetricsHook
from unsam.engine.writers import JsonlWriter


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    return make_dataset(tmp_path / "data", ["a.png", "b.png", "c.png"])


class Broken:
    def __init__(self) -> None:
        self.calls = 0

    def write(self, metrics: dict[str, Any]) -> None:
        self.calls += 1
        raise OSError("disk is gone")


class Kept:
    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def write(self, metrics: dict[str, Any]) -> None:
        self.records.append(metrics)


def test_broken_writer_is_switched_off_and_training_goes_on(
    annotations: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken, kept = Broken(), Kept()
    cfg = tiny_cfg(annotations, tmp_path / "run", MAX_ITER=4)
    trainer, _ = make_trainer(cfg, MetricsHook(2, lambda start: [broken, kept]))
    with caplog.at_level(logging.WARNING, "unsam"):
        trainer.train()
    assert broken.calls == 1
    assert "Broken is switched off: disk is gone" in caplog.text
    assert [record["iteration"] for record in kept.records] == [1, 2, 4]


def test_records_are_means_over_their_period(annotations: Path, tmp_path: Path) -> None:
    each, pairs = Kept(), Kept()
    cfg = tiny_cfg(annotations, tmp_path / "run", MAX_ITER=5)
    trainer, _ = make_trainer(
        cfg, MetricsHook(1, lambda start: [each]), MetricsHook(2, lambda start: [pairs])
    )
    trainer.train()
    losses = [record["loss"] for record in each.records]
    assert [record["iteration"] for record in pairs.records] == [1, 2, 4, 5]
    assert pairs.records[2]["loss"] == pytest.approx(np.mean(losses[2:4]))
    for record in each.records:
        assert record["loss"] == pytest.approx(record["loss_mask"] + record["loss_size"])
        assert record["samples"] == 2.0
        assert record["data_seconds"] <= record["step_seconds"]
    assert each.records[-1]["eta_seconds"] == 0.0


def test_jsonl_drops_the_steps_that_are_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = JsonlWriter(path)
    for iteration in (10, 20, 30):
        writer.write({"iteration": iteration})
    with path.open("a") as stream:
        stream.write('{"iteration": 4')
    JsonlWriter(path, 20).write({"iteration": 25})
    assert [json.loads(line)["iteration"] for line in path.open()] == [10, 20, 25]


def test_full_disk_during_a_checkpoint_ends_the_run_in_one_line(
    annotations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = tiny_cfg(annotations, tmp_path / "run", MAX_ITER=4)
    cfg.CHECKPOINT.PERIOD = 1
    trainer, checkpointer = make_trainer(cfg)
    real = checkpointer.save

    def save(state: dict[str, Any]) -> Path:
        if state["iteration"] == 3:
            raise StorageError("cannot write: No space left on device")
        return real(state)

    monkeypatch.setattr(checkpointer, "save", save)
    with pytest.raises(StorageError, match="No space left"):
        trainer.train()
    assert [path.name for path in checkpointer.paths()] == ["iter_00000001.pt", "iter_00000002.pt"]


def test_generators_are_captured_and_restored() -> None:
    def draw() -> tuple[Any, ...]:
        return random.random(), float(np.random.random()), float(torch.rand(()))  # noqa: NPY002

    cpu = torch.device("cpu")
    random_state.seed_everything(3)
    state = random_state.capture(cpu)
    first = draw()
    random_state.restore(state, cpu)
    assert draw() == first
    random_state.seed_everything(3, rank=1)
    other = draw()
    assert all(a != b for a, b in zip(first, other, strict=True))
    random_state.seed_everything(3)
    assert draw() == first


def test_bfloat16_trains(annotations: Path, tmp_path: Path) -> None:
    kept = Kept()
    cfg = tiny_cfg(annotations, tmp_path / "run", MAX_ITER=2, PRECISION="bfloat16")
    make_trainer(cfg, MetricsHook(1, lambda start: [kept]))[0].train()
    assert np.isfinite([record["loss"] for record in kept.records]).all()
