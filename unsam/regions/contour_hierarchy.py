"""A photo and its contours to regions of all scales: how a model segments whole photos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from fvcore.common.config import CfgNode
from scipy import ndimage
from skimage.morphology import h_minima
from skimage.segmentation import watershed

from unsam.regions.colour import colour_histograms
from unsam.regions.hierarchy import hierarchy_masks, soft_cut_embedding
from unsam.regions.region_graph import RegionGraph, relabel
from unsam.structures import MaskSet


class ContourHierarchy:
    """Callable: contours and colours of a photo to the masks of several hierarchies of regions.

    Watersheds of the contours, of a fine and of coarser scales, are the starting regions. Each
    partition merges by the soft cuts of its graph, whose affinities are weak contours and like
    colours, until one region is left; every merge is a mask, scored by the contour all around it.

    Args:
        basins: for each partition ``(sigma, depth)``: standard deviation of the smoothing in
            pixels, and the depth, in contour strength, below which a basin is filled.
        gain: edge strength of a sure contour; `edge_scale` is 1.
        feature_scale: unlikeness of colours at which affinity falls to 1/e.
        dims: eigenvectors of the soft cuts.
        colour_bins: of each Lab channel.
        nms_iou: of two masks with a larger IoU the one with less score goes.
        max_masks: the most masks of a photo.
        min_area_share: least area of a mask, as a share of the photo.

    Raises:
        ValueError: basins that are no pairs, or a number out of its range.
    """

    def __init__(
        self,
        *,
        basins: Sequence[Sequence[float]] = ((0.7, 0.01), (1.0, 0.04), (1.5, 0.1)),
        gain: float = 6.0,
        feature_scale: float = 0.15,
        dims: int = 24,
        colour_bins: int = 16,
        nms_iou: float = 0.9,
        max_masks: int = 1000,
        min_area_share: float = 0.0004,
    ) -> None:
        if not basins or any(len(pair) != 2 or min(pair) < 0 for pair in basins):
            raise ValueError(f"BASINS are pairs of smoothing and depth, at least 0, got {basins}")
        if not (gain > 0 and feature_scale > 0):
            raise ValueError(f"GAIN and FEATURE_SCALE are over 0, got {gain} and {feature_scale}")
        self.basins = tuple((float(sigma), float(depth)) for sigma, depth in basins)
        self.gain = gain
        self.feature_scale = feature_scale
        self.dims = dims
        self.colour_bins = colour_bins
        self.nms_iou = nms_iou
        self.max_masks = max_masks
        self.min_area_share = min_area_share

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate ``MODEL.CONTOURS`` and ``INFERENCE`` into the constructor's arguments."""
        node = cfg.MODEL.CONTOURS
        return {
            "basins": node.BASINS,
            "gain": node.GAIN,
            "feature_scale": node.FEATURE_SCALE,
            "max_masks": cfg.INFERENCE.MAX_MASKS,
        }

    def __call__(self, contours: np.ndarray, photo: np.ndarray) -> MaskSet:
        """Return the best masks of all scales, largest first.

        Args:
            contours: ``float32 [H, W]`` in [0, 1], how sure there is a contour at a pixel.
            photo: ``uint8 [H, W, 3]``, RGB, of the same size.
        """
        smooth = cv2.bilateralFilter(photo, 5, 20, 3)
        colours = colour_histograms(smooth, self.colour_bins)
        pool = [self._hierarchy(contours, colours, *basin) for basin in self.basins]
        masks = MaskSet.cat(pool)
        masks = masks.filter(masks.areas >= self.min_area_share * contours.size)
        kept = masks.nms(self.nms_iou, order="score")[: self.max_masks]
        return masks.filter(kept).sort(by="area")

    def _hierarchy(
        self, contours: np.ndarray, colours: np.ndarray, sigma: float, depth: float
    ) -> MaskSet:
        labels = basins_of(contours, sigma, depth)
        graph = RegionGraph.from_labels(labels, self.gain * contours)
        embedding = soft_cut_embedding(
            graph,
            graph.pool(colours),
            dims=self.dims,
            edge_scale=1.0,
            feature_scale=self.feature_scale,
        )
        return hierarchy_masks(graph, embedding, (-1.0,), source="model")


def basins_of(contours: np.ndarray, sigma: float, depth: float) -> np.ndarray:
    """Partition a photo into the catchment basins of its contours (watershed).

    Args:
        contours: ``float32 [H, W]``.
        sigma: standard deviation of the smoothing before, in pixels.
        depth: basins that are less deep are filled.

    Returns:
        ``int32 [H, W]``, 0 to N - 1 in the order of their first pixels.
    """
    smooth = cv2.GaussianBlur(contours, (0, 0), sigma) if sigma > 0 else contours
    # Whole numbers: h_minima adds to floats what rounding takes away, and is slow at it.
    levels = np.round(smooth * 1000).astype(np.int16)
    step = max(1, round(depth * 1000))
    markers, _ = ndimage.label(h_minima(levels, step), np.ones((3, 3)))
    return relabel(watershed(levels, markers).astype(np.int32))
