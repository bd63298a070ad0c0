"""Checkpoints survive kills and full disks, refuse what they must, and say why."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from unsam.checkpoint.atomic import StorageError
from unsam.checkpoint.checkpointer import (
    Checkpointer,
    fit_model_weights,
    load_checkpoint,
    save_checkpoint,
    save_weights,
)
from unsam.checkpoint.foreign_weights import read_weights_file
from unsam.config import config_text, get_cfg
from unsam.errors import CheckpointError


def make_state(iteration: int = 7, model: nn.Module | None = None) -> dict[str, Any]:
    model = model or nn.Linear(3, 2)
    return {
        "model": model.state_dict(),
        "optimizer": torch.optim.AdamW(model.parameters()).state_dict(),
        "scheduler": {"iteration": iteration, "seconds": 1.5},
        "scaler": {},
        "sampler": {"position": 8 * iteration},
        "rng": [{"torch": torch.get_rng_state(), "python": random.getstate()}],
        "iteration": iteration,
        "config": config_text(get_cfg()),
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "iter_00000007.pt"
    save_checkpoint(file, make_state())
    return file


def error_of(function: Any, *arguments: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ------------------------------------------------------------------------------- one file
def test_round_trip(path: Path) -> None:
    state = load_checkpoint(path)
    assert state["format_version"] == 1
    assert state["iteration"] == 7
    assert state["rng"][0]["python"] == random.getstate()
    model = nn.Linear(3, 2)
    fit_model_weights(model, state["model"], name="", architecture="")
    assert torch.equal(model.weight, state["model"]["weight"])
    file = read_weights_file(path)
    assert torch.equal(file.tensors["weight"], model.weight)
    assert file.config == state["config"]


def test_safetensors_round_trip_with_tied_weights(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    file = tmp_path / "model.safetensors"
    save_weights(model, file, config_text(get_cfg()))
    other = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    other[1].weight = other[0].weight
    read = read_weights_file(file)
    fit_model_weights(other, read.tensors, name="", architecture="")
    assert torch.equal(other[0].weight, model[0].weight)
    assert read.config == config_text(get_cfg())


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_truncated(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "truncated" in error_of(load_checkpoint, path)


def test_any_flipped_byte_of_the_weights_is_noticed(tmp_path: Path) -> None:
    model = nn.Linear(4, 4)
    nn.init.constant_(model.weight, 0.123)
    file = tmp_path / "a.pt"
    save_checkpoint(file, make_state(model=model))
    content = bytearray(file.read_bytes())
    content[content.index(model.weight.detach().numpy().tobytes()) + 5] ^= 1
    file.write_bytes(content)
    assert "damaged" in error_of(load_checkpoint, file)


def test_not_a_checkpoint(tmp_path: Path) -> None:
    text = tmp_path / "a.pt"
    text.write_text("hello")
    assert "not a checkpoint" in error_of(load_checkpoint, text)
    assert "no such" in error_of(load_checkpoint, tmp_path / "none.pt")
    assert "no such" in error_of(load_checkpoint, tmp_path)
    torch.save({"weight": torch.zeros(1)}, text)
    assert "format_version" in error_of(load_checkpoint, text)
    torch.save(torch.zeros(1), text)
    assert "format_version" in error_of(load_checkpoint, text)
    torch.save({"format_version": 99}, text)
    assert "format 99" in error_of(load_checkpoint, text)
    torch.save({"format_version": 1, "model": {}}, text)
    assert "incomplete" in error_of(load_checkpoint, text)


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


def test_code_in_a_checkpoint_does_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "exploded"
    file = tmp_path / "bomb.pt"
    torch.save({"format_version": 1, **make_state(), "scaler": Bomb(marker)}, file)
    assert "refused" in error_of(load_checkpoint, file)
    file.write_bytes(pickle.dumps(Bomb(marker)))
    assert "not a checkpoint" in error_of(load_checkpoint, file)
    assert not marker.exists()


def test_another_architecture_is_described_and_changes_nothing(path: Path) -> None:
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3, 5))
            self.extra = nn.Linear(2, 2)

    model, weights = Other(), load_checkpoint(path)["model"]
    with pytest.raises(CheckpointError) as caught:
        fit_model_weights(model, weights, name="a.pt", architecture="GranularSam")
    text = str(caught.value)
    assert "\n" not in text
    assert "a.pt: weights of GranularSam do not fit this Other" in text
    assert "2 missing (extra.weight, extra.bias)" in text
    assert "1 left over (bias)" in text
    assert "1 of another shape (weight [2, 3] in the file, [3, 5] in the model)" in text
    assert not model.weight.any()


# --------------------------------------------------------------------------- trouble on disk
def test_full_disk_leaves_the_previous_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        save_checkpoint(path, make_state(8))
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_write_that_the_system_cuts_short(path: Path) -> None:
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        with pytest.raises(StorageError, match="cannot write"):
            save_checkpoint(path, make_state(8, nn.Linear(100, 100)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_object_that_cannot_be_saved(path: Path) -> None:
    class Poison:
        def __reduce__(self) -> Any:
            raise ValueError("not me")

    before = path.read_bytes()
    with pytest.raises(ValueError, match="not me"):
        save_checkpoint(path, make_state() | {"scaler": Poison()})
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


# ---------------------------------------------------------------------------------- a folder
def test_keeps_the_newest(tmp_path: Path) -> None:
    checkpointer = Checkpointer(tmp_path / "run", keep=2)
    assert checkpointer.paths() == []
    assert checkpointer.load_newest() is None
    for iteration in (1, 5, 20, 100):
        checkpointer.save(make_state(iteration))
    assert [path.name for path in checkpointer.paths()] == ["iter_00000020.pt", "iter_00000100.pt"]
    (tmp_path / "run" / "notes.pt").write_text("mine")
    everything = Checkpointer(tmp_path / "run", keep=0)
    everything.save(make_state(200))
    assert len(everything.paths()) == 3
    newest = everything.load_newest()
    assert newest is not None
    assert newest[1]["iteration"] == 200
    assert (tmp_path / "run" / "notes.pt").exists()


def test_never_drops_what_it_has_just_saved(tmp_path: Path) -> None:
    checkpointer = Checkpointer(tmp_path, keep=1)
    checkpointer.save(make_state(30))
    checkpointer.save(make_state(25))
    assert [path.name for path in checkpointer.paths()] == ["iter_00000025.pt"]


def test_unreadable_newest_is_named_and_put_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("unsam").propagate = True
    checkpointer = Checkpointer(tmp_path, keep=0)
    for iteration in (10, 20, 30):
        checkpointer.save(make_state(iteration))
    for path, size in zip(checkpointer.paths()[1:], (0, 500), strict=True):
        path.write_bytes(path.read_bytes()[:size])
    with caplog.at_level(logging.WARNING):
        found = checkpointer.load_newest()
    assert found is not None
    assert found[0].name == "iter_00000010.pt"
    assert "iter_00000030.pt: truncated" in caplog.text
    assert "iter_00000020.pt: truncated" in caplog.text
    assert sorted(os.listdir(tmp_path))[1:] == [
        "iter_00000020.pt.damaged",
        "iter_00000030.pt.damaged",
    ]
    found[0].write_bytes(b"")
    assert "none of 1 checkpoints" in error_of(checkpointer.load_newest)


def test_old_one_that_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("unsam").propagate = True
    checkpointer = Checkpointer(tmp_path, keep=1)
    checkpointer.save(make_state(1))

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    assert checkpointer.save(make_state(2)).exists()
    assert "iter_00000001.pt" in caplog.text


KILL_LOOP = """
import os, random, signal, sys, time
import torch
from torch import nn
from tests.checkpoint.test_checkpointer import make_state
from unsam.checkpoint.checkpointer import Checkpointer, load_checkpoint

torch.set_num_threads(1)
checkpointer = Checkpointer(sys.argv[1], keep=2)
start = checkpointer.save(make_state(1, nn.Linear(300, 500)))
generator = random.Random(int(sys.argv[2]))
reached = 1
for kill in range(15):
    child = os.fork()
    if child == 0:
        iteration = reached
        while True:
            iteration += 1
            checkpointer.save(make_state(iteration, nn.Linear(300, 500)))
    time.sleep(generator.uniform(0.02, 0.12))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    for path in checkpointer.paths():
        load_checkpoint(path)
    path, state = checkpointer.load_newest()
    assert state["iteration"] >= reached, (state["iteration"], reached)
    reached = state["iteration"]
assert reached > 5, reached
checkpointer.save(make_state(reached + 1))
assert len(os.listdir(sys.argv[1])) == 2, os.listdir(sys.argv[1])
"""


def test_kill_at_any_moment_leaves_a_loadable_newest(tmp_path: Path, repository: Path) -> None:
    started = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-c", KILL_LOOP, str(tmp_path / "run"), "3"],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert time.monotonic() - started < 60
