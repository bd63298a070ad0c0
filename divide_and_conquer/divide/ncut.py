"""MaskCut: objects one after the other by normalised cuts, on the features of any region graph.

Source: MaskCut of CutLER (arXiv 2301.11320, section 3.2), on normalised cuts (Shi and Malik 2000).
Each round builds an affinity that is 1 where the cosine of two regions exceeds tau and 1e-5
elsewhere, takes the second smallest solution of ``(D - A) v = lambda D v``, splits the regions at
its mean, takes the side that does not hold the corners of the photo, keeps the connected piece
around the strongest region, and blanks its features for the next round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import connected_components

from divide_and_conquer.divide.eigenvector import second_eigenpair
from divide_and_conquer.divide.links import build_links, cosine_above

if TYPE_CHECKING:
    import torch

MIN_SHARE = 0.01
MAX_REPEAT_IOU = 0.5


def maskcut(
    features: np.ndarray,
    edges: np.ndarray,
    corners: np.ndarray,
    *,
    tau: float,
    rounds: int,
    sizes: np.ndarray | None = None,
    device: str | torch.device | None = None,
) -> np.ndarray:
    """Find objects among regions.

    More rounds go on from where fewer ended: the first objects stay the same.

    Args:
        features: ``float [N, D]``; need not be normalised.
        edges: ``int [E, 2]``, adjacent regions, for connected pieces.
        corners: ``int [4]``, the regions at the corners of the photo, which are background.
        tau: cosine above which two regions are linked.
        rounds: objects to look for.
        sizes: ``[N]`` pixels of each region, for shares and IoU; None counts regions.
        device: a torch device for the products of matrices, such as "cuda"; None computes them
            with numpy and compiled loops, which is fastest on a CPU.

    Returns:
        ``bool [rounds, N]``: disjoint; empty where a round was rejected, because its object
        repeats the previous one (IoU over 0.5) or, from round 2 on, has at most 1 % of the photo.
    """
    count = len(features)
    weight = np.ones(count) if sizes is None else np.asarray(sizes, np.float64)
    result = np.zeros((rounds, count), bool)
    if count < 2 or rounds < 1:
        return result
    linked = cosine_above(features, tau, device)
    painted = np.zeros(count, bool)
    previous = np.zeros(count, bool)
    proposal: np.ndarray | None = None
    for index in range(rounds):
        if proposal is None:
            vector = second_eigenpair(build_links(linked, device))[1]
            proposal = cut_object(vector, edges, corners)
        found = proposal
        if index > 0 and _rejected(found, previous, weight):
            # Nothing is blanked, thus the next round would propose the same object again.
            previous = np.zeros(count, bool)
            continue
        result[index] = found & ~painted
        painted |= found
        previous, proposal = found, None
        # A blanked region has cosine 0 with all, itself included.
        linked[found] = linked[:, found] = tau < 0
    return result


def cut_object(vector: np.ndarray, edges: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Split at the mean, choose the side without the corners, keep the piece of its peak.

    Args:
        vector: ``float64 [N]``, the eigenvector; its sign chooses between the sides where the
            corners do not.
        edges: ``int [E, 2]``, adjacent regions.
        corners: ``int [4]``, the regions at the corners of the photo.

    Returns:
        ``bool [N]``, empty where the peak does not lie on the chosen side.
    """
    inside = vector > vector.mean()
    if inside[corners].sum() >= 3 or not inside[np.abs(vector).argmax()]:
        inside, vector = ~inside, -vector
    seed = int(vector.argmax())
    if not inside[seed]:
        return np.zeros(len(vector), bool)
    kept = edges[inside[edges].all(axis=1)]
    graph = scipy.sparse.coo_array((np.ones(len(kept), np.int8), kept.T), (len(vector),) * 2)
    pieces = connected_components(graph, directed=False)[1]
    return pieces == pieces[seed]


def _rejected(found: np.ndarray, previous: np.ndarray, weight: np.ndarray) -> bool:
    """Whether an object repeats the previous round's, or has at most 1 % of the photo."""
    union = weight[found | previous].sum()
    if union and weight[found & previous].sum() / union > MAX_REPEAT_IOU:
        return True
    return bool(weight[found].sum() <= MIN_SHARE * weight.sum())
