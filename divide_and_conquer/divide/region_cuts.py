"""Objects of a photo by normalised cuts of its pixel-accurate regions; needs no weights."""

from __future__ import annotations

import numpy as np
from fvcore.common.config import CfgNode

from divide_and_conquer.divide.ncut import maskcut
from divide_and_conquer.features.build import FeatureExtractor
from divide_and_conquer.region_features import RegionFeatures, reduce_photo
from unsam.regions.region_graph import RegionGraph
from unsam.structures import MaskSet


class RegionCuts:
    """Divider: the objects of one photo by `max_objects` rounds of MaskCut on regions."""

    def __init__(
        self, *, regions: RegionFeatures, work_size: int, tau: float, max_objects: int
    ) -> None:
        """Keep the settings.

        Args:
            regions: gives the regions and their features.
            work_size: photos are reduced to this longer side.
            tau: cosine above which two regions are linked, in [-1, 1].
            max_objects: rounds; each gives at most one object.
        """
        self.regions = regions
        self.work_size = work_size
        self.tau = tau
        self.max_objects = max_objects

    @classmethod
    def from_config(cls, cfg: CfgNode, features: FeatureExtractor) -> RegionCuts:
        """Build from PSEUDO_MASKS."""
        node = cfg.PSEUDO_MASKS
        return cls(
            regions=RegionFeatures.from_config(cfg, features),
            work_size=node.WORK_SIZE,
            tau=node.DIVIDE.TAU,
            max_objects=node.DIVIDE.MAX_OBJECTS,
        )

    def __call__(self, photo: np.ndarray) -> MaskSet:
        """Return the objects of a photo ``uint8 [H, W, 3]`` (RGB), source ``divide``."""
        work = reduce_photo(photo, self.work_size)
        masks = self.of_regions(*self.regions.coarsest(work))
        size = (photo.shape[0], photo.shape[1])
        return masks if masks.size == size else masks.resize(size)

    def of_regions(self, graph: RegionGraph, features: np.ndarray) -> MaskSet:
        """Return the objects as masks of the size of `graph.labels`, source ``divide``.

        Args:
            graph: the regions of the photo.
            features: ``float [N, D]``, one row per region.
        """
        labels = graph.labels
        corners = np.array([labels[0, 0], labels[0, -1], labels[-1, 0], labels[-1, -1]])
        chosen = maskcut(
            features, graph.edges, corners, tau=self.tau, rounds=self.max_objects, sizes=graph.sizes
        )
        masks = [object_regions[labels] for object_regions in chosen if object_regions.any()]
        if not masks:
            return MaskSet.empty((labels.shape[0], labels.shape[1]))
        return MaskSet.from_masks(np.stack(masks), source="divide")
