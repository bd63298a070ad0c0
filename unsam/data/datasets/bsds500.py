"""BSDS500 as region masks: every region that any annotator drew is one mask.

Several people cut the same photo, some coarsely and some finely; a photo's truth is the pool of
all their regions (Arbelaez et al., PAMI 2011). ``all`` is that pool as it is: near-copies of one
region by several people count several times, and slivers of the hand drawing count too.
``distinct`` keeps, largest first, the regions of 100 pixels or more that overlap every region
kept before by less than IoU 0.8; which those are is marked in the annotation file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from unsam.data.datasets.coco import load_coco_json
from unsam.data.datasets.record import ImageRecord
from unsam.errors import DataError

SPLITS = ("train", "val", "test")
POOLS = ("distinct", "all")


def load_bsds500(
    root: str | os.PathLike[str],
    split: str,
    pool: str = "distinct",
    image_root: str | os.PathLike[str] = "",
) -> list[ImageRecord]:
    """Read one split of BSDS500, all annotators of a photo pooled.

    Args:
        root: folder with ``bsds500_<split>.json`` and ``images``.
        split: one of `SPLITS`.
        pool: one of `POOLS`.
        image_root: another folder of photos, "" for ``images`` in `root`.

    Raises:
        DataError: as `load_coco_json`; or the regions are not marked as distinct or not.
        ValueError: another split or pool.
    """
    if split not in SPLITS or pool not in POOLS:
        raise ValueError(f"expected one of {SPLITS} and one of {POOLS}, got {split!r}, {pool!r}")
    path = Path(root) / f"bsds500_{split}.json"
    if pool == "all":
        return load_coco_json(path, image_root)

    def is_distinct(annotation: dict[str, Any]) -> bool:
        if "distinct" not in annotation:
            raise DataError(f"{path}: annotation {annotation.get('id', '?')} has no 'distinct'")
        return bool(annotation["distinct"])

    return load_coco_json(path, image_root, keep=is_distinct)
