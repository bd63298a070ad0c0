"""Scores of merged regions."""

from __future__ import annotations

import numpy as np

from unsam.regions.conquer import merge_regions
from unsam.regions.ranking import AREA_POWER, region_scores
from unsam.regions.region_graph import RegionGraph, relabel


def test_scores_against_boundaries_counted_on_pixels():
    rng = np.random.default_rng(0)
    labels = relabel(np.kron(rng.integers(0, 9, (5, 6)), np.ones((3, 3), int)))
    edge_map = rng.random(labels.shape).astype(np.float32)
    graph = RegionGraph.from_labels(labels, edge_map)
    features = rng.standard_normal((len(graph.sizes), 4))
    result = merge_regions(features, graph.sizes, graph.edges, [-1.0])
    scores = region_scores(graph, result.merges)
    expected = []
    members = [{leaf} for leaf in range(len(graph.sizes))]
    for a, b in result.merges:
        members.append(members[a] | members[b])
    for leaves in members:
        inside = np.isin(labels, list(leaves))
        values = []
        for one, other in (
            (np.s_[:-1], np.s_[1:]),
            (np.s_[:, :-1], np.s_[:, 1:]),
        ):
            means = (edge_map[one].astype(float) + edge_map[other]) / 2
            values.append(means[inside[one] != inside[other]])
        boundary = np.concatenate(values)
        mean = boundary.mean() if boundary.size else 0.0
        expected.append(mean * inside.sum() ** AREA_POWER)
    assert np.allclose(scores, np.array(expected) / max(expected), atol=1e-6)


def test_flat_photo():
    graph = RegionGraph.from_labels(np.zeros((4, 4), np.int32), np.zeros((4, 4), np.float32))
    assert region_scores(graph, np.zeros((0, 2), np.int64)).tolist() == [0]
