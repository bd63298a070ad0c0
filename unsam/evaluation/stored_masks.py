"""Masks made earlier, such as a folder of pseudo masks, as a segmenter of their photos."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fvcore.common.config import CfgNode
from numpy.typing import ArrayLike

from unsam.data import ImageRecord, get_dataset
from unsam.errors import ConfigError, DataError
from unsam.evaluation.build import SEGMENTERS
from unsam.evaluation.photo_results import photo_key
from unsam.structures import MaskSet


@SEGMENTERS.register()
class StoredMasks:
    """Answers with the masks of a dataset (a folder of pseudo masks, a COCO-style JSON).

    So the masks that a model was trained on can be measured like the model: as whole-image masks,
    and as answers to clicks. Pixels do not say which photo they are of: call `set_photo` first.

    Args:
        dataset: where the masks are; anything that ``DATASETS.TEST`` may hold.
        max_masks: most masks per photo, the best by score.
        records: the photos with the masks if they are read already; then `dataset` is a name only.
    """

    takes_prompts = True

    def __init__(
        self, dataset: str, max_masks: int = 1000, *, records: Sequence[ImageRecord] | None = None
    ) -> None:
        self.dataset = dataset
        self.max_masks = max_masks
        stored = get_dataset(dataset) if records is None else records
        self._by_photo = {self._key(item): item for item in stored}
        self._masks: MaskSet | None = None

    @classmethod
    def from_config(cls, cfg: CfgNode) -> StoredMasks:
        """Build from EVALUATION.STORED_MASKS and EVALUATION.MAX_DETECTIONS."""
        if not cfg.EVALUATION.STORED_MASKS:
            raise ConfigError("EVALUATION.STORED_MASKS is empty; name a folder of pseudo masks")
        return cls(cfg.EVALUATION.STORED_MASKS, max(cfg.EVALUATION.MAX_DETECTIONS))

    def digest(self) -> str:
        """Return a hash of where the masks are, and of the time of change of their files."""
        keys = sorted(photo_key(record) for record in self._by_photo.values())
        return hashlib.sha256(b"".join(keys)).hexdigest()

    def set_photo(self, record: ImageRecord) -> None:
        """Take the stored masks of a photo for the calls that follow.

        Raises:
            DataError: there are none for this photo, or for one of another size.
        """
        stored = self._by_photo.get(self._key(record))
        if stored is None:
            raise DataError(
                f"{self.dataset}: no masks for {record.file_name}; make them with "
                f"`unsam pseudo-masks --input {Path(record.file_name).parent} --output DIR`"
            )
        masks = stored.masks()
        if masks.size != record.size:
            raise DataError(f"{self.dataset}: masks of {masks.size}, photo of {record.size}")
        best = masks.sort("score")
        self._masks = best.filter(range(min(len(best), self.max_masks)))

    def set_image(self, image: np.ndarray) -> None:
        """Check that ``image uint8 [H, W, 3]`` can be the photo of `set_photo`.

        Raises:
            ValueError: no photo is set, or one of another size.
        """
        self._current(image)

    def generate(
        self, image: np.ndarray, granularity: float | Sequence[float] | None = None
    ) -> MaskSet:
        """Return all stored masks of the photo of `set_photo`, best first, of any granularity.

        Args:
            image: ``uint8 [H, W, 3]``, that photo.
            granularity: has no effect; masks of all granularities are stored.

        Raises:
            ValueError: see `set_image`.
        """
        del granularity
        return self._current(image)

    def predict_batch(
        self, points: ArrayLike, labels: ArrayLike, mask_logits: Any, granularity: ArrayLike
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Answer each prompt with the stored mask that fits its clicks best.

        That is, of the masks with the most positive clicks, those with the fewest negative ones;
        of these the one nearest in granularity, then the one with the higher score.

        Args:
            points: ``[P, K, 2]``, x and y in pixels of the photo.
            labels: ``[P, K]``, 1 on the object, 0 off it, -1 padding.
            mask_logits: has no effect.
            granularity: ``[P]`` or one for all, in [0.1, 1].

        Returns:
            Masks ``bool [P, H, W]``, empty where no mask has a positive click; the scores of the
            masks ``float32 [P]``, 0 for an empty one; zeros ``float32 [P, 1, 1]`` as logits.

        Raises:
            ValueError: no photo is set.
        """
        del mask_logits
        masks = self._current()
        kinds = np.asarray(labels)
        answers = np.zeros((len(kinds), *masks.size), bool)
        quality = np.zeros(len(kinds), np.float32)
        logits = np.zeros((len(kinds), 1, 1), np.float32)
        if not len(masks):
            return answers, quality, logits
        inside = _masks_at(masks, np.asarray(points, np.float64))
        right = (inside & (kinds == 1)[..., None]).sum(1)
        wrong = (inside & (kinds == 0)[..., None]).sum(1)
        wanted = np.broadcast_to(np.asarray(granularity, np.float32), len(kinds))
        distance = np.abs(masks.granularity - wanted[:, None])
        worth = np.broadcast_to(masks.score, right.shape)
        chosen = np.lexsort((-worth, distance, wrong, -right), axis=-1)[:, 0]
        found = np.take_along_axis(right, chosen[:, None], 1)[:, 0] > 0
        quality[found] = masks.score[chosen[found]]
        for index in np.unique(chosen[found]):
            answers[found & (chosen == index)] = masks.mask(int(index))
        return answers, quality, logits

    @staticmethod
    def _key(record: ImageRecord) -> str:
        """Return what tells photos apart: the file, since ids are each dataset's own."""
        return str(Path(record.file_name).resolve())

    def _current(self, image: np.ndarray | None = None) -> MaskSet:
        if self._masks is None:
            raise ValueError("no photo is set; call set_photo(record) first")
        if image is not None and image.shape[:2] != self._masks.size:
            raise ValueError(f"a photo of {image.shape[:2]}, masks of {self._masks.size}")
        return self._masks


def _masks_at(masks: MaskSet, points: np.ndarray) -> np.ndarray:
    """Return which masks lie under ``points [P, K, 2]`` (x, y), ``bool [P, K, N]``."""
    height, width = masks.size
    x = np.clip(points[..., 0], 0, width - 1).astype(np.int64)
    y = np.clip(points[..., 1], 0, height - 1).astype(np.int64)
    pixels, place = np.unique(x * height + y, return_inverse=True)
    dots = MaskSet(masks.size, np.stack([pixels, pixels + 1], axis=1), np.arange(len(pixels) + 1))
    return (dots.intersections(masks) > 0)[place.reshape(x.shape)]
