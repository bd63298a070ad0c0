"""The mask file of one photo: an SA-1B style record that can tell whether it is whole and current.

Its last key, ``digest``, is the SHA-256 of all text before it, so that any damage is seen; what it
was ``made_from`` (config, code version, photo) tells whether it must be made again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from unsam.annotations.records import image_id_of
from unsam.structures import MaskSet

_DIGEST = ',"digest":"'


@dataclass(frozen=True)
class RecordFacts:
    """What a manifest says about a finished photo."""

    sha256: str
    masks: int
    refinement: dict[str, int]

    def plain(self) -> dict[str, Any]:
        """Return the facts as a dict for JSON; counts of refinement only where there are any."""
        facts: dict[str, Any] = {"sha256": self.sha256, "masks": self.masks}
        return facts | ({"refinement": self.refinement} if self.refinement else {})


def write_record(
    masks: MaskSet, name: str, made_from: dict[str, Any], report: dict[str, Any]
) -> str:
    """Return the text of a mask file.

    Args:
        masks: of one photo.
        name: the photo's relative name.
        made_from: ``config``, ``code_version`` and the photo's ``sha256``.
        report: further facts to record, such as ``refinement`` (counts).
    """
    record = {**masks.to_sa1b(name, image_id_of(name)), **report, "made_from": made_from}
    text = json.dumps(record, separators=(",", ":"))
    return f'{text[:-1]}{_DIGEST}{_digest(text[:-1])}"}}'


def read_facts(text: str, made_from: dict[str, Any]) -> RecordFacts | None:
    """Return what a mask file holds; None if it is damaged, foreign or made from something else."""
    body, found, digest = text.rpartition(_DIGEST)
    if not found or digest != f'{_digest(body)}"}}':
        return None
    try:
        record = json.loads(text)
        if record["made_from"] != made_from:
            return None
        count = len(record["annotations"])
        return RecordFacts(made_from["sha256"], count, record.get("refinement", {}))
    except (ValueError, KeyError, TypeError):
        return None


def is_foreign(text: str) -> bool:
    """Tell whether a file holds somebody else's JSON: whole, not empty, and no mask file of ours.

    A mask file with one damaged byte is not taken for one.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return False
    if isinstance(content, dict):
        return bool(content) and not {"made_from", "digest"} & content.keys()
    return isinstance(content, list) and bool(content)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
