"""Conquer one instance: merge the patches of its crop, and take the clusters inside it as parts.

Sources: UnSAM (arXiv 2406.20081, Algorithm 1; reference sheet, sections 1.3 and 1.4) and UnSAMv2
(arXiv 2511.13714, section 3.2; reference sheet, section 1.3). Patches merge over a list of
thresholds (`unsam.regions.conquer`). After each one, the clusters that stand are resized to
the crop; those inside the instance stay, and of near copies the largest.

The released code differs in three points that change the masks; ``published=True`` does as it
does, to the bit, where no two similarities tie:

- The last row and the last column of the instance's box are cut off.
- Clusters are collected from the pairs of neighbours that are left. Where all patches have merged
  there is no pair, and the threshold gives nothing.
- A cluster that outlives several thresholds is emitted at each, and copies are looked for among
  the next four masks by area only, hence some stay.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from divide_and_conquer.bicubic_masks import upscale_grids
from divide_and_conquer.instances import source_rank
from divide_and_conquer.windowed_nms import windowed_nms
from unsam.regions.conquer import MergeResult, grid_edges, merge_regions
from unsam.structures import MaskSet


def instance_box(instance: MaskSet, *, published: bool = False) -> tuple[int, int, int, int]:
    """Return the crop of an instance as ``(x0, y0, x1, y1)``, maxima exclusive.

    Args:
        instance: one mask.
        published: without the last row and column; width or height may be 0 then.

    Returns:
        The tight box; all 0 for an empty mask.

    Raises:
        ValueError: not one mask.
    """
    if len(instance) != 1:
        raise ValueError(f"expected one instance mask, got {len(instance)}")
    x0, y0, x1, y1 = (int(value) for value in instance.boxes[0])
    if published and x1 > x0:
        return x0, y0, x1 - 1, y1 - 1
    return x0, y0, x1, y1


def conquer_instance(
    features: np.ndarray,
    instance: MaskSet,
    *,
    thresholds: Sequence[float],
    min_patches: int,
    min_coverage: float,
    nms_iou: float,
    published: bool = False,
) -> MaskSet:
    """Return the parts of one instance.

    Args:
        features: ``float [h, w, D]``, the patches of the crop `instance_box`.
        instance: one mask of photo size.
        thresholds: cosine similarities from high to low; see `merge_regions`.
        min_patches: smallest cluster.
        min_coverage: a part has a larger share of its pixels in the instance.
        nms_iou: of two parts with a larger IoU the smaller one goes.
        published: do as the released code; see the module.

    Returns:
        Parts of photo size, largest first, without parents, with source "conquer" and the score
        of the instance. None if the box is empty.

    Raises:
        ValueError: features are not ``[h, w, D]`` with at least one patch, or hold values that
            are not finite, or the instance is not one mask.
    """
    box = instance_box(instance, published=published)
    if features.ndim != 3 or 0 in features.shape[:2]:
        raise ValueError(f"features must be [h, w, D] with patches, got shape {features.shape}")
    if box[2] <= box[0] or box[3] <= box[1]:
        return MaskSet.empty(instance.size)
    grids, emitted = clusters(features, thresholds, min_patches, published=published)
    upscaled = upscale_grids(grids, box, instance, min_coverage)
    if published:
        # Each emission of a cluster counts, in the order of emission.
        place = np.full(len(grids), -1, np.int64)
        place[upscaled.kept] = np.arange(len(upscaled.kept))
        pooled = place[np.concatenate([*emitted, np.zeros(0, np.int64)])]
        masks = upscaled.masks.filter(pooled[pooled >= 0])
        masks = masks.filter(windowed_nms(masks, nms_iou))
    else:
        masks = upscaled.masks
        masks = masks.filter(masks.nms(nms_iou, order="area"))
    return masks.replace(score=np.full(len(masks), instance.score[0]), source="conquer")


def clusters(
    features: np.ndarray, thresholds: Sequence[float], min_patches: int, *, published: bool = False
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Merge patches on the 4-neighbour grid and return the clusters that each threshold leaves.

    Args:
        features: ``float [h, w, D]``.
        thresholds: cosine similarities from high to low.
        min_patches: smallest cluster that is returned.
        published: only clusters with a neighbour, in the order of the released code.

    Returns:
        The distinct clusters ``bool [K, h, w]``, by the threshold that made them; and for each
        threshold the indices ``int64`` of those that stand after it, in the order of their first
        patch.
    """
    height, width, dims = features.shape
    edges = grid_edges(height, width)
    result = merge_regions(features.reshape(-1, dims), None, edges, thresholds)
    orders = _published_order(result, edges) if published else [None] * len(result.counts)
    index_of: dict[int, int] = {}
    grids, emitted = [np.zeros((0, height, width), bool)], []
    for count, order in zip(result.counts, orders, strict=True):
        labels = result.labels(int(count))
        nodes, first, sizes = np.unique(labels, return_index=True, return_counts=True)
        large = nodes[sizes >= min_patches]
        if order is None:
            standing = large[np.argsort(first[sizes >= min_patches])]
        else:
            standing = order[np.isin(order, large)]
        new = [int(node) for node in standing if int(node) not in index_of]
        index_of |= {node: len(index_of) + i for i, node in enumerate(new)}
        grids.append((labels == np.array(new, np.int64)[:, None]).reshape(-1, height, width))
        emitted.append(np.array([index_of[int(node)] for node in standing], np.int64))
    return np.concatenate(grids), emitted


def protected_nms(
    instance: MaskSet, masks: MaskSet, *, nms_iou: float, published: bool = False
) -> MaskSet:
    """Return the masks inside an instance without near copies of it or of each other.

    UnSAMv2's protected suppression (reference sheet, section 1.3, step 8): the instance always
    stays, so masks with an IoU above `nms_iou` to it go first.

    Args:
        instance: one mask.
        masks: clusters and other parts of the instance.
        nms_iou: of two masks with a larger IoU one goes: that of the less sure source (see
            `source_rank`), of one source the smaller one.
        published: the smaller one goes, and each is compared with the next four by area only.

    Returns:
        The masks that stay, largest first; the instance is not among them.
    """
    distinct = masks.filter(masks.iou(instance)[:, 0] <= nms_iou)
    if published:
        return distinct.filter(windowed_nms(distinct, nms_iou))
    distinct = distinct.sort(by="area")
    kept = distinct.replace(score=source_rank(distinct)).nms(nms_iou, order="score")
    return distinct.filter(np.sort(kept))


def _published_order(result: MergeResult, edges: np.ndarray) -> list[np.ndarray]:
    """Return for each threshold the nodes that have a neighbour, as the released code lists them.

    It keeps the pairs of neighbours in a dict and lists the nodes of the pairs by insertion. A
    merge inserts the pairs of the new cluster in the order in which CPython walks through the set
    of its neighbours; the same set operations give the same order here.
    """
    near: dict[int, set[int]] = {node: set() for node in range(result.num_regions)}
    for a, b in edges.tolist():
        near[a].add(b)
        near[b].add(a)
    pairs = {(node, other): None for node in near for other in near[node] if node < other}
    orders, done = [], 0
    for count in result.counts.tolist():
        for new, (a, b) in enumerate(result.merges[done:count].tolist(), result.num_regions + done):
            for old in (a, b):
                for other in near[old]:
                    pairs.pop((min(old, other), max(old, other)), None)
            near[new] = (near.pop(a) | near.pop(b)) - {a, b}
            for other in near[new]:
                near[other] -= {a, b}
                near[other].add(new)
                pairs[other, new] = None
        done = count
        nodes = dict.fromkeys(node for pair in pairs for node in pair)
        orders.append(np.fromiter(nodes, np.int64, len(nodes)))
    return orders
