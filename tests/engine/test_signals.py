"""A signal stops a run after a checkpoint, and Slurm's asks for the job to be queued again."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.tiny import SignalAt, make_dataset, make_trainer, tiny_cfg
from unsam.engine import stop_signals
from unsam.engine.slurm import requeue_job
from unsam.engine.stop_signals import StoppedBySignalError, StopSignals
from unsam.engine.train import launch_training

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a fake scontrol on the PATH; return the file in which it notes how it was called."""
    calls = tmp_path / "calls.txt"
    program = tmp_path / "bin" / "scontrol"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    return calls


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 143)]
)
def test_signal_saves_and_gives_its_exit_code(tmp_path: Path, number: int, code: int) -> None:
    before = [signal.getsignal(each) for each in STOPPING]
    cfg = tiny_cfg(make_dataset(tmp_path / "data", ["a.png", "b.png"]), tmp_path, MAX_ITER=5)
    trainer, checkpointer = make_trainer(cfg, SignalAt(2, number))
    with pytest.raises(StoppedBySignalError, match="after iteration 2") as caught:
        trainer.train()
    assert caught.value.exit_code == code
    assert [path.name for path in checkpointer.paths()] == ["iter_00000002.pt"]
    assert [signal.getsignal(each) for each in STOPPING] == before


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as in a shell; test runners in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_second_signal_acts_at_once_but_an_echo_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """A launcher passes on what the terminal has sent to all its processes already."""
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.received == signal.SIGUSR1
        monkeypatch.setattr(stop_signals, "_ECHO_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_outside_the_main_thread_nothing_changes() -> None:
    before = [signal.getsignal(each) for each in STOPPING]
    inside: list[object] = []

    def look() -> None:
        with StopSignals() as signals:
            inside.extend([signals.received, [signal.getsignal(each) for each in STOPPING]])

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert inside == [0, before]


def test_jobs_and_tasks_of_arrays_are_requeued(
    scontrol: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("unsam").propagate = True
    requeue_job()
    assert not scontrol.exists(), "outside Slurm there is no job"
    monkeypatch.setenv("SLURM_JOB_ID", "71")
    requeue_job()
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "70")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    requeue_job()
    assert scontrol.read_text() == "requeue 71\nrequeue 70_3\n"

    program = Path(os.environ["PATH"].split(os.pathsep)[0]) / "scontrol"
    program.write_text("#!/bin/sh\necho 'Job is no batch job' >&2; exit 1\n")
    requeue_job()
    assert "70_3 was not requeued (Job is no batch job)" in caplog.text
    monkeypatch.setenv("PATH", str(scontrol.parent))
    requeue_job()
    assert "No such file" in caplog.text


@pytest.mark.parametrize(("number", "calls"), [(signal.SIGUSR1, 1), (signal.SIGTERM, 0)])
def test_only_the_signal_before_the_time_is_up_requeues(
    scontrol: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, calls: int
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "71")
    cfg = tiny_cfg(make_dataset(tmp_path / "data", ["a.png"]), tmp_path / "run", MAX_ITER=100000)
    cfg.CHECKPOINT.PERIOD = 1
    sent = threading.Event()

    def send() -> None:
        while not sent.wait(0.02):
            metrics = tmp_path / "run" / "metrics.jsonl"
            if metrics.is_file() and metrics.stat().st_size:
                os.kill(os.getpid(), number)
                return

    sender = threading.Thread(target=send)
    sender.start()
    try:
        with pytest.raises(StoppedBySignalError):
            launch_training(cfg)
    finally:
        sent.set()
        sender.join()
    assert len(scontrol.read_text().splitlines() if scontrol.exists() else []) == calls
    assert list((tmp_path / "run" / "checkpoints").iterdir())
