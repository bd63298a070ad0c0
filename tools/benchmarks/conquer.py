"""The merging core on patch grids with 768 features, beside a plain heap with lazy deletion."""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

DIMS = 768


def benchmark_conquer() -> dict[str, Any]:
    """Return milliseconds per grid (median), merging everything, on one core."""
    from benchmark import median_seconds
    from unsam.regions.conquer import grid_edges, merge_regions

    def milliseconds(features: np.ndarray, side: int, repeats: int = 3) -> float:
        edges = grid_edges(side, side)
        run = lambda: merge_regions(features, None, edges, [-1.0])  # noqa: E731
        return 1000 * median_seconds(run, repeats, warm_up=1)

    small = smooth(32)
    figures: dict[str, Any] = {"smooth_32x32_ms": milliseconds(small, 32, repeats=15)}
    edges = grid_edges(32, 32)
    ours = merge_regions(small, None, edges, [-1.0]).merges
    theirs = plain_heap_merges(small, edges)
    figures["plain_python_heap_32x32_ms"] = 1000 * median_seconds(
        lambda: plain_heap_merges(small, edges), 3, warm_up=0
    )
    figures["identical_to_plain_heap_32x32"] = bool(np.array_equal(ours, theirs))
    figures["smooth_96x96_ms"] = milliseconds(smooth(96), 96)
    for name, features in hard_grids(96).items():
        figures[f"{name}_96x96_ms"] = milliseconds(features, 96, repeats=1)
    figures["worst_96x96_ms"] = max(v for k, v in figures.items() if k.endswith("96x96_ms"))
    return figures


def smooth(side: int) -> np.ndarray:
    """Return ``float32 [side * side, 768]``: noise blurred over the grid, as ViT patches are."""
    noise = np.random.default_rng(0).standard_normal((side, side, DIMS)).astype(np.float32)
    return gaussian_filter(noise, (2, 2, 0)).reshape(-1, DIMS)


def hard_grids(side: int) -> dict[str, np.ndarray]:
    """Return grids on which one cluster gets thousands of neighbours, or everything ties."""
    rng = np.random.default_rng(0)
    count = side * side
    noise = rng.standard_normal((count, DIMS))
    unit = noise / np.linalg.norm(noise, axis=1, keepdims=True)
    rows, columns = np.mgrid[:side, :side]
    grids = {"constant": np.ones((count, DIMS)), "noise": noise}
    for level in (1e-1, 1e-2, 1e-3, 1e-5, 1e-6, 1e-8):
        grids[f"near_constant_{level:g}"] = 1 + level * noise
    grids["checkerboard"] = noise[:2][((rows + columns) % 2).reshape(-1)]
    grids["two_vectors"] = noise[:2][rng.integers(0, 2, count)]
    grids["eight_vectors"] = noise[:8][rng.integers(0, 8, count)]
    # All equally far from the mean and from each other: no bound tells neighbours apart.
    grids["equal_angles"] = np.concatenate([np.ones((count, 1)), 0.1 * unit[:, 1:]], axis=1)
    grids["one_hot"] = 1 + 0.1 * np.eye(DIMS)[rng.integers(0, DIMS, count)]
    return grids


def plain_heap_merges(features: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the merges of the textbook way: push all pairs of each new cluster, skip dead ones."""
    sums = dict(enumerate(features.astype(np.float64)))
    norms = {node: np.sqrt(vector @ vector) for node, vector in sums.items()}
    near: dict[int, set[int]] = {node: set() for node in sums}
    heap = []
    for a, b in edges.tolist():
        near[a].add(b)
        near[b].add(a)
        heap.append((-(sums[a] @ sums[b]) / (norms[a] * norms[b]), a, b))
    heapq.heapify(heap)
    merges, new = [], len(features)
    while heap:
        _, a, b = heapq.heappop(heap)
        if a not in near or b not in near:
            continue
        merges.append((a, b))
        sums[new] = sums.pop(a) + sums.pop(b)
        norms[new] = np.sqrt(sums[new] @ sums[new])
        near[new] = (near.pop(a) | near.pop(b)) - {a, b}
        for c in near[new]:
            near[c] = (near[c] - {a, b}) | {new}
            similarity = (sums[c] @ sums[new]) / (norms[c] * norms[new])
            heapq.heappush(heap, (-similarity, c, new))
        new += 1
    return np.array(merges)
