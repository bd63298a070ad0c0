"""Classical segmenters that follow the gradient of a photo: watershed, and a hierarchy of it."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import cv2
import numpy as np
from fvcore.common.config import CfgNode

from unsam.evaluation.baselines import ClassicalSegmenter, check_granularities, check_photo
from unsam.evaluation.build import SEGMENTERS
from unsam.regions.contour_hierarchy import basins_of
from unsam.regions.ranking import region_scores
from unsam.regions.region_graph import RegionGraph
from unsam.structures import MaskSet, RegionTree


@SEGMENTERS.register()
class Watershed(ClassicalSegmenter):
    """Catchment basins of the colour gradient, the union of several depths.

    A basin less deep than the level's depth is filled, so that it joins a neighbour; the deepest
    level is the coarsest. Vincent and Soille, "Watersheds in digital spaces", PAMI 1991, with
    markers by the h-minima of the gradient; scikit-image's flooding.
    """

    def __init__(
        self,
        *,
        depths: Sequence[float] = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32),
        sigma: float = 1.5,
        max_masks: int = 1000,
    ) -> None:
        if not depths or min(depths) <= 0:
            raise ValueError(f"depths must be over 0, at least one, got {tuple(depths)}")
        super().__init__(num_levels=len(depths), max_masks=max_masks)
        self.depths = sorted(float(depth) for depth in depths)
        self.sigma = sigma

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Watershed:
        """Build from ``EVALUATION.BASELINES``."""
        node = cfg.EVALUATION.BASELINES
        return cls(
            depths=node.WATERSHED_DEPTHS, sigma=node.GRADIENT_SIGMA, max_masks=node.MAX_MASKS
        )

    def partition(self, image: np.ndarray, level: int) -> np.ndarray:
        """Return the basins at one depth."""
        return basins_of(colour_gradient(image, self.sigma), 0.0, self.depths[level])


@SEGMENTERS.register()
class ContourTree:
    """Regions of an ultrametric contour map of the gradient: one hierarchy, every merge a mask.

    The basins of the gradient merge two by two, those with the weakest mean gradient along their
    common boundary first, until one is left (Arbelaez, Maire, Fowlkes, Malik, "Contour detection
    and hierarchical image segmentation", PAMI 2011, section 4, with a plain colour gradient
    in place of their learned contours). Any two masks are nested or disjoint.

    Args:
        depth: basins of the gradient that are less deep are no starting regions.
        sigma: standard deviation of the smoothing before the gradient, in pixels.
        max_masks: most masks per photo, the best by score.
    """

    def __init__(self, *, depth: float = 0.01, sigma: float = 1.5, max_masks: int = 1000) -> None:
        if depth <= 0 or max_masks < 1:
            raise ValueError(f"depth and max_masks must be over 0, got {depth} and {max_masks}")
        self.depth = depth
        self.sigma = sigma
        self.max_masks = max_masks

    @classmethod
    def from_config(cls, cfg: CfgNode) -> ContourTree:
        """Build from ``EVALUATION.BASELINES``."""
        node = cfg.EVALUATION.BASELINES
        return cls(
            depth=node.CONTOUR_TREE_DEPTH, sigma=node.GRADIENT_SIGMA, max_masks=node.MAX_MASKS
        )

    def generate(
        self, image: np.ndarray, granularity: float | Sequence[float] | None = None
    ) -> MaskSet:
        """Return regions of the hierarchy, best first, at most `max_masks`.

        A region scores by the gradient all around it, see `unsam.regions.region_scores`.

        Args:
            image: ``uint8 [H, W, 3]``, RGB.
            granularity: None for all regions, else one or several values in [0.1, 1], for the
                regions that a cut of the hierarchy there leaves.

        Raises:
            ValueError: not a photo, or a granularity outside [0.1, 1].
        """
        check_photo(image)
        gradient = colour_gradient(image, self.sigma)
        graph = RegionGraph.from_labels(basins_of(gradient, 0.0, self.depth), gradient)
        merges = merge_weakest_boundaries(graph)
        tree = RegionTree.from_merges(graph.labels, merges)
        score = region_scores(graph, merges)
        if granularity is None:
            masks = tree.masks(score=score)
        else:
            masks = _cuts(tree, score, check_granularities(granularity))
        return masks.sort("score").filter(np.arange(min(len(masks), self.max_masks)))


def _cuts(tree: RegionTree, score: np.ndarray, granularities: np.ndarray) -> MaskSet:
    """Return the regions that cuts at some granularities leave, each once."""
    parts, seen = [], np.zeros(len(tree), bool)
    for value in granularities.tolist():
        labels = tree.cut(value)
        nodes = np.unique(labels)
        regions = MaskSet.from_label_map(labels).replace(
            score=score[nodes], granularity=tree.granularity[nodes]
        )
        parts.append(regions.filter(np.flatnonzero(~seen[nodes])))
        seen[nodes] = True
    return MaskSet.cat(parts)


def colour_gradient(image: np.ndarray, sigma: float) -> np.ndarray:
    """Return how fast colours change, ``float32 [H, W]``, 1 for a step from black to white.

    Central differences of the smoothed Lab channels, the length of all six together.

    Args:
        image: ``uint8 [H, W, 3]``, RGB.
        sigma: standard deviation of the smoothing, in pixels; 0 for none.
    """
    lab: np.ndarray = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) / 100
    if sigma > 0:
        lab = cv2.GaussianBlur(lab, (0, 0), sigma)
    padded = np.pad(lab, ((1, 1), (1, 1), (0, 0)), mode="edge")
    across = padded[1:-1, 2:] - padded[1:-1, :-2]
    down = padded[2:, 1:-1] - padded[:-2, 1:-1]
    return np.minimum(np.sqrt((across**2 + down**2).sum(axis=2)), 1.0)


def merge_weakest_boundaries(graph: RegionGraph) -> np.ndarray:
    """Merge the two regions with the weakest mean boundary, again and again, until one is left.

    The boundary of a merged region with a neighbour is the mean of its pieces, by their lengths.
    Of equal boundaries the one between the smaller node numbers merges first.

    Args:
        graph: of a connected photo.

    Returns:
        ``int64 [N - 1, 2]``; merge k makes node N + k.
    """
    neighbours: list[dict[int, tuple[float, float]]] = [{} for _ in graph.sizes]
    queue = []
    rows = zip(graph.edges.tolist(), graph.lengths.tolist(), graph.strength.tolist(), strict=True)
    for (first, second), length, strength in rows:
        neighbours[first][second] = neighbours[second][first] = (length, length * strength)
        queue.append((strength, first, second))
    heapq.heapify(queue)
    merges = []
    while queue:
        _, first, second = heapq.heappop(queue)
        # Merged regions have lost their neighbours, so old entries of the queue find none.
        if second not in neighbours[first]:
            continue
        node = len(neighbours)
        merges.append((first, second))
        joined: dict[int, tuple[float, float]] = {}
        for part in (first, second):
            for other, (length, total) in neighbours[part].items():
                if other not in (first, second):
                    del neighbours[other][part]
                    before = joined.get(other, (0.0, 0.0))
                    joined[other] = (before[0] + length, before[1] + total)
            neighbours[part] = {}
        neighbours.append(joined)
        for other, (length, total) in joined.items():
            neighbours[other][node] = (length, total)
            heapq.heappush(queue, (total / length, other, node))
    return np.array(merges, np.int64).reshape(-1, 2)
