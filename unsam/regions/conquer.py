"""Conquer: bottom-up merging of a region adjacency graph by feature similarity.

Source: iterative merging of UnSAM (arXiv 2406.20081, Algorithm 1) and UnSAMv2 (arXiv 2511.13714,
section 3.2). The rule is theirs: always merge the most similar adjacent pair, until that pair is
less similar than the threshold; the state carries over to the next threshold.

The similarity of two clusters is the cosine between the sums of their members' features weighted
by size, which is the cosine of their size-weighted means. It is computed in float64 and rounded to
multiples of 2^-48, and anything within 2^-38 (4e-12) of 1 counts as 1, so that pairs equal but for
rounding errors are ties. Ties go to the lowest (smaller node id, larger node id). A feature of
length zero has similarity 0 with everything.

How it is fast. A plain heap pushes and computes every neighbour of the merged cluster again, which
is quadratic as soon as one cluster has thousands of neighbours (flat photos). Here each edge
belongs to one of its clusters, the one merged last. When that cluster absorbs another one, its
direction turns by a known small angle; the angle to every neighbour shrinks by no more than that,
so all edges of the cluster keep their order by (angle when computed + turn when computed), and
one number per cluster, its total turn, lowers all their bounds at once. An edge is computed again
only when its bound says that it may be the best one. The choice stays exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unsam.regions.merging import merge_graph


@dataclass(frozen=True)
class MergeResult:
    """What a run of `merge_regions` merged.

    Attributes:
        merges: ``int64 [K, 2]``, the two node ids of each merge, the smaller first. Nodes 0 to N-1
            are the given regions; merge k makes node N + k.
        similarity: ``float64 [K]``, the similarity at which each pair merged. Not monotone: a
            merged cluster may be more alike to its neighbour than its members were.
        counts: ``int64 [T]``, the number of merges done after each threshold.
        num_regions: N.
    """

    merges: np.ndarray
    similarity: np.ndarray
    counts: np.ndarray
    num_regions: int

    def labels(self, num_merges: int | None = None) -> np.ndarray:
        """Return ``int64 [N]``: the node that each region belongs to after `num_merges` merges."""
        k = len(self.merges) if num_merges is None else int(num_merges)
        parent = np.arange(self.num_regions + k)
        made = self.num_regions + np.arange(k)
        parent[self.merges[:k, 0]] = made
        parent[self.merges[:k, 1]] = made
        # A parent has a larger id than its members: resolve from the last node down.
        for node in range(self.num_regions + k - 1, -1, -1):
            parent[node] = parent[parent[node]]
        return parent[: self.num_regions]


def merge_regions(
    features: np.ndarray,
    sizes: np.ndarray | None,
    edges: np.ndarray,
    thresholds: Sequence[float],
) -> MergeResult:
    """Merge adjacent regions greedily, most similar pair first.

    Args:
        features: ``float [N, D]``, the mean feature of each region; need not be normalised.
        sizes: ``[N]``, positive weights (pixels or patches); None is 1 for each.
        edges: ``int [E, 2]``, pairs of adjacent regions; direction and repetition do not matter.
        thresholds: for each, pairs merge while their similarity is at least this. Usually from
            high to low; a value above an earlier one merges nothing more.

    Returns:
        The merges in order and how many each threshold made.

    Raises:
        ValueError: shapes do not fit, a value is not finite, a size is not positive, or an edge
            names a region that does not exist.
    """
    features = np.asarray(features)
    weights = np.ones(len(features)) if sizes is None else np.asarray(sizes, np.float64)
    pairs = np.asarray(edges, np.int64).reshape(-1, 2)
    limits = np.asarray(thresholds, np.float64).reshape(-1)
    _check(features, weights, pairs, limits)
    pairs = canonical_edges(pairs, len(features))
    # `order="C"`: the kernel is compiled once, for rows that lie together in memory.
    sums = np.array(features, np.float64, order="C") * weights[:, None]
    merges, similarity, counts = merge_graph(sums, pairs, limits)
    return MergeResult(merges, similarity, counts, len(features))


def canonical_edges(edges: np.ndarray, num_regions: int) -> np.ndarray:
    """Return ``int64 [E', 2]``: each undirected edge once, smaller id first, sorted; no loops."""
    low = edges.min(axis=1) if len(edges) else np.zeros(0, np.int64)
    high = edges.max(axis=1) if len(edges) else np.zeros(0, np.int64)
    codes = np.unique(low * num_regions + high)
    pairs = np.stack(np.divmod(codes, max(num_regions, 1)), axis=1)
    return np.ascontiguousarray(pairs[pairs[:, 0] != pairs[:, 1]])


def grid_edges(height: int, width: int) -> np.ndarray:
    """Return ``int64 [E, 2]``: the 4-neighbour edges of a grid whose nodes are in row order."""
    index = np.arange(height * width).reshape(height, width)
    right = np.stack([index[:, :-1].ravel(), index[:, 1:].ravel()], axis=1)
    down = np.stack([index[:-1].ravel(), index[1:].ravel()], axis=1)
    return np.concatenate([right, down])


def _check(
    features: np.ndarray, weights: np.ndarray, pairs: np.ndarray, limits: np.ndarray
) -> None:
    if features.ndim != 2:
        raise ValueError(f"features must be [N, D], got shape {features.shape}")
    if weights.shape != (len(features),):
        raise ValueError(f"sizes must be [{len(features)}] as features, got {weights.shape}")
    if not np.isfinite(features).all():
        raise ValueError("features hold a value that is not finite")
    if len(weights) and not (np.isfinite(weights).all() and weights.min() > 0):
        raise ValueError("sizes must be positive and finite")
    if len(pairs) and (pairs.min() < 0 or pairs.max() >= len(features)):
        raise ValueError(f"edges name regions outside 0 to {len(features) - 1}")
    if np.isnan(limits).any():
        raise ValueError("thresholds hold a value that is not a number")
