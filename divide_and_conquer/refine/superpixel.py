"""Masks snapped to small regions of even colour, whose borders lie on edges of the photo."""

from __future__ import annotations

import logging
from itertools import pairwise

import numpy as np
from fvcore.common.config import CfgNode

from divide_and_conquer.refine.acceptance import Acceptance, RefineReport
from divide_and_conquer.refine.crops import check_sizes
from divide_and_conquer.superpixels import felzenszwalb_regions
from unsam.errors import ConfigError
from unsam.regions.compiled import kernel
from unsam.structures import MaskSet, runs

logger = logging.getLogger(__name__)

# Longest side in pixels of what is cut into regions at once.
_TILE = 1024


class SuperpixelRefiner:
    """Replaces each mask by the regions of which more than half lies in it.

    The regions are made once for the whole photo, so that masks that touch keep touching.

    Attributes:
        supervised: whether it learned from masks made by people.
    """

    supervised = False

    def __init__(
        self, *, scale: float, sigma: float, min_size: int, acceptance: Acceptance
    ) -> None:
        """Keep the settings.

        Args:
            scale: see `felzenszwalb_regions`, as the next two.
            sigma: smoothing before, in pixels.
            min_size: smallest region in pixels.
            acceptance: when a refined mask is taken.

        Raises:
            ConfigError: a value is out of its range.
        """
        if scale <= 0:
            raise ConfigError(f"PSEUDO_MASKS.REFINE.SUPERPIXEL.SCALE must be over 0, got {scale}")
        self.scale = scale
        self.sigma = sigma
        self.min_size = min_size
        self.acceptance = acceptance

    @classmethod
    def from_config(cls, cfg: CfgNode) -> SuperpixelRefiner:
        """Build from PSEUDO_MASKS.REFINE, and REGIONS for what the regions have in common."""
        node = cfg.PSEUDO_MASKS
        return cls(
            scale=node.REFINE.SUPERPIXEL.SCALE,
            sigma=node.REGIONS.SIGMA,
            min_size=node.REGIONS.MIN_SIZE,
            acceptance=Acceptance(node.REFINE.MIN_IOU, node.REFINE.MAX_AREA_SHARE),
        )

    def __call__(self, photo: np.ndarray, masks: MaskSet) -> tuple[MaskSet, RefineReport]:
        """Return the refined masks of a photo ``uint8 [H, W, 3]`` (RGB) and what became of them.

        Number, order, score, granularity, parent and source stay. A mask keeps its old shape where
        no region belongs to it or the result is not accepted.

        Raises:
            ValueError: masks of another size than the photo.
        """
        check_sizes(photo, masks)
        if not masks.areas.any():
            return self.acceptance.apply(masks, [None] * len(masks))
        try:
            labels = self._regions(photo)
        except Exception as error:
            logger.warning("all masks keep their shapes, no regions were found: %s", error)
            return self.acceptance.apply(masks, [None] * len(masks))
        flat = np.ascontiguousarray(labels.T).reshape(-1)
        sizes = np.bincount(flat)
        regions = MaskSet(masks.size, *runs.encode_labels(flat, len(sizes)))
        return self.acceptance.apply(
            masks,
            [
                self._snapped(masks.runs_of(index), flat, sizes, regions)
                for index in range(len(masks))
            ],
        )

    def _regions(self, photo: np.ndarray) -> np.ndarray:
        """Return the regions ``int32 [H, W]`` of a photo; those of a large one end at its tiles.

        Regions are far smaller than a tile, and the method takes some 300 bytes for each pixel.
        """
        labels = np.empty(photo.shape[:2], np.int32)
        count = 0
        rows, columns = (_edges(side) for side in photo.shape[:2])
        for top, bottom in pairwise(rows):
            for left, right in pairwise(columns):
                place = np.s_[top:bottom, left:right]
                tile = felzenszwalb_regions(
                    np.ascontiguousarray(photo[place]),
                    scale=self.scale,
                    sigma=self.sigma,
                    min_size=self.min_size,
                )
                labels[place] = tile + count
                count += int(tile.max()) + 1
        return labels

    @staticmethod
    def _snapped(
        mask: np.ndarray, labels: np.ndarray, sizes: np.ndarray, regions: MaskSet
    ) -> np.ndarray | None:
        """Return the runs ``int32 [R, 2]`` of the regions that belong to a mask, None for none."""
        inside = np.zeros(len(sizes), np.int64)
        _count_labels(mask, labels, inside)
        chosen = np.flatnonzero(2 * inside > sizes)
        if not len(chosen):
            return None
        parts = np.concatenate([regions.runs_of(int(index)) for index in chosen])
        parts = parts[np.argsort(parts[:, 0])]
        # Regions are disjoint; those that touch become one run.
        starts = np.concatenate([[True], parts[1:, 0] != parts[:-1, 1]])
        ends = np.concatenate([starts[1:], [True]])
        return np.stack([parts[starts, 0], parts[ends, 1]], axis=1)


def _edges(side: int) -> list[int]:
    """Return where to cut a side into equal tiles of at most `_TILE` pixels."""
    tiles = -(-side // _TILE)
    return [side * index // tiles for index in range(tiles + 1)]


@kernel
def _count_labels(mask: np.ndarray, labels: np.ndarray, inside: np.ndarray) -> None:
    """Count in ``inside [N]`` the pixels of a mask's runs by their ``labels int32 [W * H]``."""
    for row in range(mask.shape[0]):
        for index in range(mask[row, 0], mask[row, 1]):
            inside[labels[index]] += 1
