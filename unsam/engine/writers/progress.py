"""A line to read each period."""

from __future__ import annotations

import logging
from typing import Any

from unsam.engine.writers.writer import MetricsWriter

logger = logging.getLogger(__name__)


class ProgressWriter(MetricsWriter):
    """Logs one readable line: step, losses, rate, speed and the time that is left."""

    def write(self, record: dict[str, Any]) -> None:
        """Log one line about steps; evaluations have a table of their own."""
        if "loss" not in record:
            return
        losses = "  ".join(
            f"{name.removeprefix('loss_')} {value:.4f}"
            for name, value in record.items()
            if name.startswith("loss_")
        )
        logger.info(
            "iter %d/%d  loss %.4f (%s)  lr %.2e  %.3f s/it (data %.3f)  %.1f images/s  eta %s",
            record["iteration"],
            record["max_iter"],
            record["loss"],
            losses,
            record["lr"],
            record["step_seconds"],
            record["data_seconds"],
            record["images_per_second"],
            _clock(record["eta_seconds"]),
        )


def _clock(seconds: float) -> str:
    """Return ``h:mm:ss``."""
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
