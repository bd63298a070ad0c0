"""Where the numbers of a run go: one line of JSON each period, and one line to read."""

from __future__ import annotations

import json
import logging
import math
import os
from pathlib import Path
from typing import Any, Protocol

from unsam.checkpoint.atomic import write_text_atomic

logger = logging.getLogger(__name__)


class MetricsWriter(Protocol):
    """Takes the numbers of each period; see `unsam.engine.hooks.MetricsHook` for their names."""

    def write(self, metrics: dict[str, Any]) -> None:
        """Record one period."""


class JsonlWriter:
    """Appends to a file with one JSON object per line, flushed each time.

    Lines after the iteration that a run resumes from are of steps that are made anew; they, and a
    last line that a kill cut short, are dropped.

    Args:
        path: the file, made when missing.
        iteration: where the run starts, in finished steps.
    """

    def __init__(self, path: str | os.PathLike[str], iteration: int = 0) -> None:
        self._path = Path(path)
        kept = [line for line in self._lines() if _iteration(line) <= iteration]
        write_text_atomic(self._path, "".join(f"{line}\n" for line in kept))

    def write(self, metrics: dict[str, Any]) -> None:
        """Append one line."""
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(metrics) + "\n")

    def _lines(self) -> list[str]:
        if not self._path.is_file():
            return []
        return self._path.read_text(encoding="utf-8", errors="replace").splitlines()


class ProgressWriter:
    """Logs one readable line: step, losses, rate, speed and the time that is left."""

    def write(self, metrics: dict[str, Any]) -> None:
        """Log one line."""
        losses = "  ".join(
            f"{name.removeprefix('loss_')} {value:.4f}"
            for name, value in metrics.items()
            if name.startswith("loss_")
        )
        logger.info(
            "iter %d/%d  loss %.4f (%s)  lr %.2e  %.3f s/it (data %.3f)  %.1f images/s  eta %s",
            metrics["iteration"],
            metrics["max_iter"],
            metrics["loss"],
            losses,
            metrics["lr"],
            metrics["step_seconds"],
            metrics["data_seconds"],
            metrics["images_per_second"],
            _clock(metrics["eta_seconds"]),
        )


def _iteration(line: str) -> float:
    """Return the iteration of a line, infinity if it is not one of ours."""
    try:
        return float(json.loads(line)["iteration"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def _clock(seconds: float) -> str:
    """Return ``h:mm:ss``."""
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
