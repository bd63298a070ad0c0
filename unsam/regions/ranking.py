"""How good a merged region is, without labels: is there an edge all around it?"""

from __future__ import annotations

import numpy as np

from unsam.regions.compiled import kernel
from unsam.regions.region_graph import RegionGraph

# Among regions with equally strong boundaries the larger ones are the likelier segments.
AREA_POWER = 0.4


def region_scores(graph: RegionGraph, merges: np.ndarray) -> np.ndarray:
    """Score every node of a merging hierarchy.

    The score is the mean edge strength along the region's boundary (without the border of the
    photo) times its area to the power `AREA_POWER`, divided by the largest value of the hierarchy.

    Args:
        graph: the starting regions.
        merges: ``int64 [K, 2]``; merge k makes node N + k.

    Returns:
        ``float32 [N + K]`` in [0, 1].
    """
    nodes = len(graph.sizes) + len(merges)
    area = np.zeros(nodes)
    area[: len(graph.sizes)] = graph.sizes
    lengths, totals = _outer_boundaries(
        graph.edges, graph.lengths, graph.strength, merges, area, len(graph.sizes)
    )
    score = totals / np.maximum(lengths, 1) * area**AREA_POWER
    return (score / max(score.max(), 1e-12)).astype(np.float32)


@kernel
def _outer_boundaries(
    edges: np.ndarray,
    edge_lengths: np.ndarray,
    strength: np.ndarray,
    merges: np.ndarray,
    area: np.ndarray,
    count: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return boundary length and summed strength of each node; completes `area`."""
    nodes = count + len(merges)
    parent = np.full(nodes, -1)
    lengths, totals = np.zeros(nodes), np.zeros(nodes)
    for k in range(len(merges)):
        parent[merges[k, 0]] = parent[merges[k, 1]] = count + k
    for e in range(len(edges)):
        # The edge is on the boundary of each node that holds one end: up to where they meet.
        # Node numbers grow towards the root, so the smaller of the two climbs.
        a, b = edges[e]
        while a != b and max(a, b) >= 0:
            if b < 0 or (0 <= a < b):
                lengths[a] += edge_lengths[e]
                totals[a] += edge_lengths[e] * strength[e]
                a = parent[a]
            else:
                lengths[b] += edge_lengths[e]
                totals[b] += edge_lengths[e] * strength[e]
                b = parent[b]
    for k in range(len(merges)):
        area[count + k] = area[merges[k, 0]] + area[merges[k, 1]]
    return lengths, totals
