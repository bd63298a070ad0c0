"""One process that makes pseudo masks: ``python -m divide_and_conquer.worker``.

It reads one JSON message per line from standard input and answers each with one line: first
``{"config": PSEUDO_MASKS as YAML}``, then tasks. A process of its own, rather than a forked one,
so that a photo that exhausts the memory takes nothing else down, and so that the libraries start
with one thread each, whatever the caller runs.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import cv2
from fvcore.common.config import CfgNode

from divide_and_conquer.pipeline import PseudoMasker
from unsam.checkpoint.atomic import write_text_atomic
from unsam.config import get_cfg
from unsam.errors import UnsamError
from unsam.structures import read_photo

# With these, no later photo can be written either.
FATAL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


def make_one(masker: PseudoMasker, task: dict[str, Any]) -> dict[str, Any]:
    """Make the masks of one photo unless they are there already.

    Args:
        masker: the pipeline.
        task: ``photo`` and ``json`` (paths), ``name`` (relative to the image root), ``made_from``
            (config and code version that the file records, and that a file to keep must have).

    Returns:
        ``{"sha256", "masks", "kept"}``, or ``{"error": one line, "fatal": bool}``.
    """
    try:
        blob = Path(task["photo"]).read_bytes()
        made_from = {**task["made_from"], "sha256": hashlib.sha256(blob).hexdigest()}
        del blob
        count = masks_in(task["json"], made_from)
        if count is not None:
            return {"sha256": made_from["sha256"], "masks": count, "kept": True}
        masks = masker(read_photo(task["photo"]))
        record = masks.to_sa1b(task["name"], image_id_of(task["name"]))
        record["made_from"] = made_from
        write_text_atomic(task["json"], json.dumps(record, separators=(",", ":")))
        return {"sha256": made_from["sha256"], "masks": len(masks), "kept": False}
    except UnsamError as error:
        # A failed write carries the error of the operating system as its cause.
        number = error.__cause__.errno if isinstance(error, OSError) and isinstance(
            error.__cause__, OSError
        ) else None  # fmt: skip
        return {"error": _one_line(error), "fatal": number in FATAL_ERRORS}
    except (OSError, MemoryError, ValueError, ArithmeticError, cv2.error) as error:
        return {"error": f"{type(error).__name__}: {_one_line(error)}", "fatal": False}


def masks_in(path: str, made_from: dict[str, Any]) -> int | None:
    """Return how many masks a finished file holds; None if it is missing, broken or outdated."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        return len(record["annotations"]) if record["made_from"] == made_from else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def image_id_of(name: str) -> int:
    """Return a number for a photo that depends on its relative path alone, below 2^48."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:6], "big")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:2000] or type(error).__name__


def main() -> None:
    """Answer messages until standard input ends."""
    # What libraries print must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    cv2.setNumThreads(1)
    cfg = get_cfg()
    cfg.PSEUDO_MASKS.merge_from_other_cfg(
        CfgNode.load_cfg(json.loads(sys.stdin.readline())["config"])
    )
    masker = PseudoMasker.from_config(cfg)
    for line in sys.stdin:
        answers.write(json.dumps(make_one(masker, json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
