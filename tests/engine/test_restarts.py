"""A rank that dies ends the job soon and loudly, or is started again and changes nothing."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from tests.engine.commands import TORCHRUN, start, wait_until, workers_of, write_recipe
from tests.engine.tiny import tiny_cfg
from unsam.checkpoint.checkpointer import load_checkpoint
from unsam.engine import distributed, launch, train
from unsam.engine.launch import check_num_processes
from unsam.errors import ConfigError

LAST = "iter_00000012.pt"


@pytest.mark.parametrize(
    ("codes", "resumed", "code"),
    [
        ([137, 1, 0], [False, True, True], 0),
        ([137, 137, 137, 0], [False, True, True], 137),
        ([2, 0], [False], 2),
        ([143, 0], [False], 143),
        ([1, 130, 0], [False, True], 130),
    ],
)
def test_failures_restart_from_the_checkpoint_but_mistakes_and_stops_are_final(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    codes: list[int],
    resumed: list[bool],
    code: int,
) -> None:
    seen: list[bool] = []

    def fake(function: Any, arguments: tuple[Any, ...], num_processes: int) -> None:
        seen.append(arguments[1])
        if codes[len(seen) - 1]:
            raise SystemExit(codes[len(seen) - 1])

    monkeypatch.setattr(train, "launch", fake)
    cfg = tiny_cfg(tmp_path / "annotations.json", tmp_path)
    if code:
        with pytest.raises(SystemExit) as caught:
            train.launch_training(cfg, num_workers=2, max_restarts=2)
        assert caught.value.code == code
    else:
        train.launch_training(cfg, num_workers=2, max_restarts=2)
    assert seen == resumed


def test_restarts_that_make_no_sense(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="--max-restarts must be at least 0"):
        check_num_processes(1, "cpu", -1)
    assert not distributed.restarted()
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert distributed.restarted()
    with pytest.raises(ConfigError, match="write torchrun --max-restarts=3"):
        check_num_processes(1, "cpu", 3)


@pytest.mark.parametrize(
    ("code", "exit_code", "words"),
    [
        (-signal.SIGKILL, 137, "unsam: error: rank 3 (process 99) was killed by SIGKILL"),
        (7, 7, "unsam: error: rank 3 ended without a word, exit code 7"),
        (1, 1, ""),
        (143, 143, ""),
    ],
)
def test_the_rank_that_could_say_nothing_is_named(
    capsys: pytest.CaptureFixture[str], code: int, exit_code: int, words: str
) -> None:
    failure = ProcessFailure(local_rank=1, pid=99, exitcode=code, error_file="")
    assert launch._exit_code(3, failure) == exit_code
    error = capsys.readouterr().err
    assert error.startswith(words)
    assert bool(error) == bool(words)


def weights(output: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(output / "checkpoints" / LAST)["model"]


@pytest.mark.slow
def test_restarted_run_ends_in_the_weights_of_an_uninterrupted_one(tmp_path: Path) -> None:
    recipe, straight, killed = write_recipe(tmp_path), tmp_path / "straight", tmp_path / "killed"
    given = ["--config-file", str(recipe), "OUTPUT_DIR"]
    with start(*given, str(straight), launcher=TORCHRUN) as process:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
    with start(*given, str(killed), "--num-gpus", "2", "--max-restarts", "1") as process:
        wait_until((killed / "checkpoints" / "iter_00000004.pt").exists, process)
        os.kill(workers_of(process)[1], signal.SIGKILL)
        printed, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    assert "was killed by SIGKILL" in errors
    assert "restart 1 of 1" in errors
    assert "resumed from" in printed
    expected = weights(straight)
    assert all(torch.equal(value, expected[name]) for name, value in weights(killed).items())


@pytest.mark.slow
def test_torchrun_restarts_go_on_and_end_when_used_up(tmp_path: Path) -> None:
    recipe, output = write_recipe(tmp_path), tmp_path / "run"
    words = ["--config-file", str(recipe), "OUTPUT_DIR", str(output), "SOLVER.MAX_ITER", "100000"]
    folder = output / "checkpoints"
    # Else torch's processes may find the addresses of those that are gone.
    fresh = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    with start(*words, launcher=[*TORCHRUN, "--max-restarts=1"], **fresh) as process:
        wait_until((folder / "iter_00000004.pt").exists, process)
        os.kill(workers_of(process)[0], signal.SIGKILL)
        # The second attempt was given no --resume, and goes on all the same.
        log = output / "log.txt"
        wait_until(lambda: log.read_text().count("resumed from"), process)
        os.kill(workers_of(process)[0], signal.SIGKILL)
        killed = time.monotonic()
        _, errors = process.communicate(timeout=60)
    assert time.monotonic() - killed < 30
    assert process.returncode != 0
    assert "SIGKILL" in errors or "-9" in errors


@pytest.mark.slow
def test_signal_to_all_processes_of_a_job_saves_once_and_requeues_once(tmp_path: Path) -> None:
    """As Slurm sends it: to the launcher, which passes it on, and to the workers themselves."""
    recipe, output, calls = write_recipe(tmp_path), tmp_path / "run", tmp_path / "calls.txt"
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n')
    scontrol.chmod(0o755)
    words = ["--config-file", str(recipe), "OUTPUT_DIR", str(output), "SOLVER.MAX_ITER", "100000"]
    path = f"{scontrol.parent}{os.pathsep}{os.environ['PATH']}"
    with start(
        *words, "CHECKPOINT.PERIOD", "0", "--num-gpus", "2", PATH=path, SLURM_JOB_ID="71"
    ) as process:
        metrics = output / "metrics.jsonl"
        wait_until(lambda: metrics.is_file() and metrics.read_text().count("\n") > 1, process)
        os.killpg(process.pid, signal.SIGUSR1)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert errors.count("stopped by signal") == 1, errors
    assert calls.read_text() == "requeue 71\n"
    assert len(list((output / "checkpoints").iterdir())) == 1
