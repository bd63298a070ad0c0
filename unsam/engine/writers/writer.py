"""What every writer of a run's numbers promises."""

from __future__ import annotations

from typing import Any


class MetricsWriter:
    """Takes the records of a run; `unsam.engine.hooks.MetricsHook` says what is in them.

    It may raise whatever it likes: `unsam.engine.hooks.MetricsLog` then does without it.
    """

    def write(self, record: dict[str, Any]) -> None:
        """Take one record: numbers by name, among them ``iteration``."""
        raise NotImplementedError

    def close(self) -> None:
        """Finish; nothing is written after this."""
