"""Killed at any moment and resumed each time, a run ends as if nothing had happened."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.engine.equality import same
from tests.engine.tiny import Recorder, make_dataset, make_trainer, tiny_cfg
from unsam.checkpoint.checkpointer import load_checkpoint
from unsam.cli import run_reporting_errors
from unsam.config import config_text
from unsam.engine.run_state import resume_newest
from unsam.engine.train import launch_training
from unsam.errors import TrainingError

STEPS = 40
KILLS = 15
KEEP = 2

# Children are forked, not started, and after a first run, so that a kill costs no import.
KILL_LOOP = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from tests.engine.test_kill import KILLS, run_cfg
from unsam.engine.train import launch_training

def newest(folder):
    return max((path.name for path in folder.glob("iter_*.pt")), default="")

torch.set_num_threads(1)
annotations, output = Path(sys.argv[1]), Path(sys.argv[2])
cfg = run_cfg(annotations, output.with_name("first"))
cfg.SOLVER.MAX_ITER = 1
launch_training(cfg)
cfg = run_cfg(annotations, output)
generator = random.Random(5)
for kill in range(KILLS):
    before = newest(output / "checkpoints")
    child = os.fork()
    if child == 0:
        launch_training(cfg, resume=True)
        os._exit(0)
    # Some die while they start, the others at any moment of stepping and saving.
    while kill % 5 and newest(output / "checkpoints") == before:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            break
        time.sleep(0.002)
    time.sleep(generator.uniform(0.0, 0.04))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
launch_training(cfg, resume=True)
"""


def run_cfg(annotations: Path, output: Path) -> Any:
    cfg = tiny_cfg(annotations, output, MAX_ITER=STEPS)
    cfg.CHECKPOINT.PERIOD, cfg.CHECKPOINT.KEEP, cfg.SOLVER.EMA.DECAY = 1, KEEP, 0.9
    return cfg


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    return make_dataset(tmp_path / "data", [f"photo_{number}.png" for number in range(5)])


@pytest.mark.slow
def test_run_that_is_killed_again_and_again(
    annotations: Path, tmp_path: Path, repository: Path
) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    result = subprocess.run(
        [sys.executable, "-c", KILL_LOOP, str(annotations), str(killed)],
        cwd=repository,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("resumed from") > KILLS // 2, "few kills fell into the run"
    cfg = run_cfg(annotations, straight)
    cfg.CHECKPOINT.PERIOD = 0
    launch_training(cfg)
    name = f"checkpoints/iter_{STEPS:08d}.pt"
    first, second = load_checkpoint(straight / name), load_checkpoint(killed / name)
    for key in first.keys() - {"config", "scheduler"}:
        assert same(first[key], second[key]), key
    # Neither checkpoints nor what the kills left behind pile up.
    assert sorted(os.listdir(killed)) == sorted(os.listdir(straight))
    assert len(os.listdir(killed / "checkpoints")) == KEEP


class KillLoader(Recorder):
    """Kills a process that makes samples, after a step."""

    def after_step(self, trainer: Any) -> None:
        super().after_step(trainer)
        if trainer.iteration == 3:
            os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)


def test_killed_loading_process_ends_the_run_in_one_line_and_resume_goes_on(
    annotations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = tiny_cfg(annotations, tmp_path / "run", MAX_ITER=200)
    cfg.DATALOADER.NUM_WORKERS, cfg.CHECKPOINT.PERIOD = 2, 2
    trainer, checkpointer = make_trainer(cfg, KillLoader())

    def command() -> int:
        trainer.train()
        return 0

    assert run_reporting_errors(command) == TrainingError.exit_code == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "data loading process died" in error
    cfg.SOLVER.MAX_ITER = 6
    recorder = Recorder()
    trainer, _ = make_trainer(cfg, recorder)
    assert resume_newest(trainer, checkpointer, config_text(cfg))
    trainer.train()
    assert trainer.iteration >= 6
