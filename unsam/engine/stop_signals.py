"""Stopping a run from outside: SIGTERM and Ctrl-C end it after a checkpoint."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from unsam.errors import UnsamError


class StoppedBySignalError(UnsamError):
    """The run was stopped by a signal, after saving a checkpoint.

    Attributes:
        exit_code: 128 plus the number of the signal, as shells report it (143 or 130).
    """

    def __init__(self, text: str, signal_number: int) -> None:
        super().__init__(text)
        self.exit_code = 128 + signal_number


class StopSignals:
    """Context that notes the first SIGTERM or SIGINT instead of dying of it.

    A second one acts at once, as it would have without this. Outside the main thread, where
    Python allows no handlers, nothing is changed.

    Attributes:
        received: number of the signal that came, 0 if none did.
    """

    def __init__(self) -> None:
        self.received = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
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
        self.received = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
