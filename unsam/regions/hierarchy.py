"""From a graph of regions to the masks of all its merges."""

from __future__ import annotations

import numpy as np

from unsam.regions.conquer import merge_regions
from unsam.regions.ranking import region_scores
from unsam.regions.region_graph import RegionGraph
from unsam.regions.spectral import spectral_embedding
from unsam.structures import MaskSet, RegionTree


def soft_cut_embedding(
    graph: RegionGraph,
    features: np.ndarray,
    *,
    dims: int,
    edge_scale: float,
    feature_scale: float,
) -> np.ndarray:
    """Embed regions by the soft cuts of their graph, see `unsam.regions.spectral`.

    The affinity of two neighbours is the length of their common boundary times
    ``exp(-strength / edge_scale - (1 - cosine) / feature_scale)``.

    Args:
        graph: the regions.
        features: ``float [N, D]``, what they look like.
        dims: eigenvectors.
        edge_scale: edge strength at which affinity falls to 1/e.
        feature_scale: unlikeness, 1 - cosine of the features, at which it does.

    Returns:
        ``float64 [N, d]``, d at most `dims`.
    """
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    first, second = graph.edges.T
    unlike = np.maximum(0.0, 1.0 - (unit[first] * unit[second]).sum(axis=1))
    affinity = graph.lengths * np.exp(-graph.strength / edge_scale - unlike / feature_scale)
    return spectral_embedding(graph.edges, affinity, graph.sizes, dims)


def hierarchy_masks(
    graph: RegionGraph, embedding: np.ndarray, thresholds: tuple[float, ...], source: str
) -> MaskSet:
    """Merge regions from the bottom up and return every region that there was, with its score.

    Args:
        graph: the starting regions.
        embedding: ``float [N, D]``; the pair with the largest cosine merges first.
        thresholds: similarities down to which pairs merge; -1 merges all.
        source: of the masks: "conquer" or "model".

    Returns:
        Largest first, with granularity and parents of the hierarchy.
    """
    merges = merge_regions(embedding, graph.sizes, graph.edges, thresholds).merges
    tree = RegionTree.from_merges(graph.labels, merges)
    return tree.masks(score=region_scores(graph, merges), source=source)
