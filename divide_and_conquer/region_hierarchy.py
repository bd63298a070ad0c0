"""One hierarchy of pixel-accurate regions over the whole photo: the default of this project.

The published pipelines merge square patches inside the objects that a detector finds. Here the
starting regions follow the edges of the photo, at several scales, and merge until one is left;
every merge is a mask. A score, the strength of the edge all around, says which ones to keep.
"""

from __future__ import annotations

import numpy as np
from fvcore.common.config import CfgNode

from divide_and_conquer.divide.build import Divider, build_divider
from divide_and_conquer.divide.region_cuts import RegionCuts
from divide_and_conquer.features.build import build_features
from divide_and_conquer.refine.build import Refiner, RefineReport, build_refiner
from divide_and_conquer.region_features import RegionFeatures, reduce_photo
from unsam.errors import ConfigError
from unsam.regions.hierarchy import hierarchy_masks
from unsam.structures import MaskSet


class RegionHierarchy:
    """Callable: photo to the best regions of all scales, with the objects of the divider."""

    def __init__(
        self,
        *,
        regions: RegionFeatures,
        divider: Divider | None,
        refiner: Refiner | None,
        work_size: int,
        thresholds: tuple[float, ...],
        max_masks: int,
        min_area_share: float,
        nms_iou: float,
        whole_image: bool,
    ) -> None:
        """Keep the settings: PSEUDO_MASKS of unsam/config/pseudo_mask_defaults.py.

        Raises:
            ConfigError: no room for a mask.
        """
        if work_size < 1 or max_masks < 1:
            raise ConfigError("PSEUDO_MASKS: WORK_SIZE and MAX_MASKS must be 1 or more")
        self.regions = regions
        self.divider = divider
        self.refiner = refiner
        self.work_size = work_size
        self.thresholds = thresholds
        self.max_masks = max_masks
        self.min_area_share = min_area_share
        self.nms_iou = nms_iou
        self.whole_image = whole_image
        self.supervised = refiner is not None and refiner.supervised

    @classmethod
    def from_config(cls, cfg: CfgNode) -> RegionHierarchy:
        """Build from PSEUDO_MASKS."""
        node = cfg.PSEUDO_MASKS
        features = build_features(cfg)
        return cls(
            regions=RegionFeatures.from_config(cfg, features),
            divider=build_divider(cfg, features),
            refiner=build_refiner(cfg),
            work_size=node.WORK_SIZE,
            thresholds=tuple(node.CONQUER.THRESHOLDS),
            max_masks=node.MAX_MASKS,
            min_area_share=node.MIN_AREA_SHARE,
            nms_iou=node.NMS_IOU,
            whole_image=node.WHOLE_IMAGE,
        )

    def __call__(self, photo: np.ndarray, given: MaskSet) -> tuple[MaskSet, RefineReport]:
        """Return the masks of a photo ``uint8 [H, W, 3]`` (RGB), and how refinement went.

        Args:
            photo: RGB.
            given: masks that are true already (of people); they displace near copies.
        """
        size = (photo.shape[0], photo.shape[1])
        work = reduce_photo(photo, self.work_size)
        masks = self._select(self._pool(photo, work), given)
        if masks.size != size:
            masks = masks.resize(size)
        report = RefineReport()
        if self.refiner is not None:
            masks, report = self.refiner(photo, masks)
            # Different masks may have become the same.
            masks = self._distinct(masks, given)
        return (MaskSet.cat([given, masks]) if len(given) else masks), report

    def _pool(self, photo: np.ndarray, work: np.ndarray) -> MaskSet:
        """Return root, objects and merged regions, at working size."""
        height, width = work.shape[:2]
        partitions = self.regions(work)
        pool = []
        if self.whole_image:
            pool.append(MaskSet.from_masks(np.ones((1, height, width), bool), source="divide"))
        if isinstance(self.divider, RegionCuts):
            # The last partition has the largest regions, which is enough for whole objects.
            pool.append(self.divider.of_regions(*partitions[-1]))
        elif self.divider is not None:
            pool.append(self.divider(photo).resize((height, width)))
        for graph, features in partitions:
            pool.append(hierarchy_masks(graph, features, self.thresholds, source="conquer"))
        return MaskSet.cat(pool)

    def _select(self, masks: MaskSet, given: MaskSet) -> MaskSet:
        """Return the best masks of the pool without near copies, largest first."""
        area, pixels = masks.areas, masks.size[0] * masks.size[1]
        # Merged regions of all pixels would be copies of the root.
        keep = (area < pixels) & (area >= self.min_area_share * pixels)
        keep[0] |= self.whole_image
        keep[area.argmax()] |= not keep.any()
        return self._distinct(masks.filter(keep), given.resize(masks.size))

    def _distinct(self, masks: MaskSet, given: MaskSet) -> MaskSet:
        """Return the best masks that are no near copies of given ones, largest first."""
        if len(given):
            masks = masks.filter((masks.iou(given) <= self.nms_iou).all(axis=1))
        # `nms` returns the best first, so the cap keeps the best.
        room = max(self.max_masks - len(given), 0)
        kept = masks.nms(self.nms_iou, order="score")[:room]
        return masks.filter(kept).sort(by="area")
