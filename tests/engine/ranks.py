"""What each of several processes does in the tests of `test_distributed`; results as JSON."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from tests.engine.tiny import Recorder, SignalAt, make_trainer, tiny_cfg
from unsam.config import config_text
from unsam.engine import distributed
from unsam.engine.run_state import resume_newest
from unsam.errors import DataError, UnsamError


def work(folder: Path) -> None:
    """Run all scenarios and write ``rank_<n>.json``."""
    torch.set_num_threads(1)
    distributed.initialize(torch.device("cpu"), timeout_minutes=1)
    results = {
        "talk": _talk(),
        "plain": _run(folder, "plain", MAX_ITER=4),
        "accumulated": _run(folder, "plain", "accumulated", MAX_ITER=4, ACCUMULATE=2),
        "poison": _run(folder, "poison", MAX_ITER=4),
        "steep": _run(folder, "steep", MAX_ITER=4),
        "huge": _run(folder, "huge", MAX_ITER=4, ACCUMULATE=2),
        "loud": _run(folder, "loud", MAX_ITER=4, PRECISION="float16"),
        "broken": _run(folder, "broken", MAX_ITER=4),
        "stopped": _run(folder, "plain", "stopped", stop=True, MAX_ITER=4),
        "resumed": _run(folder, "plain", "stopped", resume=True, MAX_ITER=4),
        "full_disk": _failure(lambda: _fail_on(0, "disk is full")),
    }
    (folder / f"rank_{distributed.rank()}.json").write_text(json.dumps(results))
    distributed.shutdown()


def come_late(folder: Path) -> None:
    """Leave the main rank waiting for longer than it is ready to; note what it says."""
    distributed.initialize(torch.device("cpu"), timeout_minutes=1)
    # Only now: processes that start may well take longer to meet.
    distributed._patience = timedelta(seconds=2)
    if distributed.rank() == 1:
        time.sleep(4)
        return
    started = time.monotonic()
    try:
        distributed.barrier()
    except UnsamError as error:
        said = {"error": str(error), "seconds": time.monotonic() - started}
        (folder / "late.json").write_text(json.dumps(said))


def sleep_or_die(mode: str) -> None:
    """Leave the other rank waiting: by an exception, by exiting or by being killed."""
    distributed.initialize(torch.device("cpu"), timeout_minutes=1)
    if distributed.rank() == 1:
        if mode == "raise":
            raise KeyError("rank 1 has a bug")
        os.kill(os.getpid(), signal.SIGKILL)
    distributed.barrier()


def _talk() -> dict[str, Any]:
    rank = distributed.rank()
    return {
        "world": distributed.world_size(),
        "maximum": distributed.maximum([rank, -rank]),
        "gather": distributed.gather(f"from {rank}"),
        "fine": _failure(lambda: distributed.raise_together(None)),
        "one": _failure(lambda: _fail_on(1, "photo is gone")),
        "both": _failure(lambda: distributed.raise_together(DataError("same text"))),
    }


def _fail_on(rank: int, text: str) -> None:
    with distributed.together():
        if distributed.rank() == rank:
            raise DataError(text)


def _failure(function: Callable[[], Any]) -> str:
    try:
        function()
    except UnsamError as error:
        everywhere = distributed.concerns_every_rank(error)
        return f"{type(error).__name__}: {error}" if everywhere else "on this rank alone"
    return ""


def _run(
    folder: Path,
    data: str,
    output: str = "",
    resume: bool = False,
    stop: bool = False,
    **solver: Any,
) -> dict[str, Any]:
    cfg = tiny_cfg(folder / data / "annotations.json", folder / f"{output or data}_2", **solver)
    cfg.SOLVER.BATCH_SIZE = 4
    recorder = Recorder()
    hooks = [SignalAt(2)] if stop and distributed.rank() == 1 else []
    trainer, checkpointer = make_trainer(cfg, recorder, *hooks)
    trainer.model.noise = 0.0
    if resume:
        resume_newest(trainer, checkpointer, config_text(cfg))
    failure = _failure(trainer.train)
    return {
        "failure": failure,
        "steps": recorder.steps,
        "weights": {k: v.tolist() for k, v in trainer.model.state_dict().items()},
        "files": [path.name for path in checkpointer.paths()],
    }
