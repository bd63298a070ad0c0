"""RegionTree: cuts nest, nodes are unions of their children, rough masks become a hierarchy."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unsam.structures import MaskSet, RegionTree


def random_tree(seed: int, num_leaves: int, monotone: bool = False) -> RegionTree:
    """A random forest over a random leaf map; granularities random, so clamping is tested too."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(num_leaves), rng.integers(0, num_leaves, 15 * 11)])
    labels = rng.permutation(labels)[: 15 * 11]
    labels = np.unique(labels, return_inverse=True)[1].reshape(15, 11)
    num_leaves = int(labels.max()) + 1
    alive = list(range(num_leaves))
    merges = []
    for step in range(rng.integers(0, num_leaves)):
        first, second = rng.choice(len(alive), 2, replace=False)
        merges.append((alive[first], alive[second]))
        alive = [node for node in alive if node not in merges[-1]] + [num_leaves + step]
    granularity = rng.uniform(0.1, 1, num_leaves + len(merges)) if not monotone else None
    return RegionTree.from_merges(labels, merges, granularity)


def assert_refines(fine: np.ndarray, coarse: np.ndarray) -> None:
    """Every region of `fine` lies in one region of `coarse`."""
    pairs = np.unique(np.stack([fine.reshape(-1), coarse.reshape(-1)]), axis=1)
    assert pairs.shape[1] == np.unique(fine).size


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    leaves=st.integers(1, 30),
    cuts=st.lists(st.floats(0.1, 1.0), min_size=2, max_size=5),
    monotone=st.booleans(),
)
def test_a_finer_cut_refines_a_coarser_one(
    seed: int, leaves: int, cuts: list[float], monotone: bool
) -> None:
    tree = random_tree(seed, leaves, monotone)
    maps = [tree.cut(granularity) for granularity in sorted(cuts)]
    for fine, coarse in pairwise(maps):
        assert_refines(fine, coarse)
    for granularity, labels in zip(sorted(cuts), maps, strict=True):
        for node in np.unique(labels):
            assert node < tree.num_leaves or tree.granularity[node] <= np.float32(granularity)


def test_the_coarsest_cut_is_the_roots_and_the_finest_the_leaves() -> None:
    tree = random_tree(5, 20, monotone=True)
    roots = np.flatnonzero(tree.parent < 0)
    assert set(np.unique(tree.cut(1.0))) == set(roots)
    smallest = tree.areas[: tree.num_leaves].min()
    fine = tree.cut(0.1)
    assert (tree.areas[np.unique(fine)] <= max(smallest, tree.areas[: tree.num_leaves].max())).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), leaves=st.integers(1, 30))
def test_every_node_is_the_union_of_its_leaves(seed: int, leaves: int) -> None:
    tree = random_tree(seed, leaves)
    expected = []
    for node in range(len(tree)):
        members = []
        for leaf in range(tree.num_leaves):
            above = leaf
            while above != node and tree.parent[above] >= 0:
                above = tree.parent[above]
            if above == node:
                members.append(leaf)
        expected.append(np.isin(tree.leaf_labels, members))
    masks = tree.masks(source="conquer")
    order = np.argsort(-tree.areas, kind="stable")
    np.testing.assert_array_equal(masks.masks(), np.stack(expected)[order])
    np.testing.assert_array_equal(masks.areas, tree.areas[order])
    dense = masks.masks()
    for child, above in enumerate(masks.parent):
        if above >= 0:
            assert not (dense[child] & ~dense[above]).any()


def test_masks_can_be_limited() -> None:
    tree = random_tree(3, 25, monotone=True)
    assert len(tree.masks(max_masks=4)) == 4
    assert tree.masks(min_area=10).areas.min() >= 10


def test_rough_masks_become_a_strict_hierarchy() -> None:
    masks = np.zeros((5, 40, 40), bool)
    masks[0, 5:35, 5:35] = True
    masks[1, 5:20, 4:20] = True  # sticks out of its parent by one column
    masks[2, 18:30, 15:30] = True  # overlaps its sibling
    masks[3, 7:12, 7:12] = True
    masks[4, 5:35, 5:35] = True  # a copy: nothing is left under it but the whole of mask 0
    tree = RegionTree.from_masks(MaskSet.from_masks(masks, granularity=[0.9, 0.5, 0.5, 0.2, 0.9]))
    coarse, middle, fine = tree.cut(1.0), tree.cut(0.6), tree.cut(0.3)
    assert np.unique(coarse).size == 1
    assert_refines(middle, coarse)
    assert_refines(fine, middle)
    part = middle == middle[10, 10]
    np.testing.assert_array_equal(part, masks[1] & masks[0])
    assert (fine[7:12, 7:12] == fine[7, 7]).all()
    assert (fine == fine[7, 7]).sum() == 25
    # The overlap belongs to the larger sibling.
    assert (middle[18:20, 15:20] == middle[10, 10]).all()


def test_a_small_region_lives_where_its_pixels_went() -> None:
    masks = np.zeros((3, 20, 30), bool)
    masks[0, :, :16] = True  # the larger one takes the overlap
    masks[1, :, 12:26] = True
    masks[2, 5:9, 12:16] = True  # inside both; its smallest container has lost these pixels
    tree = RegionTree.from_masks(MaskSet.from_masks(masks, granularity=[0.8, 0.7, 0.2]))
    fine = tree.cut(0.2)
    np.testing.assert_array_equal(fine == fine[6, 13], masks[2])
    coarse = tree.cut(0.8)
    np.testing.assert_array_equal(coarse == coarse[0, 0], masks[0])
    assert np.unique(coarse).size == 3


def test_a_mask_that_lost_most_of_its_pixels_is_left_out() -> None:
    masks = np.zeros((2, 20, 30), bool)
    masks[0, :, :16] = True
    masks[1, 2:18, 6:22] = True  # 10 of its 16 columns lie in the larger one
    tree = RegionTree.from_masks(MaskSet.from_masks(masks))
    assert tree.num_leaves == 2
    with pytest.raises(ValueError, match=r"over 0\.5"):
        RegionTree.from_masks(MaskSet.from_masks(masks), containment=0.4)


def test_no_masks_is_one_region() -> None:
    tree = RegionTree.from_masks(MaskSet.empty((3, 4)))
    assert len(tree) == 1
    assert (tree.cut(0.5) == 0).all()


@pytest.mark.parametrize(
    ("merges", "message"),
    [([[0, 9]], "no such pair"), ([[0, 0]], "no such pair"), ([[0, 1], [0, 2]], "merged before")],
)
def test_impossible_merges_are_refused(merges: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RegionTree.from_merges(np.array([[0, 1, 2]]), merges)


def test_impossible_trees_are_refused() -> None:
    with pytest.raises(ValueError, match="every number"):
        RegionTree(np.array([[0, 2]]), [-1, -1, -1])
    with pytest.raises(ValueError, match="a leaf cannot"):
        RegionTree(np.array([[0, 1]]), [1, -1])
    with pytest.raises(ValueError, match="circle"):
        RegionTree(np.array([[0, 1]]), [2, 2, 3, 2])
    with pytest.raises(ValueError, match="granularity must lie"):
        RegionTree(np.array([[0, 1]]), [-1, -1]).cut(0.05)
