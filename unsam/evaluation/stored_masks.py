"""Masks made earlier, such as a folder of pseudo masks, as a segmenter of their photos."""

from __future__ import annotations

from pathlib import Path

from fvcore.common.config import CfgNode

from unsam.data import ImageRecord, get_dataset
from unsam.errors import ConfigError, DataError
from unsam.evaluation.build import SEGMENTERS
from unsam.structures import MaskSet


@SEGMENTERS.register()
class StoredMasks:
    """Answers with the masks of a dataset (a folder of pseudo masks, a COCO-style JSON).

    Args:
        dataset: where the masks are; anything that ``DATASETS.TEST`` may hold.
        max_masks: most masks per photo, the best by score.
    """

    def __init__(self, dataset: str, max_masks: int = 1000) -> None:
        self.dataset = dataset
        self.max_masks = max_masks
        self._by_photo = {_key(item.file_name): item for item in get_dataset(dataset)}

    @classmethod
    def from_config(cls, cfg: CfgNode) -> StoredMasks:
        """Build from EVALUATION.STORED_MASKS and EVALUATION.MAX_DETECTIONS."""
        if not cfg.EVALUATION.STORED_MASKS:
            raise ConfigError("EVALUATION.STORED_MASKS is empty; name a folder of pseudo masks")
        return cls(cfg.EVALUATION.STORED_MASKS, max(cfg.EVALUATION.MAX_DETECTIONS))

    def masks_of(self, record: ImageRecord) -> MaskSet:
        """Return the stored masks of a photo, best first.

        Raises:
            DataError: there are none for this photo, or for one of another size.
        """
        stored = self._by_photo.get(_key(record.file_name))
        if stored is None:
            raise DataError(
                f"{self.dataset}: no masks for {record.file_name}; make them with "
                f"`unsam pseudo-masks --input {Path(record.file_name).parent} --output DIR`"
            )
        masks = stored.masks()
        if masks.size != record.size:
            raise DataError(f"{self.dataset}: masks of {masks.size}, photo of {record.size}")
        best = masks.sort("score")
        return best.filter(range(min(len(best), self.max_masks)))


def _key(file_name: str) -> str:
    return str(Path(file_name).resolve())
