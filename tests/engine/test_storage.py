"""A disk that refuses: the checkpoints are intact, one line says so, logs are given up."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.tiny import make_dataset, tiny_cfg
from unsam.checkpoint.checkpointer import Checkpointer, load_checkpoint
from unsam.cli import run_reporting_errors
from unsam.engine.train import launch_training


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the system refuse every byte of a file beyond `size`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def cfg(tmp_path: Path) -> Any:
    annotations = make_dataset(tmp_path / "data", ["a.png", "b.png", "c.png"])
    return tiny_cfg(annotations, tmp_path / "run", MAX_ITER=2)


def room_for_the_config(run: Path) -> int:
    """Return a size that the config keeps within, some lines of metrics and log, no checkpoint."""
    return (run / "config.yaml").stat().st_size + 1000


def train(cfg: Any, resume: bool = False) -> int:
    def command() -> int:
        launch_training(cfg, resume=resume)
        return 0

    return run_reporting_errors(command)


def test_system_that_cuts_files_short_ends_the_run_in_one_line_and_loses_nothing(
    cfg: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert train(cfg) == 0
    kept = (run / "checkpoints" / "iter_00000002.pt").read_bytes()
    cfg.SOLVER.MAX_ITER = 12
    capsys.readouterr()
    with largest_file(room_for_the_config(run)):
        assert train(cfg, resume=True) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1
    assert "cannot write" in lines[0]
    assert "iter_00000012.pt: File too large" in lines[0]
    assert os.listdir(run / "checkpoints") == ["iter_00000002.pt"]
    assert (run / "checkpoints" / "iter_00000002.pt").read_bytes() == kept
    # With room again it goes on, from there.
    assert train(cfg, resume=True) == 0
    assert load_checkpoint(run / "checkpoints" / "iter_00000012.pt")["iteration"] == 12
    records = [json.loads(line)["iteration"] for line in (run / "metrics.jsonl").open()]
    assert records == list(range(1, 13))


def test_metrics_and_log_that_cannot_grow_do_not_end_the_run(
    cfg: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert train(cfg) == 0
    cfg.SOLVER.MAX_ITER = 80
    limit = room_for_the_config(run)
    (run / "log.txt").write_text("." * (limit - 200))
    whole = resource.getrlimit(resource.RLIMIT_FSIZE)
    save = Checkpointer.save

    def save_without_limit(self: Checkpointer, state: dict[str, Any]) -> Path:
        resource.setrlimit(resource.RLIMIT_FSIZE, whole)
        return save(self, state)

    monkeypatch.setattr(Checkpointer, "save", save_without_limit)
    with largest_file(limit):
        assert train(cfg, resume=True) == 0
    printed = capsys.readouterr()
    assert "iter 80/80" in printed.out
    assert printed.err.count("JsonlWriter") == printed.err.count("log.txt ends here") == 1
    assert (run / "metrics.jsonl").stat().st_size <= limit
    assert load_checkpoint(run / "checkpoints" / "iter_00000080.pt")["iteration"] == 80


def test_full_disk_at_a_checkpoint_keeps_those_before(
    cfg: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg.CHECKPOINT.PERIOD = cfg.CHECKPOINT.KEEP = 1
    cfg.SOLVER.MAX_ITER = 4
    replace = os.replace

    def full(source: str, target: Any) -> None:
        if Path(target).name == "iter_00000003.pt":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    assert train(cfg) == 1
    assert "No space left on device" in capsys.readouterr().err
    # Nothing is dropped to make room before the new one is there, and nothing is left half done.
    assert os.listdir(tmp_path / "run" / "checkpoints") == ["iter_00000002.pt"]
    monkeypatch.undo()
    assert train(cfg, resume=True) == 0
    assert os.listdir(tmp_path / "run" / "checkpoints") == ["iter_00000004.pt"]
