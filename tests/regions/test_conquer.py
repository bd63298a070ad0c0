"""The merging core against a naive oracle, and its promises on ties and speed."""

from __future__ import annotations

import time

import numpy as np
import pytest

from unsam.regions.conquer import canonical_edges, grid_edges, merge_regions

SAME_FROM = 1 - 2.0**-38


def oracle(features, sizes, edges, thresholds):
    """Compute every pair anew and scan them all at each merge: O(N E)."""
    count = len(features)
    sums = {i: features[i].astype(float) * sizes[i] for i in range(count)}
    near = {i: set() for i in range(count)}
    for a, b in edges.tolist():
        if a != b:
            near[a].add(b)
            near[b].add(a)

    def similarity(a, b):
        lengths = np.sqrt(sums[a] @ sums[a]) * np.sqrt(sums[b] @ sums[b])
        cosine = np.clip((sums[a] @ sums[b]) / lengths, -1, 1) if lengths > 0 else 0.0
        return 1.0 if cosine >= SAME_FROM else np.rint(cosine * 2**48) / 2**48

    pairs = {(a, b): similarity(a, b) for a in near for b in near[a] if a < b}
    merges, values, counts = [], [], []
    for threshold in thresholds:
        while pairs:
            (a, b), value = min(pairs.items(), key=lambda item: (-item[1], item[0]))
            if value < threshold:
                break
            new = count + len(merges)
            merges.append((a, b))
            values.append(value)
            sums[new] = sums[a] + sums[b]
            near[new] = (near[a] | near[b]) - {a, b}
            for old in (a, b):
                for c in near[old]:
                    pairs.pop((min(old, c), max(old, c)), None)
                    near[c].discard(old)
            for c in near[new]:
                near[c].add(new)
                pairs[c, new] = similarity(c, new)
        counts.append(len(merges))
    return np.array(merges, int).reshape(-1, 2), np.array(values), counts


FEATURES = {
    "random": lambda rng, n: rng.standard_normal((n, 6)),
    "positive": lambda rng, n: np.abs(rng.standard_normal((n, 3))),
    "near-constant": lambda rng, n: 1 + 1e-2 * rng.standard_normal((n, 64)),
    "nearer-constant": lambda rng, n: 1 + 1e-4 * rng.standard_normal((n, 8)),
    "same-but-for-rounding": lambda rng, n: 1 + 1e-9 * rng.standard_normal((n, 8)),
    "constant": lambda rng, n: np.ones((n, 4)),
    "tied": lambda rng, n: rng.integers(0, 3, (n, 2)).astype(float),
    "opposite-and-zero": lambda rng, n: rng.integers(-1, 2, (n, 2)).astype(float),
}


def graph(rng, kind, count):
    if kind == "grid":
        side = int(np.sqrt(count))
        return side * side, grid_edges(side, side)
    if kind == "star":
        spokes = np.stack([np.zeros(count - 1, int), np.arange(1, count)], axis=1)
        return count, np.concatenate([spokes, rng.integers(0, count, (count, 2))])
    return count, rng.integers(0, count, (2 * count, 2))  # loops, repeats, several parts


@pytest.mark.parametrize("edges_kind", ["grid", "star", "any"])
@pytest.mark.parametrize("kind", FEATURES)
def test_same_merges_as_the_oracle(kind, edges_kind):
    rng = np.random.default_rng(list(FEATURES).index(kind))
    for _ in range(8):
        count, edges = graph(rng, edges_kind, int(rng.integers(2, 70)))
        features = FEATURES[kind](rng, count)
        sizes = rng.integers(1, 5, count).astype(float)
        thresholds = [0.9, 0.5, 0.0, -1.0]
        merges, values, counts = oracle(features, sizes, edges, thresholds)
        result = merge_regions(features, sizes, edges, thresholds)
        assert np.array_equal(result.merges, merges)
        assert np.allclose(result.similarity, values, rtol=0, atol=1e-12)
        assert result.counts.tolist() == counts


def test_hubs_with_many_neighbours_match_the_oracle():
    """All features equally far from each other: bounds tell nothing, guesses come into use."""
    rng = np.random.default_rng(7)
    noise = rng.standard_normal((576, 64))
    noise *= 0.1 / np.linalg.norm(noise, axis=1, keepdims=True)
    features = np.concatenate([np.ones((576, 1)), noise], axis=1)
    edges = grid_edges(24, 24)
    merges, _, _ = oracle(features, np.ones(576), edges, [-1.0])
    assert np.array_equal(merge_regions(features, None, edges, [-1.0]).merges, merges)


def test_ties_go_to_the_lowest_ids():
    result = merge_regions(np.ones((4, 3)), None, grid_edges(1, 4), [0.5])
    assert result.merges.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_state_is_kept_from_one_threshold_to_the_next():
    rng = np.random.default_rng(0)
    features, edges = rng.standard_normal((100, 4)), grid_edges(10, 10)
    steps = merge_regions(features, None, edges, [0.9, 0.6, 0.2])
    once = merge_regions(features, None, edges, [0.2])
    assert np.array_equal(steps.merges, once.merges)
    assert (np.diff(steps.counts) >= 0).all()
    assert steps.counts[-1] == len(once.merges)
    again = merge_regions(features, None, edges, [0.6, 0.9])
    assert again.counts[0] == again.counts[1]


def test_a_pair_at_exactly_the_threshold_merges():
    features = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert merge_regions(features, None, np.array([[0, 1]]), [0.0]).counts.tolist() == [1]
    assert merge_regions(features, None, np.array([[0, 1]]), [1e-9]).counts.tolist() == [0]


def test_sizes_weigh_the_mean():
    features = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    edges = np.array([[0, 1], [1, 2]])
    heavy = merge_regions(features, np.array([100.0, 1.0, 1.0]), edges, [-1.0])
    assert heavy.merges.tolist() == [[0, 1], [2, 3]]
    assert heavy.similarity[1] == pytest.approx(0.6 / np.hypot(100.8, 0.6), abs=1e-12)


def test_labels_follow_the_merges():
    rng = np.random.default_rng(1)
    result = merge_regions(rng.standard_normal((36, 3)), None, grid_edges(6, 6), [-1.0])
    assert np.array_equal(result.labels(0), np.arange(36))
    assert len(np.unique(result.labels(10))) == 26
    assert np.array_equal(result.labels(), np.full(36, 70))


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_merge(count):
    result = merge_regions(np.ones((count, 3)), None, np.zeros((0, 2), int), [0.5])
    assert result.merges.shape == (0, 2)
    assert result.counts.tolist() == [0]


def test_edges_in_any_order_and_direction():
    rng = np.random.default_rng(2)
    features, edges = rng.standard_normal((25, 3)), grid_edges(5, 5)
    shuffled = rng.permutation(np.concatenate([edges, edges[:, ::-1]]))
    expected = merge_regions(features, None, edges, [-1.0]).merges
    assert np.array_equal(merge_regions(features, None, shuffled, [-1.0]).merges, expected)
    assert np.array_equal(canonical_edges(shuffled, 25), canonical_edges(edges, 25))


@pytest.mark.parametrize(
    ("features", "sizes", "edges", "match"),
    [
        (np.ones(3), None, [[0, 1]], "N, D"),
        (np.ones((2, 2)), [1.0], [[0, 1]], "sizes"),
        (np.ones((2, 2)), [1.0, 0.0], [[0, 1]], "positive"),
        (np.array([[np.nan, 1], [1, 1]]), None, [[0, 1]], "finite"),
        (np.ones((2, 2)), None, [[0, 2]], "outside"),
    ],
)
def test_bad_input_is_refused(features, sizes, edges, match):
    with pytest.raises(ValueError, match=match):
        merge_regions(features, sizes, np.array(edges), [0.5])


@pytest.mark.parametrize("noise", [0.0, 1e-6, 1e-3])
def test_flat_photos_stay_fast(noise):
    """A plain heap with lazy deletion takes some 20 s here: one hub has thousands of neighbours."""
    rng = np.random.default_rng(0)
    features = 1 + noise * rng.standard_normal((96 * 96, 768))
    edges = grid_edges(96, 96)
    merge_regions(features[:16], None, grid_edges(4, 4), [0.0])
    start = time.process_time()
    assert len(merge_regions(features, None, edges, [-1.0]).merges) == 96 * 96 - 1
    assert time.process_time() - start < 5
