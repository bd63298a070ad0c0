"""Starting several training processes on this machine, as torchrun would."""

from __future__ import annotations

import logging
import os
import sys
import traceback
import uuid
from collections.abc import Callable
from typing import Any

import torch
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from unsam.engine import distributed
from unsam.errors import ConfigError, UnsamError


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
        elastic_launch(config, _report_errors)(function, *arguments)
    except ChildFailedError as error:
        # The process itself has said why on stderr; its siblings were ended because of it.
        first = min(error.failures.values(), key=lambda failure: failure.timestamp)
        code = first.exitcode
        raise SystemExit(128 - code if code < 0 else code or 1) from None
    except SignalException as error:
        raise SystemExit(128 + int(error.sigval)) from None


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


def check_num_processes(num_processes: int, device: str) -> None:
    """Refuse a number of processes that this machine or this command cannot have.

    Args:
        num_processes: the ``--num-gpus`` of the user.
        device: the ``DEVICE`` of the config.

    Raises:
        ConfigError: less than 1, more than there are GPUs, or on top of torchrun.
    """
    if num_processes < 1:
        raise ConfigError(f"--num-gpus must be at least 1, got {num_processes}")
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
