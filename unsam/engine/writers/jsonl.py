"""A file with one JSON object per line."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from unsam.checkpoint.atomic import write_text_atomic
from unsam.engine.writers.writer import MetricsWriter


class JsonlWriter(MetricsWriter):
    """Appends to a file with one JSON object per line, flushed each time.

    Lines after the iteration that a run resumes from are of steps that are made anew; they, and a
    last line that a kill cut short, are dropped. Numbers that are not finite become ``null``.

    Args:
        path: the file, made when missing.
        iteration: where the run starts, in finished steps.

    Raises:
        StorageError: it cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], iteration: int = 0) -> None:
        self._path = Path(path)
        kept = [line for line in self._lines() if _iteration(line) <= iteration]
        write_text_atomic(self._path, "".join(f"{line}\n" for line in kept))

    def write(self, record: dict[str, Any]) -> None:
        """Append one line."""
        finite = {name: value if math.isfinite(value) else None for name, value in record.items()}
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(finite) + "\n")

    def _lines(self) -> list[str]:
        if not self._path.is_file():
            return []
        return self._path.read_text(encoding="utf-8", errors="replace").splitlines()


def _iteration(line: str) -> float:
    """Return the iteration of a line, infinity if it is not one of ours."""
    try:
        return float(json.loads(line)["iteration"])
    except (ValueError, KeyError, TypeError):
        return math.inf
