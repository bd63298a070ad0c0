"""Merging a region graph to masks."""

from __future__ import annotations

import numpy as np

from unsam.regions.hierarchy import hierarchy_masks, soft_cut_embedding
from unsam.regions.region_graph import RegionGraph


def graph_of_quadrants() -> RegionGraph:
    labels = np.zeros((8, 8), np.int32)
    labels[:4, 4:], labels[4:, :4], labels[4:, 4:] = 1, 2, 3
    edges = np.zeros((8, 8), np.float32)
    edges[3:5] = 9.0
    return RegionGraph.from_labels(labels, edges)


def test_weak_edges_go_first() -> None:
    graph = graph_of_quadrants()
    same = np.ones((4, 2))
    embedding = soft_cut_embedding(graph, same, dims=3, edge_scale=1.0, feature_scale=0.1)
    masks = hierarchy_masks(graph, embedding, (-1.0,), source="model")
    assert sorted(masks.areas.tolist()) == [16] * 4 + [32] * 2 + [64]
    halves = masks.filter(masks.areas == 32)
    assert sorted(map(tuple, halves.boxes.tolist())) == [(0, 0, 8, 4), (0, 4, 8, 8)]
    assert set(masks.source) == {"model"}
    assert halves.score.min() > masks.filter(masks.areas == 16).score.max()


def test_unlike_neighbours_stay_apart() -> None:
    graph = graph_of_quadrants()
    left_right = np.array([[1.0, 0], [0, 1], [1, 0], [0, 1]])
    embedding = soft_cut_embedding(graph, left_right, dims=3, edge_scale=1e3, feature_scale=0.1)
    masks = hierarchy_masks(graph, embedding, (-1.0,), source="conquer")
    halves = masks.filter(masks.areas == 32)
    assert sorted(map(tuple, halves.boxes.tolist())) == [(0, 0, 4, 8), (4, 0, 8, 8)]
