"""Divide and conquer on one photo: a `MaskSet` of masks that nest, from fine to coarse."""

from __future__ import annotations

import cv2
import numpy as np
from fvcore.common.config import CfgNode

from divide_and_conquer.conquer import merge_regions
from divide_and_conquer.divide.build import Divider, build_divider
from divide_and_conquer.features.build import FeatureExtractor, build_features
from divide_and_conquer.features.classical import edge_strength
from divide_and_conquer.features.spectral import spectral_embedding
from divide_and_conquer.granularity import granularity_of_trees
from divide_and_conquer.ranking import region_scores
from divide_and_conquer.superpixels import RegionGraph, felzenszwalb_regions
from unsam.errors import ConfigError
from unsam.structures import MaskSet, RegionTree


class PseudoMasker:
    """Makes the pseudo masks of photos; reads no label and no weight.

    Example:
        ``PseudoMasker.from_config(get_cfg())(read_photo("a.jpg"))``
    """

    def __init__(
        self,
        *,
        features: FeatureExtractor,
        divider: Divider | None,
        work_size: int,
        region_scales: tuple[float, ...],
        region_sigma: float,
        region_min_size: int,
        embedding: str,
        embedding_dims: int,
        edge_scale: float,
        feature_scale: float,
        thresholds: tuple[float, ...],
        max_masks: int,
        min_area_share: float,
        nms_iou: float,
        containment: float,
        whole_image: bool,
    ) -> None:
        """Keep the settings; their meaning is in PSEUDO_MASKS of unsam/config/defaults.py.

        Raises:
            ConfigError: an unknown embedding, or no room for a mask.
        """
        if embedding not in ("spectral", "none"):
            raise ConfigError(f"PSEUDO_MASKS.EMBEDDING.NAME: '{embedding}' is not spectral or none")
        if not region_scales:
            raise ConfigError("PSEUDO_MASKS.REGIONS.SCALES needs at least one scale")
        if work_size < 1 or max_masks < 1:
            raise ConfigError("PSEUDO_MASKS: WORK_SIZE and MAX_MASKS must be 1 or more")
        self.features = features
        self.divider = divider
        self.work_size = work_size
        self.region_scales = region_scales
        self.region_sigma = region_sigma
        self.region_min_size = region_min_size
        self.embedding = embedding
        self.embedding_dims = embedding_dims
        self.edge_scale = edge_scale
        self.feature_scale = feature_scale
        self.thresholds = thresholds
        self.max_masks = max_masks
        self.min_area_share = min_area_share
        self.nms_iou = nms_iou
        self.containment = containment
        self.whole_image = whole_image

    @classmethod
    def from_config(cls, cfg: CfgNode) -> PseudoMasker:
        """Build from PSEUDO_MASKS."""
        node = cfg.PSEUDO_MASKS
        return cls(
            features=build_features(cfg),
            divider=build_divider(cfg),
            work_size=node.WORK_SIZE,
            region_scales=tuple(node.REGIONS.SCALES),
            region_sigma=node.REGIONS.SIGMA,
            region_min_size=node.REGIONS.MIN_SIZE,
            embedding=node.EMBEDDING.NAME,
            embedding_dims=node.EMBEDDING.DIMS,
            edge_scale=node.EMBEDDING.EDGE_SCALE,
            feature_scale=node.EMBEDDING.FEATURE_SCALE,
            thresholds=tuple(node.CONQUER.THRESHOLDS),
            max_masks=node.MAX_MASKS,
            min_area_share=node.MIN_AREA_SHARE,
            nms_iou=node.NMS_IOU,
            containment=node.CONTAINMENT,
            whole_image=node.WHOLE_IMAGE,
        )

    def __call__(self, photo: np.ndarray) -> MaskSet:
        """Return the masks of a photo ``uint8 [H, W, 3]`` (RGB), largest first.

        Every mask has as parent the smallest larger one that holds most of it, or is a root;
        granularity never decreases towards the parent.

        Raises:
            ValueError: not a photo.
        """
        if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8 or not photo.size:
            raise ValueError(f"expected uint8 [H, W, 3], got {photo.dtype} {list(photo.shape)}")
        work = _reduced(photo, self.work_size)
        masks = self._select(self._pool(work), work.shape[0] * work.shape[1])
        if masks.size != photo.shape[:2]:
            masks = masks.resize((photo.shape[0], photo.shape[1]))
        # Parents and granularity are those of the masks as they are handed out.
        masks = masks.with_parents(self.containment)
        return masks.replace(granularity=granularity_of_trees(masks.areas, masks.parent))

    def embed(self, photo: np.ndarray) -> list[tuple[RegionGraph, np.ndarray]]:
        """Return the starting partitions and, per region, what it merges by.

        Args:
            photo: ``uint8 [H, W, 3]``, at working size.

        Returns:
            For each region scale the graph and ``float64 [N, D]``.
        """
        # Grain is no edge: smoothed where it does not cross one.
        smooth = cv2.bilateralFilter(photo, 5, 20, 3)
        edge_map, features = edge_strength(smooth), self.features(smooth)
        result = []
        for scale in self.region_scales:
            labels = felzenszwalb_regions(
                photo, scale=scale, sigma=self.region_sigma, min_size=self.region_min_size
            )
            graph = RegionGraph.from_labels(labels, edge_map)
            result.append((graph, self._embedding(graph, graph.pool(features))))
        return result

    def _embedding(self, graph: RegionGraph, features: np.ndarray) -> np.ndarray:
        if self.embedding == "none":
            return features
        unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
        first, second = graph.edges.T
        unlike = np.maximum(0.0, 1.0 - (unit[first] * unit[second]).sum(axis=1))
        affinity = graph.lengths * np.exp(
            -graph.strength / self.edge_scale - unlike / self.feature_scale
        )
        return spectral_embedding(graph.edges, affinity, graph.sizes, self.embedding_dims)

    def _pool(self, photo: np.ndarray) -> list[MaskSet]:
        """Return root, objects and merged regions, at working size."""
        height, width = photo.shape[:2]
        partitions = self.embed(photo)
        pool = []
        if self.whole_image:
            pool.append(MaskSet.from_masks(np.ones((1, height, width), bool), source="divide"))
        if self.divider is not None:
            # The last partition has the largest regions, which is enough for whole objects.
            pool.append(self.divider(photo, *partitions[-1]))
        for graph, embedded in partitions:
            merges = merge_regions(embedded, graph.sizes, graph.edges, self.thresholds).merges
            tree = RegionTree.from_merges(graph.labels, merges)
            score = region_scores(graph, merges)
            pool.append(tree.masks(source="conquer", score=score))
        return pool

    def _select(self, pool: list[MaskSet], pixels: int) -> MaskSet:
        """Return the best masks of the pool without near copies, largest first."""
        masks = MaskSet.cat(pool)
        area = masks.areas
        # Merged regions of all pixels would be copies of the root.
        keep = (area < pixels) & (area >= self.min_area_share * pixels)
        keep[0] |= self.whole_image
        keep[area.argmax()] |= not keep.any()
        masks = masks.filter(keep)
        # `nms` returns the best first, so the cap keeps the best.
        kept = masks.nms(self.nms_iou, order="score")[: self.max_masks]
        return masks.filter(kept).sort(by="area")


def _reduced(photo: np.ndarray, longest: int) -> np.ndarray:
    """Return the photo with its longer side reduced to `longest`; smaller ones unchanged."""
    height, width = photo.shape[:2]
    if max(height, width) <= longest:
        return np.ascontiguousarray(photo)
    factor = longest / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
