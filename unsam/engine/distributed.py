"""Several processes as one: who am I, do all agree, does one have to stop.

All functions work without a process group too, as one process of one. What the ranks tell each
other here travels over gloo between CPUs, also beside NCCL, so agreeing never waits for a GPU.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from unsam.config.device import resolve_device
from unsam.errors import ConfigError, TrainingError, UnsamError

T = TypeVar("T")

_patience = timedelta(minutes=30)
# Beside NCCL, a group of its own for the barrier that knows who is missing.
_watch: dist.ProcessGroup | None = None


def launched() -> bool:
    """Whether torchrun, or `unsam.engine.launch`, started this process as one of several."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def restarted() -> bool:
    """Whether torchrun has started the processes anew, after one had failed; the same on all ranks.

    Only the machine of the failure counts it, so all ranks must call this.
    """
    return maximum([float(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))])[0] > 0


def initialize(device: torch.device, timeout_minutes: float = 30.0) -> None:
    """Join the process group that the environment describes; nothing to do for a lone process.

    Args:
        device: of this process; on CUDA, NCCL carries the gradients.
        timeout_minutes: how long to wait for another process before giving up.

    Raises:
        ConfigError: the other processes could not be reached.
    """
    global _patience, _watch
    if not launched() or dist.is_initialized():
        return
    _patience = timedelta(minutes=timeout_minutes)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        dist.init_process_group(backend, timeout=_patience)
        if device.type == "cuda":
            watch = dist.new_group(backend="gloo", timeout=_patience)
            assert isinstance(watch, dist.ProcessGroup)
            _watch = watch
    except (RuntimeError, ValueError, dist.DistError) as error:
        address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        text = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']} cannot join at {address} "
            f"({text}); start all processes with torchrun or --num-gpus"
        ) from error


def shutdown() -> None:
    """Leave the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """Return the number of this process over all machines, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes over all machines."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_rank() -> int:
    """Return the number of this process on its machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0")) if launched() else 0


def is_main() -> bool:
    """Whether this process writes the files and prints."""
    return rank() == 0


def barrier() -> None:
    """Wait until every process is here.

    Raises:
        TrainingError: one did not come in the time given to `initialize`, or is gone; the main
            rank says which.
    """
    if not dist.is_initialized():
        return
    try:
        dist.monitored_barrier(_watch, timeout=_patience, wait_all_ranks=True)
    except RuntimeError as error:
        late = re.search(r"Ranks? ([\d, ]+) failed", str(error))
        who = f"rank {late[1]}" if late else "the others"
        raise TrainingError(
            f"rank {rank()} waited for {who} up to {_patience.total_seconds():.0f} s in vain; see "
            "what that process did last, or raise SOLVER.TIMEOUT_MINUTES, and --resume"
        ) from error


def gather(value: T) -> list[T]:
    """Return the values of all ranks, in their order, on every rank; any picklable value."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def maximum(values: Sequence[float]) -> list[float]:
    """Return the largest of each number over all ranks; the ranks give equally many."""
    if not dist.is_initialized():
        return [float(value) for value in values]
    shared = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(shared, op=dist.ReduceOp.MAX)
    return shared.tolist()


def total(value: float) -> float:
    """Return the sum of a number over all ranks."""
    if not dist.is_initialized():
        return float(value)
    shared = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(shared)
    return shared.item()


def raise_together(error: UnsamError | None) -> None:
    """Raise on every rank if any rank has an error; all ranks must call this.

    The text is that of each failing rank in turn, so that the main one, which prints, says what
    happened elsewhere.

    Args:
        error: what went wrong on this rank, None if nothing did.

    Raises:
        UnsamError: of the class of the first failing rank's error; `concerns_every_rank`
            tells it from others.
    """
    if not maximum([float(error is not None)])[0]:
        return
    raise_gathered(error)


def raise_gathered(error: UnsamError | None) -> None:
    """Raise the errors of all ranks on every rank; for callers that know that there is one.

    Raises:
        UnsamError: see `raise_together`.
    """
    own = None if error is None else (type(error), str(error))
    ranks_by_text: dict[str, list[int]] = {}
    kinds: list[type[UnsamError]] = []
    for number, report in enumerate(gather(own)):
        if report is not None:
            kinds.append(report[0])
            ranks_by_text.setdefault(report[1], []).append(number)
    assert kinds
    texts = [
        text if 0 in ranks else f"rank {ranks[0]}: {text}" for text, ranks in ranks_by_text.items()
    ]
    raise mark_every_rank(kinds[0]("; ".join(texts))) from error


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Run a block on every rank; if it ends in an `UnsamError` on any, raise that on all.

    The block itself must not make the ranks wait for each other.
    """
    error = None
    try:
        yield
    except UnsamError as caught:
        error = caught
    raise_together(error)


def mark_every_rank(error: UnsamError) -> UnsamError:
    """Note that all ranks raise `error`, each its own copy; return it."""
    vars(error)["on_every_rank"] = True
    return error


def concerns_every_rank(error: UnsamError) -> bool:
    """Whether `error` was raised on all ranks, so that it is enough if the main one prints it."""
    return bool(getattr(error, "on_every_rank", False))


def device_of_rank(name: str) -> torch.device:
    """Return the device of this process for the name in DEVICE; see `resolve_device`."""
    return resolve_device(name, local_rank() if launched() else None)
