"""A worker process as its caller sees it: one task in, one answer out, started anew if it dies."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Task = dict[str, Any]
Answer = dict[str, Any]

# The threads of every numeric library that a worker may load.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
# Times that a worker may die before its first task: memory may be short for a moment.
START_ATTEMPTS = 3
# Far longer than any photo takes, or the start of a worker: a library that hangs at one file must
# not hold up the others for ever.
LONGEST_SECONDS = 4 * 3600.0


@dataclass(frozen=True)
class WorkerSetup:
    """What every worker is started with.

    Attributes:
        section: PSEUDO_MASKS as YAML.
        device: ``"cpu"`` or ``"cuda"``.
        arguments: what this machine's interpreter runs.
        longest_seconds: a worker that gives no answer for so long is ended.
    """

    section: str
    device: str
    arguments: tuple[str, ...]
    longest_seconds: float = LONGEST_SECONDS


class WorkerProcess:
    """One process that makes masks. A photo at which it dies or hangs is answered as a failure."""

    def __init__(self, setup: WorkerSetup, gpu: str | None = None) -> None:
        """Keep the settings; the process starts with the first task.

        Args:
            setup: what it is started with.
            gpu: the one entry of CUDA_VISIBLE_DEVICES that it gets; None passes on the caller's.
        """
        self.setup = setup
        self.gpu = gpu
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._stopped = False

    def ask(self, task: Task) -> Answer:
        """Return the answer to a task; ``{"error", "fatal"}`` where there is none."""
        try:
            process = self._process or self._ready()
            answer = _exchange(process, task, self.setup.longest_seconds)
            if answer is not None:
                return answer
            reason = f"the worker process {self._ending(process)} at this photo"
            return {"error": reason, "fatal": False}
        except _NoStartError as error:
            return {"error": str(error), "fatal": True}
        except _TooLongError:
            self._end()
            return {"error": f"no masks after {self._longest()}, and given up", "fatal": False}
        except (OSError, ValueError) as error:
            # Out of step with the process, so a new one takes the next task.
            self._end()
            return {"error": f"worker: {error}", "fatal": False}

    def stop(self) -> None:
        """End the process, at once; from any thread."""
        with self._lock:
            self._stopped = True
        self._end()

    def _ready(self) -> subprocess.Popen[str]:
        """Return a process that has read the config and built the pipeline."""
        ending = ""
        for _ in range(START_ATTEMPTS):
            process = self._start()
            message = {"config": self.setup.section, "device": self.setup.device}
            try:
                answer = _exchange(process, message, self.setup.longest_seconds)
            except _TooLongError:
                self._end()
                raise _NoStartError(f"a worker was not ready after {self._longest()}") from None
            if answer is not None and "error" in answer:
                raise _NoStartError(answer["error"])
            if answer is not None:
                return process
            ending = self._ending(process)
        raise _NoStartError(f"the worker process {ending} before its first photo")

    def _start(self) -> subprocess.Popen[str]:
        environment = dict(os.environ)
        environment.update(dict.fromkeys(THREAD_VARIABLES, "1"))
        if self.gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpu
        # The worker must find this very package, installed or not.
        paths = [entry or str(Path.cwd()) for entry in sys.path]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        with self._lock:
            if self._stopped:
                raise _NoStartError("stopped")
            self._process = subprocess.Popen(
                [sys.executable, *self.setup.arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                text=True,
                encoding="utf-8",
                # Ctrl-C is for the caller, who ends the workers; one also ends with its input.
                start_new_session=True,
            )
            return self._process

    def _ending(self, process: subprocess.Popen[str]) -> str:
        code = process.wait()
        self._process = None
        return f"was killed by signal {-code} (out of memory?)" if code < 0 else f"exited ({code})"

    def _longest(self) -> str:
        return f"{self.setup.longest_seconds:g} seconds"

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()


class _NoStartError(Exception):
    """No worker can be started, so no later photo can be made either."""


class _TooLongError(Exception):
    """A worker gave no answer in time; it has been killed."""


def _exchange(
    process: subprocess.Popen[str], message: dict[str, Any], seconds: float
) -> Answer | None:
    """Return the answer to a message; None if the process has ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    is_over = threading.Event()

    def end() -> None:
        is_over.set()
        process.kill()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        # A process that died is noticed when its answer is read.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(message) + "\n")
            process.stdin.flush()
        line = process.stdout.readline()
    finally:
        # Joined, so that it cannot end the process at a later message.
        timer.cancel()
        timer.join()
    if is_over.is_set():
        raise _TooLongError
    return json.loads(line) if line.endswith("\n") else None
