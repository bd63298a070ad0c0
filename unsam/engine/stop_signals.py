"""Stopping a run from outside: SIGTERM, Ctrl-C and Slurm's SIGUSR1 end it after a checkpoint."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

from unsam.errors import UnsamError

# What schedulers send some time before they take the machine away; Windows has no such signal.
REQUEUE_SIGNAL: int = getattr(signal, "SIGUSR1", 0)
# A terminal or scheduler signals every process of a job, and a launcher passes its own on: what
# comes within this time of the first is the same request.
_ECHO_SECONDS = 2.0


def exit_code_of(signal_number: int) -> int:
    """Return the exit code of a run that a signal stopped.

    It is 128 plus the number of the signal, as shells report it: 143 for SIGTERM, 130 for SIGINT.
    SIGUSR1 asks for the same as SIGTERM and gives 143 too.
    """
    return 128 + (signal.SIGTERM if signal_number == REQUEUE_SIGNAL else signal_number)


class StoppedBySignalError(UnsamError):
    """The run was stopped by a signal, after saving a checkpoint.

    Attributes:
        signal_number: the signal.
        exit_code: see `exit_code_of`.
    """

    def __init__(self, text: str, signal_number: int) -> None:
        super().__init__(text)
        self.signal_number = signal_number
        self.exit_code = exit_code_of(signal_number)


class StopSignals:
    """Context that notes the first SIGTERM, SIGINT or SIGUSR1 instead of dying of it.

    A second one, seconds later, acts at once, as it would have without this. Outside the main
    thread, where Python allows no handlers, nothing is changed.

    Attributes:
        received: number of the signal that came, 0 if none did.
    """

    def __init__(self) -> None:
        self.received = 0
        self._received_at = 0.0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in filter(None, (signal.SIGTERM, signal.SIGINT, REQUEUE_SIGNAL)):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if not self.received:
            self.received, self._received_at = number, time.monotonic()
        elif time.monotonic() - self._received_at > _ECHO_SECONDS:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
