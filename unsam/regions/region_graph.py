"""Which regions of a partition touch which, and how strong the edge between them is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unsam.regions.compiled import kernel


@dataclass(frozen=True)
class RegionGraph:
    """Regions that partition a photo, and their 4-neighbour adjacency.

    Attributes:
        labels: ``int32 [H, W]``, 0 to N - 1, each occurs.
        sizes: ``int64 [N]`` pixels.
        edges: ``int64 [E, 2]``, unique, smaller id first, sorted.
        lengths: ``int64 [E]``, pixel pairs along the common boundary.
        strength: ``float64 [E]``, mean of an edge map along the common boundary.
    """

    labels: np.ndarray
    sizes: np.ndarray
    edges: np.ndarray
    lengths: np.ndarray
    strength: np.ndarray

    @classmethod
    def from_labels(cls, labels: np.ndarray, edge_map: np.ndarray) -> RegionGraph:
        """Build the graph of ``labels int32 [H, W]``; `edge_map` is ``float32 [H, W]``."""
        count = int(labels.max()) + 1
        codes, values = _boundaries(labels, edge_map, count)
        unique, inverse, lengths = np.unique(codes, return_inverse=True, return_counts=True)
        total = np.bincount(inverse, values, len(unique))
        return cls(
            labels,
            np.bincount(labels.reshape(-1), minlength=count),
            np.stack(np.divmod(unique, count), axis=1),
            lengths,
            total / np.maximum(lengths, 1),
        )

    def pool(self, features: np.ndarray) -> np.ndarray:
        """Return the mean feature of each region, ``float64 [N, D]``.

        Args:
            features: ``float [h, w, D]``; a coarser grid is read at the pixel's cell.
        """
        height, width = self.labels.shape
        rows = np.arange(height) * features.shape[0] // height
        columns = np.arange(width) * features.shape[1] // width
        cells = np.ascontiguousarray(features, np.float32)
        return (
            _region_sums(self.labels, cells, rows, columns, len(self.sizes)) / (self.sizes[:, None])
        )


def relabel(labels: np.ndarray) -> np.ndarray:
    """Number the labels of ``int [H, W]`` from 0, in the order of their first pixels: int32."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int32)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    return rank[inverse.reshape(-1)].reshape(labels.shape)


@kernel
def _boundaries(
    labels: np.ndarray, edge_map: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return, per pair of neighbouring pixels in different regions, pair code and edge value."""
    height, width = labels.shape
    codes = np.empty(2 * height * width, np.int64)
    values = np.empty(2 * height * width, np.float64)
    n = 0
    for y in range(height):
        for x in range(width):
            here = np.int64(labels[y, x])
            for step in range(2):
                down, right = y + step, x + 1 - step
                if down >= height or right >= width or labels[down, right] == here:
                    continue
                there = np.int64(labels[down, right])
                codes[n] = min(here, there) * count + max(here, there)
                values[n] = 0.5 * (edge_map[y, x] + edge_map[down, right])
                n += 1
    return codes[:n], values[:n]


@kernel
def _region_sums(
    labels: np.ndarray, features: np.ndarray, rows: np.ndarray, columns: np.ndarray, count: int
) -> np.ndarray:
    height, width = labels.shape
    sums = np.zeros((count, features.shape[2]), np.float64)
    for y in range(height):
        for x in range(width):
            cell = features[rows[y], columns[x]]
            target = sums[labels[y, x]]
            for d in range(features.shape[2]):
                target[d] += cell[d]
    return sums
