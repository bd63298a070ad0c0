"""The graph of a partition, and pooling over its regions."""

from __future__ import annotations

import numpy as np

from unsam.regions.region_graph import RegionGraph, relabel


def test_graph_against_brute_force():
    rng = np.random.default_rng(0)
    labels = relabel(rng.integers(0, 6, (9, 11)))
    edge_map = rng.random((9, 11)).astype(np.float32)
    graph = RegionGraph.from_labels(labels, edge_map)
    found = {}
    for y in range(9):
        for x in range(11):
            for down, right in ((y + 1, x), (y, x + 1)):
                if down < 9 and right < 11 and labels[y, x] != labels[down, right]:
                    pair = tuple(sorted((int(labels[y, x]), int(labels[down, right]))))
                    value = (float(edge_map[y, x]) + float(edge_map[down, right])) / 2
                    found.setdefault(pair, []).append(value)
    assert graph.edges.tolist() == [list(pair) for pair in sorted(found)]
    assert graph.lengths.tolist() == [len(found[pair]) for pair in sorted(found)]
    assert np.allclose(graph.strength, [np.mean(found[pair]) for pair in sorted(found)])
    assert graph.sizes.sum() == labels.size


def test_pooling_is_the_mean_over_the_region():
    rng = np.random.default_rng(1)
    labels = relabel(rng.integers(0, 4, (8, 8)))
    features = rng.random((8, 8, 5)).astype(np.float32)
    graph = RegionGraph.from_labels(labels, np.zeros((8, 8), np.float32))
    pooled = graph.pool(features)
    expected = [features[labels == k].mean(axis=0) for k in range(labels.max() + 1)]
    assert np.allclose(pooled, expected, atol=1e-6)


def test_pooling_from_a_coarser_grid():
    labels = np.repeat(np.arange(2, dtype=np.int32), 8)[None].repeat(16, axis=0)
    graph = RegionGraph.from_labels(labels, np.zeros((16, 16), np.float32))
    grid = np.arange(16, dtype=np.float32).reshape(4, 4, 1)
    assert graph.pool(grid)[:, 0].tolist() == [grid[:, :2].mean(), grid[:, 2:].mean()]
