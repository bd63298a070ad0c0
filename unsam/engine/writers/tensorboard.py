"""Curves for TensorBoard."""

from __future__ import annotations

import os
from typing import Any

from unsam.engine.writers.writer import MetricsWriter


class TensorboardWriter(MetricsWriter):
    """Writes event files, one scalar per name; needs the package ``tensorboard``.

    Args:
        folder: of the event files; a resumed run adds another one there.
        iteration: where the run starts; what is there of later steps will not be shown.
    """

    def __init__(self, folder: str | os.PathLike[str], iteration: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._events = SummaryWriter(os.fspath(folder), purge_step=iteration + 1)

    def write(self, record: dict[str, Any]) -> None:
        """Add a point to each curve."""
        for name, value in record.items():
            if name != "iteration":
                self._events.add_scalar(name, value, record["iteration"])
        # A killed run keeps its curves.
        self._events.flush()

    def close(self) -> None:
        """Close the event file."""
        self._events.close()
