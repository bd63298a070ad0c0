"""A run that stops and resumes ends in exactly the state of one that never stopped."""

from __future__ import annotations

import json
import logging
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.tiny import Recorder, SignalAt, make_dataset, make_trainer, tiny_cfg
from unsam.checkpoint.checkpointer import load_checkpoint
from unsam.config import config_text
from unsam.engine.run_state import resume_newest
from unsam.engine.stop_signals import StoppedBySignalError
from unsam.errors import CheckpointError

# Five photos in batches of two: a pass ends in the middle of step 3 and at the end of step 5.
PHOTOS = [f"photo_{number}.png" for number in range(5)]
STEPS = 7


@pytest.fixture(scope="module")
def annotations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data"), PHOTOS)


@pytest.fixture(scope="module")
def uninterrupted(
    annotations: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, tuple[dict[str, Any], list[Any]]]:
    """Final checkpoint and the steps' numbers of straight runs, by accumulation."""
    runs = {}
    for accumulate in (1, 2):
        output = tmp_path_factory.mktemp("straight")
        recorder = Recorder()
        cfg = tiny_cfg(annotations, output, MAX_ITER=STEPS, ACCUMULATE=accumulate)
        trainer, checkpointer = make_trainer(cfg, recorder)
        trainer.train()
        runs[accumulate] = (load_checkpoint(checkpointer.paths()[-1]), recorder.steps)
    return runs


def same(first: Any, second: Any) -> bool:
    """Bitwise equality of nested containers of tensors and plain values."""
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("stop", [1, 2, 3, 5, 6])
def test_resumed_run_equals_uninterrupted_run(
    annotations: Path, uninterrupted: Any, tmp_path: Path, stop: int, accumulate: int, workers: int
) -> None:
    straight, straight_steps = uninterrupted[accumulate]
    cfg = tiny_cfg(annotations, tmp_path, MAX_ITER=STEPS, ACCUMULATE=accumulate)
    cfg.DATALOADER.NUM_WORKERS = workers
    recorder = Recorder()
    trainer, _ = make_trainer(cfg, recorder, SignalAt(stop))
    with pytest.raises(StoppedBySignalError) as caught:
        trainer.train()
    assert caught.value.exit_code == 143
    torch.rand(3)  # a new process would start from anywhere

    trainer, checkpointer = make_trainer(cfg, recorder)
    assert resume_newest(trainer, checkpointer, config_text(cfg))
    assert trainer.iteration == stop
    trainer.train()

    final = load_checkpoint(checkpointer.paths()[-1])
    for key in ("model", "optimizer", "sampler", "rng", "iteration"):
        assert same(final[key], straight[key]), key
    assert final["scheduler"]["iteration"] == STEPS
    assert recorder.steps == straight_steps
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    assert [line["iteration"] for line in lines] == list(range(1, STEPS + 1))


def test_crash_between_checkpoints_repeats_the_lost_steps(
    annotations: Path, uninterrupted: Any, tmp_path: Path
) -> None:
    cfg = tiny_cfg(annotations, tmp_path, MAX_ITER=STEPS)
    cfg.CHECKPOINT.PERIOD = 2

    class Crash(Recorder):
        def after_step(self, trainer: Any) -> None:
            if trainer.iteration == 5:
                raise KeyError("crash")

    trainer, _ = make_trainer(cfg, Crash())
    with pytest.raises(KeyError):
        trainer.train()
    trainer, checkpointer = make_trainer(cfg)
    resume_newest(trainer, checkpointer, config_text(cfg))
    assert trainer.iteration == 4
    trainer.train()
    assert same(load_checkpoint(checkpointer.paths()[-1])["model"], uninterrupted[1][0]["model"])
    lines = [json.loads(line)["iteration"] for line in (tmp_path / "metrics.jsonl").open()]
    assert lines == list(range(1, STEPS + 1))


def test_finished_run_has_nothing_left_and_a_longer_one_goes_on(
    annotations: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = tiny_cfg(annotations, tmp_path, MAX_ITER=2)
    make_trainer(cfg)[0].train()
    recorder = Recorder()
    trainer, checkpointer = make_trainer(cfg, recorder)
    resume_newest(trainer, checkpointer, config_text(cfg))
    trainer.train()
    assert recorder.steps == []

    cfg.SOLVER.MAX_ITER = 4
    cfg.SOLVER.BASE_LR = 0.5
    trainer, checkpointer = make_trainer(cfg, recorder)
    logging.getLogger("unsam").propagate = True
    with caplog.at_level(logging.WARNING, "unsam"):
        resume_newest(trainer, checkpointer, config_text(cfg))
    trainer.train()
    assert [step[0] for step in recorder.steps] == [3, 4]
    assert "SOLVER.BASE_LR 0.01 -> 0.5; SOLVER.MAX_ITER 2 -> 4" in caplog.text
    assert recorder.steps[0][2] > 0.1, "the new base rate holds"


def test_truncated_newest_checkpoint_falls_back_to_the_one_before(
    annotations: Path, uninterrupted: Any, tmp_path: Path
) -> None:
    cfg = tiny_cfg(annotations, tmp_path, MAX_ITER=STEPS)
    cfg.CHECKPOINT.PERIOD, cfg.CHECKPOINT.KEEP = 2, 0
    trainer, checkpointer = make_trainer(cfg)
    trainer.train()
    for path in checkpointer.paths()[-2:]:
        path.write_bytes(path.read_bytes()[:1000])
    trainer, checkpointer = make_trainer(cfg)
    resume_newest(trainer, checkpointer, config_text(cfg))
    assert trainer.iteration == 4
    trainer.train()
    assert same(load_checkpoint(checkpointer.paths()[-1])["model"], uninterrupted[1][0]["model"])


def test_another_architecture_is_refused(annotations: Path, tmp_path: Path) -> None:
    cfg = tiny_cfg(annotations, tmp_path, MAX_ITER=1)
    trainer, checkpointer = make_trainer(cfg)
    trainer.train()
    trainer, _ = make_trainer(cfg)
    trainer.model.head = torch.nn.Linear(8, 1)
    with pytest.raises(CheckpointError, match=r"0 missing, 0 left over, 1 of another shape"):
        resume_newest(trainer, checkpointer, config_text(cfg))


def test_ctrl_c_has_its_own_exit_code(annotations: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    cfg = tiny_cfg(annotations, tmp_path, MAX_ITER=5)
    trainer, checkpointer = make_trainer(cfg, SignalAt(2, signal.SIGINT))
    with pytest.raises(StoppedBySignalError, match="after iteration 2") as caught:
        trainer.train()
    assert caught.value.exit_code == 130
    assert checkpointer.paths()[-1].name == "iter_00000002.pt"
    assert signal.getsignal(signal.SIGINT) is before
