"""Starting several training processes on this machine, as torchrun would."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import traceback
import uuid
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import torch
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from unsam.engine import distributed
from unsam.engine.stop_signals import REQUEUE_SIGNAL, exit_code_of
from unsam.errors import ConfigError, UnsamError

# The processes that end with one of these have told why themselves: an error of either kind, or a
# stop by a signal.
STOPPED_CODES = (exit_code_of(signal.SIGTERM), exit_code_of(signal.SIGINT))
_EXPLAINED_CODES = (1, ConfigError.exit_code, *STOPPED_CODES)


def launch(function: Callable[..., None], arguments: tuple[Any, ...], num_processes: int) -> None:
    """Run ``function(*arguments)`` in `num_processes` processes, with torchrun's own launcher.

    The processes find the environment that torchrun gives them, so `function` need not know who
    started it. When one fails, the others are ended and the whole command fails.

    Args:
        function: a function of a module (it is pickled by name).
        arguments: its arguments, picklable.
        num_processes: how many.

    Raises:
        SystemExit: a process failed; the code is that of the first one, 128 + n after signal n.
            Or this one was asked to stop, and has passed that on; see `exit_code_of`.
    """
    # One thread pool per process, as large as the cores allow; torchrun would set 1.
    threads = max(1, (os.cpu_count() or 1) // num_processes)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        start_method="spawn",
    )
    # Each worker reports its own error; torch's account of who ended whom would bury it.
    for name in ("torch.distributed.elastic", "torch.multiprocessing"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with _signals_passed_on():
            elastic_launch(config, _report_errors)(function, *arguments)
    except ChildFailedError as error:
        # Its siblings were ended because of the first.
        rank, failure = min(error.failures.items(), key=lambda item: item[1].timestamp)
        raise SystemExit(_exit_code(rank, failure)) from None
    except SignalException as error:
        raise SystemExit(exit_code_of(error.sigval)) from None


@contextlib.contextmanager
def _signals_passed_on() -> Iterator[None]:
    """Treat SIGUSR1 as torch treats SIGTERM; put back the handlers that torch leaves behind."""

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        raise SignalException(f"signal {number}", signal.Signals(number))

    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    if REQUEUE_SIGNAL:
        signal.signal(REQUEUE_SIGNAL, stop)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)


def _exit_code(rank: int, failure: ProcessFailure) -> int:
    """Return the exit code of a process that failed; say what it could not say itself."""
    code = failure.exitcode
    if code < 0:
        how = f"was killed by {signal.Signals(-code).name}; memory may have run out"
        sys.stderr.write(f"unsam: error: rank {rank} (process {failure.pid}) {how}\n")
        return 128 - code
    if code not in _EXPLAINED_CODES:
        sys.stderr.write(f"unsam: error: rank {rank} ended without a word, exit code {code}\n")
    return code or 1


def _report_errors(function: Callable[..., None], *arguments: Any) -> None:
    """Call `function` in a worker; write an error to stderr and exit with its code."""
    try:
        function(*arguments)
    except UnsamError as error:
        sys.stderr.write(f"unsam: error: {' '.join(str(error).split())}\n")
        sys.exit(error.exit_code)
    except Exception:
        sys.stderr.write(f"rank {os.environ['RANK']}: {traceback.format_exc()}")
        sys.exit(1)


def check_num_processes(num_processes: int, device: str, max_restarts: int = 0) -> None:
    """Refuse numbers of processes and restarts that this machine or this command cannot have.

    Args:
        num_processes: the ``--num-gpus`` of the user.
        device: the ``DEVICE`` of the config.
        max_restarts: the ``--max-restarts`` of the user.

    Raises:
        ConfigError: less than 1 process, more than there are GPUs, less than 0 restarts, or either
            on top of torchrun.
    """
    if num_processes < 1:
        raise ConfigError(f"--num-gpus must be at least 1, got {num_processes}")
    if max_restarts < 0:
        raise ConfigError(f"--max-restarts must be at least 0, got {max_restarts}")
    if max_restarts and distributed.launched():
        raise ConfigError(
            f"--max-restarts {max_restarts} inside torchrun, which restarts its processes itself; "
            f"write torchrun --max-restarts={max_restarts} instead"
        )
    if num_processes == 1:
        return
    if distributed.launched():
        raise ConfigError(
            f"--num-gpus {num_processes} inside torchrun, which has started "
            f"{os.environ['WORLD_SIZE']} processes already; leave one of the two out"
        )
    on_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if on_gpu and num_processes > torch.cuda.device_count():
        raise ConfigError(
            f"--num-gpus {num_processes}: this machine has {torch.cuda.device_count()}; "
            "set DEVICE cpu to run that many processes without a GPU"
        )
