"""``fit.json``: how far a fit is, and what its results were made from."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unsam.annotations.records import parse_object, read_bytes
from unsam.checkpoint.atomic import write_text_atomic

STAGE_FILE = "fit.json"

logger = logging.getLogger("unsam.fit")


@dataclass
class StageFile:
    """The stage that is under way, and facts that a rerun compares with its own.

    Attributes:
        path: the file.
        content: ``stage``; ``training``, what it was begun with; ``results``, for each evaluation
            ``made_from`` and ``metrics``; ``report``, what it was made from.
    """

    path: Path
    content: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> StageFile:
        """Read the file, or start anew where there is none.

        Raises:
            DataError: it is damaged.
        """
        if not path.is_file():
            return cls(path, {"version": 1, "results": {}})
        return cls(path, parse_object(read_bytes(path), str(path)))

    def enter(self, stage: str, **facts: Any) -> None:
        """Note the beginning of a stage, and facts, whole or not at all.

        Raises:
            StorageError: the disk is full or the folder not writable.
        """
        logger.info("fit: %s", stage)
        self.note(stage=stage, **facts)

    def note(self, **facts: Any) -> None:
        """Note facts, as `enter`."""
        self.content |= facts
        write_text_atomic(self.path, json.dumps(self.content, indent=1) + "\n")


def digest_of(*parts: object) -> str:
    """Return a short hash of things that JSON can write."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def digest_of_file(path: Path) -> str:
    """Return a hash of the content of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:32]
