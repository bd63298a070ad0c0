"""One process that makes pseudo masks: ``python -m divide_and_conquer.generation.worker``.

It reads one JSON message per line from standard input and answers each with one line: first
``{"config": PSEUDO_MASKS as YAML, "device": "cpu" or "cuda"}``, then tasks. A process of its own,
rather than a forked one, so that a photo that exhausts the memory takes nothing else down, and so
that the libraries start with one thread each, whatever the caller runs.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import sys
from pathlib import Path
from typing import Any

import cv2
from fvcore.common.config import CfgNode

from divide_and_conquer.generation.records import (
    RecordFacts,
    is_foreign,
    read_facts,
    write_record,
)
from divide_and_conquer.pipeline import PseudoMasker, build_masker
from unsam.annotations.records import read_bytes
from unsam.checkpoint.atomic import write_text_atomic
from unsam.config import get_cfg
from unsam.errors import DataError, UnsamError
from unsam.structures import read_photo

# With these, no later photo can be written either.
FATAL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)

_PARENT = os.getppid()


def make_one(masker: PseudoMasker, task: dict[str, Any]) -> dict[str, Any]:
    """Make the masks of one photo unless they are there already.

    Args:
        masker: the pipeline, as `divide_and_conquer.pipeline.build_masker` returns it.
        task: ``photo`` (a file), for a member of a tar ``offset`` and ``size`` in it; ``json``
            (the file to write); ``name`` (relative to the image root); ``made_from`` (config and
            code version that the file records, and that a file to keep must have); and where a
            shard may hold the finished sample, ``packed`` (its ``path``, and ``photo`` and
            ``json``, each an offset and a size).

    Returns:
        ``{"sha256", "masks", "kept", "packed"}``, with ``refinement`` where there was any; or
        ``{"error": one line, "fatal": bool}``. ``packed`` tells that the shard's sample is whole.
    """
    try:
        blob = read_bytes(task["photo"], task.get("offset", 0), task.get("size", -1))
        made_from = {**task["made_from"], "sha256": hashlib.sha256(blob).hexdigest()}
        if "packed" in task:
            facts = _facts_in_shard(task, made_from)
            if facts is not None:
                return {**facts.plain(), "kept": True, "packed": True}
        kept = _facts_in_file(task["json"], made_from)
        facts = kept or _make(masker, task, blob, made_from)
        return {**facts.plain(), "kept": kept is not None, "packed": False}
    except UnsamError as error:
        # A failed write carries the error of the operating system as its cause.
        number = error.__cause__.errno if isinstance(error, OSError) and isinstance(
            error.__cause__, OSError
        ) else None  # fmt: skip
        return {"error": _one_line(error), "fatal": number in FATAL_ERRORS}
    except (OSError, MemoryError, ValueError, ArithmeticError, cv2.error) as error:
        return {"error": f"{type(error).__name__}: {_one_line(error)}", "fatal": False}


def _make(
    masker: PseudoMasker, task: dict[str, Any], blob: bytes, made_from: dict[str, Any]
) -> RecordFacts:
    in_tar = task.get("size", -1) >= 0
    photo = read_photo(f"{task['photo']}: {task['name']}" if in_tar else task["photo"], blob=blob)
    masks = masker(photo, name=task["name"])
    report = masker.report()
    if os.getppid() != _PARENT:
        # Nobody waits for the answer any more, and another run may have made this file since.
        raise SystemExit(1)
    _move_foreign(Path(task["json"]))
    write_text_atomic(task["json"], write_record(masks, task["name"], made_from, report))
    return RecordFacts(made_from["sha256"], len(masks), report.get("refinement", {}))


def _move_foreign(path: Path) -> None:
    """Move another program's JSON of this name aside: ``a.jpg.json`` becomes ``a.jpg.json.old1``.

    Tools for annotation write such names beside photos.
    """
    try:
        if not is_foreign(path.read_text(encoding="utf-8")):
            return
    except (OSError, ValueError):
        return
    names = (path.with_name(f"{path.name}.old{number}") for number in itertools.count(1))
    path.rename(next(name for name in names if not name.exists()))


def _facts_in_file(path: str, made_from: dict[str, Any]) -> RecordFacts | None:
    try:
        return read_facts(Path(path).read_text(encoding="utf-8"), made_from)
    except (OSError, ValueError):
        return None


def _facts_in_shard(task: dict[str, Any], made_from: dict[str, Any]) -> RecordFacts | None:
    """Return the facts of a sample that a shard holds whole.

    Masks whose photo in the shard is damaged are saved to the file of the task.
    """
    packed = task["packed"]
    try:
        text = read_bytes(packed["path"], *packed["json"]).decode("utf-8")
        facts = read_facts(text, made_from)
        if facts is None:
            return None
        photo = read_bytes(packed["path"], *packed["photo"])
    except (DataError, ValueError):
        return None
    if hashlib.sha256(photo).hexdigest() == made_from["sha256"]:
        return facts
    write_text_atomic(task["json"], text)
    return None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:2000] or type(error).__name__


def _load(message: dict[str, Any]) -> PseudoMasker:
    cfg = get_cfg()
    cfg.DEVICE = message["device"]
    cfg.PSEUDO_MASKS.merge_from_other_cfg(CfgNode.load_cfg(message["config"]))
    return build_masker(cfg)


def main() -> None:
    """Answer messages until standard input ends."""
    # What libraries print must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    cv2.setNumThreads(1)
    masker: PseudoMasker | None = None
    reply: dict[str, Any]
    for line in sys.stdin:
        message = json.loads(line)
        if masker is not None:
            reply = make_one(masker, message)
        else:
            try:
                masker, reply = _load(message), {"ready": True}
            except (UnsamError, OSError, RuntimeError, MemoryError) as error:
                reply = {"error": _one_line(error), "fatal": True}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
