"""Pictures of what the model makes of some photos."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unsam.data import ImageRecord
from unsam.engine import distributed
from unsam.engine.hooks.model_in_use import model_in_use
from unsam.engine.trainer import Hook, Trainer
from unsam.errors import first_line
from unsam.inference import Segmenter
from unsam.structures import MaskSet
from unsam.visualization import hstack, save_png
from unsam.visualization.levels import draw_levels, fit_photo, split_levels, tree_colours

_PANEL_SIDE = 320
_GAP = 6
# Granularities between the coarse, middle and fine masks.
_EDGES = (1.0, 0.4, 0.2, 0.1)
# The largest IoU of two answers that are both drawn.
_OVERLAP = 0.2

logger = logging.getLogger(__name__)


class SamplesHook(Hook):
    """Draws a PNG per photo each period; training goes on exactly as if it had not.

    The files are ``iter_<iteration>_<photo>.png``. Above: the photo and its masks in the dataset,
    coarse, middle and fine; below: the photo and what the model finds in all of it, likewise. Grey
    is what no mask covers. The main rank draws, the others wait.

    Args:
        period: steps between two pictures of a photo.
        records: the photos; of those with the same name the last is drawn.
        folder: made when missing.
    """

    def __init__(self, period: int, records: Sequence[ImageRecord], folder: Path) -> None:
        self._period = period
        self._records = {Path(record.file_name).stem: record for record in records}
        self._folder = folder

    def after_step(self, trainer: Trainer) -> None:
        """Draw when the period is full."""
        if trainer.iteration % self._period:
            return
        with model_in_use(trainer) as model:
            if distributed.is_main():
                self._draw(Segmenter(model, trainer.device), trainer.iteration)
        distributed.barrier()

    def _draw(self, segmenter: Segmenter, iteration: int) -> None:
        for name, record in self._records.items():
            path = self._folder / f"iter_{iteration:08d}_{name}.png"
            try:
                save_png(draw_sample(record, segmenter), path)
            except Exception as error:
                # A picture is not worth a run.
                logger.warning("%s is not drawn: %s", path, first_line(error))


def spread(records: Sequence[ImageRecord], count: int) -> list[ImageRecord]:
    """Return at most `count` of the records, at even distances."""
    count = min(count, len(records))
    return [records[place * len(records) // count] for place in range(count)]


def draw_sample(record: ImageRecord, segmenter: Segmenter) -> np.ndarray:
    """Return the picture of a photo, ``uint8 [h, w, 3]``, RGB; see `SamplesHook`.

    Raises:
        DataError: the photo or its masks cannot be read.
    """
    photo = record.read_photo()
    small = fit_photo(photo, _PANEL_SIDE)
    rows = [
        hstack([small, *_levels(small, masks)], _GAP)
        for masks in (record.masks(), _best(segmenter.generate(photo)))
    ]
    white = np.full((_GAP, rows[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([rows[0], white, rows[1]])


def _best(masks: MaskSet) -> MaskSet:
    """Return the best of each level that hardly overlap; all of them would be cut to slivers."""
    levels = [index for _, _, index in split_levels(masks.granularity, _EDGES)]
    return masks.filter(
        np.concatenate([index[masks.filter(index).nms(_OVERLAP)] for index in levels])
    )


def _levels(photo: np.ndarray, masks: MaskSet) -> list[np.ndarray]:
    return [level.image for level in draw_levels(photo, masks, tree_colours(masks), _EDGES)]
