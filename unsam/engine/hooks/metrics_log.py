"""The writers of a run as one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from unsam.engine import distributed
from unsam.engine.trainer import Hook, Trainer
from unsam.engine.writers import MakeWriter, MetricsWriter

logger = logging.getLogger(__name__)


class MetricsLog(Hook):
    """Hands records to the writers, on the main rank; other hooks write to it.

    Days of training must not end because a log could not be written: a writer that fails at
    opening, writing or closing is switched off with a warning. Comes last among the hooks, so that
    the last checkpoint does not wait for a writer to finish.

    Args:
        makers: what opens each writer, by name.
    """

    def __init__(self, makers: Mapping[str, MakeWriter]) -> None:
        self._makers = dict(makers)
        self._writers: list[MetricsWriter] = []

    def before_train(self, trainer: Trainer) -> None:
        """Open the writers."""
        if not distributed.is_main():
            return
        for name, make in self._makers.items():
            try:
                self._writers.append(make(trainer.iteration))
            except Exception as error:
                logger.warning("the writer %s is switched off: %s", name, error)

    def write(self, record: dict[str, Any]) -> None:
        """Hand one record to every writer; see `MetricsWriter.write`."""
        for writer in list(self._writers):
            try:
                writer.write(record)
            except Exception as error:
                logger.warning("%s is switched off: %s", type(writer).__name__, error)
                self._writers.remove(writer)

    def on_interrupt(self, trainer: Trainer) -> None:
        """Close the writers."""
        self._close()

    def after_train(self, trainer: Trainer) -> None:
        """Close the writers."""
        self._close()

    def _close(self) -> None:
        while self._writers:
            writer = self._writers.pop(0)
            try:
                writer.close()
            except Exception as error:
                logger.warning("%s was not closed: %s", type(writer).__name__, error)
