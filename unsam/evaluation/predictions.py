"""Masks of a COCO results file, of any model and any program, as a segmenter of their photos."""

from __future__ import annotations

import json
import logging
import math
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode

from unsam.annotations.records import read_bytes
from unsam.data import ImageRecord, get_dataset
from unsam.errors import ConfigError, DataError, counted
from unsam.evaluation.build import SEGMENTERS
from unsam.evaluation.evaluator import rank_and_world
from unsam.evaluation.stored_masks import StoredMasks

logger = logging.getLogger(__name__)

_KEPT = ("segmentation", "score", "granularity")
_TEXT = "\0text"


@SEGMENTERS.register()
class StoredPredictions(StoredMasks):
    """Answers with the masks of a results file: a list of ``{image_id, segmentation, score}``.

    Such a list cannot say that nothing was found in a photo. Photos of the dataset that have no
    prediction are therefore an error, the sign of a run that did not finish, unless
    `allow_partial` is set. A file may instead be an object ``{"images": [{"id": ...}, ...],
    "annotations": [...]}``; the photos that it lists were segmented, whatever was found in them.
    Photos without predictions count, as photos without masks, and a warning says how many.

    Args:
        path: the file.
        records: the photos of the dataset, all of them; their own masks are not looked at.
        allow_partial: whether photos may be missing in the file.
        max_images: only the first so many photos are evaluated, so that no other is missing; 0 for
            all.
        max_masks: most masks per photo, the best by score.

    Raises:
        DataError: the file is missing, truncated or no results file, has predictions for a photo
            that is not in the dataset, or none for one that is.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        records: Sequence[ImageRecord],
        *,
        allow_partial: bool = False,
        max_images: int = 0,
        max_masks: int = 1000,
    ) -> None:
        predictions, listed = _read_predictions(Path(path))
        names = {record.image_id: record.file_name for record in records}
        unknown = sorted((set(predictions) | listed) - set(names))
        if unknown:
            photos = counted([str(key) for key in unknown], "image ids")
            raise DataError(
                f"{path}: {photos} are not in the dataset of {len(names)} photos; evaluate "
                "on the dataset that the file was made for"
            )
        used = [record.image_id for record in records[: max_images or None]]
        missing = [names[key] for key in used if key not in predictions and key not in listed]
        if missing and not allow_partial:
            raise DataError(
                f"{path}: no prediction for {counted(missing, f'of {len(used)} photos')}; if "
                "nothing was found in them, set EVALUATION.ALLOW_PARTIAL True (--allow-partial)"
            )
        empty = [names[key] for key in used if key not in predictions]
        if empty and rank_and_world()[0] == 0:
            logger.warning(
                "%s: no prediction for %s; they count as photos without masks",
                path,
                counted(empty, f"of {len(used)} photos"),
            )
        stored = [
            ImageRecord(
                record.image_id,
                record.file_name,
                *record.size,
                b"[" + b",".join(predictions.get(record.image_id, ())) + b"]",
            )
            for record in records
        ]
        super().__init__(str(path), max_masks, records=stored)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> StoredPredictions:
        """Build from EVALUATION, for the one dataset of ``DATASETS.TEST``."""
        node = cfg.EVALUATION
        if not node.PREDICTIONS:
            raise ConfigError("EVALUATION.PREDICTIONS is empty; name a COCO results file")
        if len(cfg.DATASETS.TEST) != 1:
            raise ConfigError(
                f"a results file is of one dataset, DATASETS.TEST names {len(cfg.DATASETS.TEST)}; "
                "name the one that EVALUATION.PREDICTIONS was made for"
            )
        return cls(
            node.PREDICTIONS,
            get_dataset(cfg.DATASETS.TEST[0], cfg.DATASETS.IMAGE_ROOT),
            allow_partial=node.ALLOW_PARTIAL,
            max_images=node.MAX_IMAGES,
            max_masks=max(node.MAX_DETECTIONS),
        )

    def set_photo(self, record: ImageRecord) -> None:
        """Take the predictions for a photo for the calls that follow.

        Raises:
            DataError: one is of another size than the photo, or cannot be read.
        """
        try:
            super().set_photo(record)
        except DataError as error:
            raise DataError(f"{self.dataset}: {error}") from None

    @staticmethod
    def _key(record: ImageRecord) -> str:
        return str(record.image_id)


def _read_predictions(path: Path) -> tuple[dict[int, list[bytes]], set[int]]:
    """Return image id -> the JSON text of its predictions, best first, and the ids that are listed.

    Text, since it takes a tenth of the memory that Python's objects take. Sorted here, since scores
    in files have more digits than those of a `MaskSet`.
    """
    try:
        content = json.loads(read_bytes(path), object_hook=_packed)
    except DataError:
        raise
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: truncated or not JSON ({reason})") from None
    images: Any = []
    if isinstance(content, dict):
        images, content = content.get("images"), content.get("annotations")
    if not isinstance(content, list) or not isinstance(images, list):
        raise DataError(
            f"{path}: expected a list of {{image_id, segmentation, score}}, or an object with "
            "lists 'images' and 'annotations'"
        )
    grouped: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for place, row in enumerate(content):
        if not isinstance(row, dict) or _TEXT not in row:
            raise DataError(
                f"{path}: prediction {place} needs an integer 'image_id', a 'segmentation' and a "
                "finite 'score'"
            )
        grouped[row["image_id"]].append(row)
    try:
        listed = {int(image["id"]) for image in images}
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{path}: an image without a number as its 'id'") from None
    best_first = {
        image_id: [row[_TEXT] for row in sorted(rows, key=lambda row: -row["score"])]
        for image_id, rows in grouped.items()
    }
    return best_first, listed


def _packed(item: dict[str, Any]) -> dict[str, Any]:
    """Turn a usable prediction into its text as soon as it is parsed; leave all else as it is."""
    image_id, score = item.get("image_id"), item.get("score")
    if (
        "segmentation" not in item
        or type(image_id) is not int
        or not isinstance(score, (int, float))
        or not math.isfinite(score)
    ):
        return item
    kept = {key: item[key] for key in _KEPT if key in item}
    text = json.dumps(kept, separators=(",", ":")).encode("ascii")
    return {"image_id": image_id, "score": score, _TEXT: text}
