"""`RegionTree`: a full hierarchy of regions over one image, cut at any granularity."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from unsam.structures import runs
from unsam.structures.mask_set import MaskSet

FINEST = 0.1
COARSEST = 1.0


class RegionTree:
    """Regions that nest: leaves partition the image, every other node is the union of its children.

    Node numbers 0 to ``num_leaves - 1`` are the leaves. A parent's granularity is never below its
    child's, so that cuts nest: the cut at a finer granularity refines the cut at a coarser one.

    Attributes:
        leaf_labels: ``int32 [H, W]``, the leaf of every pixel.
        parent: ``int64 [M]``, -1 for a root.
        granularity: ``float32 [M]`` in [0.1, 1], non-decreasing towards the roots.
        num_leaves: L.
    """

    def __init__(
        self, leaf_labels: np.ndarray, parent: ArrayLike, granularity: ArrayLike | None = None
    ) -> None:
        self.leaf_labels = np.ascontiguousarray(leaf_labels, np.int32)
        self.parent = np.array(parent, np.int64)
        self.num_leaves = int(self.leaf_labels.max()) + 1 if self.leaf_labels.size else 0
        self._check()
        self._depth = _depths(self.parent)
        self._from_roots = np.argsort(self._depth, kind="stable")
        if granularity is None:
            granularity = _area_granularity(self.areas)
        wanted = np.array(granularity, np.float32)
        if wanted.shape != self.parent.shape:
            raise ValueError(f"granularity needs {self.parent.size} entries, got {wanted.shape}")
        if wanted.size and not (wanted.min() >= FINEST - 1e-6 and wanted.max() <= COARSEST):
            raise ValueError("granularity must lie in [0.1, 1]")
        for node in self._from_roots[::-1]:
            above = self.parent[node]
            if above >= 0:
                wanted[above] = max(wanted[above], wanted[node])
        self.granularity = wanted

    @classmethod
    def from_merges(
        cls, leaf_labels: np.ndarray, merges: ArrayLike, granularity: ArrayLike | None = None
    ) -> RegionTree:
        """Build from a list of merges of two nodes.

        Args:
            leaf_labels: ``int [H, W]``, every label of 0 to L - 1 occurs.
            merges: ``int [K, 2]``; merge k makes node L + k.
            granularity: ``float [L + K]`` in [0.1, 1]; None computes it from the areas,
                ``0.1 + 0.9 (sqrt(A) - sqrt(A_min)) / (sqrt(A_max) - sqrt(A_min))``.

        Raises:
            ValueError: a merge names a node that is not there yet or is merged already.
        """
        pairs = np.asarray(merges, np.int64).reshape(-1, 2)
        num_leaves = int(np.max(leaf_labels)) + 1
        parent = np.full(num_leaves + pairs.shape[0], -1, np.int64)
        for step, (first, second) in enumerate(pairs):
            node = num_leaves + step
            if not (0 <= first < node and 0 <= second < node and first != second):
                raise ValueError(f"merge {step} of {first} and {second}: no such pair of nodes")
            if parent[first] >= 0 or parent[second] >= 0:
                raise ValueError(f"merge {step} of {first} and {second}: merged before")
            parent[first] = parent[second] = node
        return cls(leaf_labels, parent, granularity)

    @classmethod
    def from_masks(cls, masks: MaskSet, containment: float = 0.9) -> RegionTree:
        """Build a strict hierarchy from masks that nest only roughly.

        Masks are taken from large to small. Each goes under the innermost region so far that holds
        most of it and keeps its pixels there that no sibling has taken; if that is less than half
        of the mask it is left out. The rest of a parent, and of the image, become leaves of the
        finest granularity; the image itself is the root.

        Args:
            masks: any masks of one image; their granularity is kept, raised where a child has more.
            containment: least share of a mask that must lie in its parent, over 0.5.

        Raises:
            ValueError: containment of 0.5 or less.
        """
        if containment <= 0.5:
            raise ValueError(f"containment must be over 0.5, got {containment}")
        height, width = masks.size
        owner = np.full(height * width, -1, np.int32)
        area = masks.areas
        parent = np.empty(len(masks), np.int64)
        inner_granularity: list[float] = []
        for index in np.argsort(-area, kind="stable"):
            node = len(inner_granularity)
            own = masks.runs_of(int(index))
            needed = containment * area[index]
            under = runs.innermost_owner(own, owner, parent[:node], needed)
            taken = runs.claim(own, owner, under, node)
            if taken and 2 * taken >= area[index]:
                parent[node] = under
                inner_granularity.append(float(masks.granularity[index]))
            else:
                runs.claim(own, owner, node, under)
        inner_parent = parent[: len(inner_granularity)].tolist()
        return cls._with_rest_leaves(owner, masks.size, inner_parent, inner_granularity)

    @classmethod
    def _with_rest_leaves(
        cls,
        owner: np.ndarray,
        size: tuple[int, int],
        inner_parent: list[int],
        inner_granularity: list[float],
    ) -> RegionTree:
        """Number leaves first; give the rest of every inner node (-1 is the image) a leaf."""
        num_inner = len(inner_parent)
        has_child = np.zeros(num_inner, bool)
        has_child[[above for above in inner_parent if above >= 0]] = True
        present = np.unique(owner)
        num_leaves = present.size
        leaf_of = {int(node): leaf for leaf, node in enumerate(present)}
        image = num_leaves + int(has_child.sum())
        upper = num_leaves + np.cumsum(has_child) - 1
        whole_is_leaf = num_inner == 0
        place = [int(upper[n]) if has_child[n] else leaf_of[n] for n in range(num_inner)]
        total = num_leaves if whole_is_leaf else image + 1
        parent = np.full(total, -1, np.int64)
        granularity = np.full(total, FINEST, np.float32)
        granularity[-1] = COARSEST
        for node, above in enumerate(inner_parent):
            parent[place[node]] = place[above] if above >= 0 else image
            granularity[place[node]] = inner_granularity[node]
            if has_child[node] and node in leaf_of:
                parent[leaf_of[node]] = place[node]
        if not whole_is_leaf and -1 in leaf_of:
            parent[leaf_of[-1]] = image
        labels = np.searchsorted(present, owner).astype(np.int32)
        return cls(labels.reshape(size[1], size[0]).T, parent, granularity)

    # ------------------------------------------------------------------------------------- use
    def __len__(self) -> int:
        return self.parent.size

    def __repr__(self) -> str:
        height, width = self.leaf_labels.shape
        return f"RegionTree({self.num_leaves} leaves, {len(self)} nodes, {height}x{width})"

    @property
    def areas(self) -> np.ndarray:
        """Pixels of each node, ``int64 [M]``."""
        area = np.zeros(len(self), np.int64)
        area[: self.num_leaves] = np.bincount(
            self.leaf_labels.reshape(-1), minlength=self.num_leaves
        )
        for node in self._from_roots[::-1]:
            if self.parent[node] >= 0:
                area[self.parent[node]] += area[node]
        return area

    def cut(self, granularity: float) -> np.ndarray:
        """Return the non-overlapping regions at one granularity, ``int32 [H, W]`` of node numbers.

        The coarsest nodes whose granularity is at most the one asked for; where even a leaf is
        coarser, the leaf. Every pixel has a region.

        Raises:
            ValueError: granularity outside [0.1, 1].
        """
        if not FINEST <= granularity <= COARSEST:
            raise ValueError(f"granularity must lie in [0.1, 1], got {granularity}")
        chosen = np.full(len(self), -1, np.int32)
        limit = np.float32(granularity)
        for node in self._from_roots:
            above = self.parent[node]
            if above >= 0 and chosen[above] >= 0:
                chosen[node] = chosen[above]
            elif self.granularity[node] <= limit or node < self.num_leaves:
                chosen[node] = node
        return chosen[self.leaf_labels]

    def masks(self, min_area: int = 1, max_masks: int | None = None, **fields: Any) -> MaskSet:
        """Return every node as a mask, with granularity and parents; one of equal regions.

        Args:
            min_area: nodes of fewer pixels are left out.
            max_masks: keep at most so many, the largest; None keeps all.
            **fields: further fields for all masks, such as ``source="conquer"``.
        """
        flat = np.ascontiguousarray(self.leaf_labels.T).reshape(-1)
        encoded = runs.encode_tree(flat, self.parent, self._depth)
        nodes = MaskSet(
            (self.leaf_labels.shape[0], self.leaf_labels.shape[1]),
            *encoded,
            granularity=self.granularity,
            parent=self.parent,
            **fields,
        )
        area = self.areas
        children = np.bincount(self.parent[self.parent >= 0], minlength=len(self))
        is_only_child = np.zeros(len(self), bool)
        inner = self.parent >= 0
        is_only_child[inner] = children[self.parent[inner]] == 1
        keep = np.flatnonzero((area >= min_area) & ~is_only_child)
        keep = keep[np.argsort(-area[keep], kind="stable")][:max_masks]
        return nodes.filter(keep)

    def _check(self) -> None:
        height_and_width = self.leaf_labels.shape
        if self.leaf_labels.ndim != 2 or not self.leaf_labels.size:
            raise ValueError(f"leaf_labels must be [H, W] with pixels, got {height_and_width}")
        counts = np.bincount(self.leaf_labels.reshape(-1).clip(0))
        if self.leaf_labels.min() < 0 or not counts.all():
            raise ValueError("leaf_labels must use every number from 0 to L - 1")
        if self.parent.size < self.num_leaves or (self.parent >= self.parent.size).any():
            raise ValueError("parent must have one entry per node, each -1 or a node")
        if (self.parent < -1).any() or np.isin(self.parent, np.arange(self.num_leaves)).any():
            raise ValueError("a leaf cannot be a parent")


def _depths(parent: np.ndarray) -> np.ndarray:
    """Return the distance of each node from its root, ``int64 [M]``; refuses cycles."""
    depth = np.zeros(parent.size, np.int64)
    ancestor = parent.copy()
    while (ancestor >= 0).any():
        inner = ancestor >= 0
        depth[inner] += 1
        if depth.max() > parent.size:
            raise ValueError("the parents go round in a circle")
        ancestor[inner] = parent[ancestor[inner]]
    return depth


def _area_granularity(areas: np.ndarray) -> np.ndarray:
    """Return the granularity of UnSAMv2 over all nodes of one tree (square root of the area)."""
    root = np.sqrt(areas.astype(np.float64))
    low, high = root.min(), root.max()
    if high <= low:
        return np.full(areas.shape, COARSEST, np.float32)
    return np.clip(FINEST + 0.9 * (root - low) / (high - low), FINEST, COARSEST)
