"""MaskCut: objects one after the other by normalised cuts, on the features of any region graph.

Source: MaskCut of CutLER (arXiv 2301.11320, section 3.2), on normalised cuts (Shi and Malik 2000).
Each round builds an affinity that is 1 where the cosine of two regions exceeds tau and 1e-5
elsewhere, takes the second smallest solution of ``(D - A) v = lambda D v``, splits the regions at
its mean, takes the side that does not hold the corners of the photo, keeps the connected piece
around the strongest region, and blanks its features for the next round.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
from fvcore.common.config import CfgNode
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

from divide_and_conquer.superpixels import RegionGraph
from unsam.structures import MaskSet

WEAK_LINK = 1e-5
MIN_SHARE = 0.01
MAX_REPEAT_IOU = 0.5
DENSE_BELOW = 200


class NormalizedCuts:
    """Divider: the objects of one photo by `max_objects` rounds of MaskCut."""

    def __init__(self, *, tau: float, max_objects: int) -> None:
        """Keep the settings.

        Args:
            tau: cosine above which two regions are linked, in [-1, 1].
            max_objects: rounds; each gives at most one object.
        """
        self.tau = tau
        self.max_objects = max_objects

    @classmethod
    def from_config(cls, cfg: CfgNode) -> NormalizedCuts:
        """Build from PSEUDO_MASKS.DIVIDE."""
        return cls(tau=cfg.PSEUDO_MASKS.DIVIDE.TAU, max_objects=cfg.PSEUDO_MASKS.DIVIDE.MAX_OBJECTS)

    def __call__(self, photo: np.ndarray, graph: RegionGraph, features: np.ndarray) -> MaskSet:
        """Return the objects as masks of the size of `graph.labels`, source ``divide``.

        Args:
            photo: ``uint8 [H, W, 3]``; not used, other dividers look at it.
            graph: the regions of the photo.
            features: ``float [N, D]``, one row per region.
        """
        labels = graph.labels
        corners = np.array([labels[0, 0], labels[0, -1], labels[-1, 0], labels[-1, -1]])
        chosen = maskcut(
            features, graph.edges, corners, tau=self.tau, rounds=self.max_objects, sizes=graph.sizes
        )
        masks = [object_regions[labels] for object_regions in chosen if object_regions.any()]
        if not masks:
            return MaskSet.empty((labels.shape[0], labels.shape[1]))
        return MaskSet.from_masks(np.stack(masks), source="divide")


def maskcut(
    features: np.ndarray,
    edges: np.ndarray,
    corners: np.ndarray,
    *,
    tau: float,
    rounds: int,
    sizes: np.ndarray | None = None,
) -> np.ndarray:
    """Find objects among regions.

    Args:
        features: ``float [N, D]``; need not be normalised.
        edges: ``int [E, 2]``, adjacent regions, for connected pieces.
        corners: ``int [4]``, the regions at the corners of the photo, which are background.
        tau: cosine above which two regions are linked.
        rounds: objects to look for.
        sizes: ``[N]`` pixels of each region, for shares and IoU; None counts regions.

    Returns:
        ``bool [rounds, N]``: disjoint; empty where a round was rejected, because its object
        repeats the previous one (IoU over 0.5) or, from round 2 on, has at most 1 % of the photo.
    """
    count = len(features)
    weight = np.ones(count) if sizes is None else np.asarray(sizes, np.float64)
    length = np.linalg.norm(features, axis=1, keepdims=True)
    unit = np.asarray(features) / np.maximum(length, 1e-12)
    neighbours = _neighbour_lists(edges, count)
    result = np.zeros((rounds, count), bool)
    painted = np.zeros(count, bool)
    previous = np.zeros(count, bool)
    for index in range(rounds):
        if count < 2:
            break
        unit[painted] = 0
        found = _object_of(second_eigenvector(affinity(unit, tau)), corners, neighbours)
        if index > 0:
            union = weight[found | previous].sum()
            repeats = weight[found & previous].sum() / union > MAX_REPEAT_IOU if union else False
            if repeats or weight[found].sum() <= MIN_SHARE * weight.sum():
                found[:] = False
        previous = found
        result[index] = found & ~painted
        painted |= found
    return result


def affinity(unit_features: np.ndarray, tau: float) -> np.ndarray:
    """Return ``float64 [N, N]``: 1 where the cosine exceeds tau, else 1e-5 (all of a zero row)."""
    return np.where(unit_features @ unit_features.T > tau, 1.0, WEAK_LINK)


def second_eigenvector(matrix: np.ndarray) -> np.ndarray:
    """Return the solution of ``(D - A) v = lambda D v`` with the second smallest lambda.

    Its entry of largest size is positive; ``float64 [N]``.
    """
    scale = 1.0 / np.sqrt(matrix.sum(axis=1))
    normalised = matrix * scale[:, None] * scale[None, :]
    count = len(matrix)
    vector = None
    if count >= DENSE_BELOW:
        # The known first solution is moved to the far end, so that one vector has to be found.
        first = 1.0 / scale
        first /= np.linalg.norm(first)
        operator = LinearOperator(
            (count, count), matvec=lambda x: normalised @ x - 2.0 * first * (first @ x)
        )
        start = np.cos(np.arange(count, dtype=np.float64))
        try:
            _, vectors = eigsh(operator, k=1, which="LA", v0=start, tol=1e-10)
            vector = vectors[:, 0]
        except ArpackError:
            vector = None
    if vector is None:
        _, vectors = scipy.linalg.eigh(normalised, subset_by_index=[count - 2, count - 1])
        vector = vectors[:, 0]
    vector = vector * scale
    return -vector if vector[np.abs(vector).argmax()] < 0 else vector


def _object_of(vector: np.ndarray, corners: np.ndarray, neighbours: list[np.ndarray]) -> np.ndarray:
    """Split at the mean, choose the side without the corners, keep the piece of its peak."""
    inside = vector > vector.mean()
    if inside[corners].sum() >= 3 or not inside[np.abs(vector).argmax()]:
        inside, vector = ~inside, -vector
    seed = int(vector.argmax())
    kept = np.zeros(len(vector), bool)
    if not inside[seed]:
        return kept
    kept[seed] = True
    stack = [seed]
    while stack:
        near = neighbours[stack.pop()]
        fresh = near[inside[near] & ~kept[near]]
        kept[fresh] = True
        stack.extend(fresh.tolist())
    return kept


def _neighbour_lists(edges: np.ndarray, count: int) -> list[np.ndarray]:
    both = np.concatenate([edges, edges[:, ::-1]])
    both = both[np.argsort(both[:, 0], kind="stable")]
    return np.split(both[:, 1], np.searchsorted(both[:, 0], np.arange(1, count)))
