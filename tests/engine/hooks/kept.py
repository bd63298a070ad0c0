"""A writer that keeps what it is told."""

from __future__ import annotations

from typing import Any

from unsam.engine.hooks import MetricsLog
from unsam.engine.writers import MetricsWriter


class Kept(MetricsWriter):
    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.closed = 0

    def write(self, record: dict[str, Any]) -> None:
        self.records.append(record)

    def close(self) -> None:
        self.closed += 1


def kept_log() -> tuple[Kept, MetricsLog]:
    kept = Kept()
    return kept, MetricsLog({"kept": lambda start: kept})
