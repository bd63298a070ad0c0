"""Writers that fail: the run does without them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from tests.engine.hooks.kept import Kept
from tests.engine.tiny import SignalAt, make_trainer, tiny_cfg
from unsam.engine.hooks import CheckpointHook, MetricsHook, MetricsLog
from unsam.engine.stop_signals import StoppedBySignalError
from unsam.engine.writers import MetricsWriter


class Broken(MetricsWriter):
    def __init__(self, where: str) -> None:
        self.where, self.calls = where, 0

    def write(self, record: dict[str, Any]) -> None:
        self._fail_at("write")

    def close(self) -> None:
        self._fail_at("close")

    def _fail_at(self, place: str) -> None:
        if place == self.where:
            self.calls += 1
            raise OSError("disk is gone")


def cannot_open(start: int) -> MetricsWriter:
    raise ImportError("half installed")


def test_broken_writer_is_switched_off_and_training_goes_on(
    annotations: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mute, stuck, kept = Broken("write"), Broken("close"), Kept()
    log = MetricsLog(
        {
            "closed": cannot_open,
            "mute": lambda start: mute,
            "stuck": lambda start: stuck,
            "kept": lambda start: kept,
        }
    )
    cfg = tiny_cfg(annotations, tmp_path / "run", MAX_ITER=4)
    trainer, _ = make_trainer(cfg, MetricsHook(2, log), log)
    with caplog.at_level(logging.WARNING, "unsam"):
        trainer.train()
    assert mute.calls == stuck.calls == kept.closed == 1
    assert "the writer closed is switched off: half installed" in caplog.text
    assert "Broken is switched off: disk is gone" in caplog.text
    assert "Broken was not closed: disk is gone" in caplog.text
    assert [record["iteration"] for record in kept.records] == [1, 2, 4]


def test_writers_are_closed_after_the_last_checkpoint(annotations: Path, tmp_path: Path) -> None:
    seen: list[list[str]] = []

    class Slow(Kept):
        def close(self) -> None:
            seen.append([path.name for path in checkpointer.paths()])

    log = MetricsLog({"slow": lambda start: Slow()})
    cfg = tiny_cfg(annotations, tmp_path / "run", MAX_ITER=4)
    trainer, checkpointer = make_trainer(cfg, SignalAt(3), log)
    assert [type(hook) for hook in trainer.hooks[:2]] == [MetricsHook, CheckpointHook]
    with pytest.raises(StoppedBySignalError):
        trainer.train()
    assert seen == [["iter_00000003.pt"]]
    assert isinstance(trainer.hooks[2], MetricsLog)
