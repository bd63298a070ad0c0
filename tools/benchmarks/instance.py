"""Conquer of one instance of 1200x800 pixels, beside the published procedure written plainly.

Features are given: smooth segments of three sizes within each other, 768 channels, so that each
threshold leaves about as many clusters as it does on real crops. The plain procedure finds each
pair to merge with a scan over all, resizes every emitted mask with Pillow, pastes it into an array
of the whole photo, and compares such arrays.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

DIMS = 768
# Height and width; the crop's corner is its first row and column.
PHOTO = (1200, 1600)
CROP = (800, 1200)
CORNER = (300, 250)
# Side of the photo of many instances.
LARGE_PHOTO = (1800, 2400)
# Segments of each size; what patches of one segment share, see `nested_segments`.
SEGMENTS = (6, 16, 40, 100, 260)
# Grid side, thresholds and NMS IoU, as published; energies.
RECIPES: dict[str, tuple[int, tuple[float, ...], float, tuple[float, ...]]] = {
    "unsam": (32, (0.6, 0.5, 0.4, 0.3, 0.2, 0.1), 0.9, (0.0, 0.1, 0.12, 0.18, 0.22, 0.26)),
    "unsamv2": (48, (0.9, 0.8, 0.7, 0.6, 0.5), 0.8, (0.2, 0.2, 0.15, 0.15, 0.13, 0.13)),
}
MIN_PATCHES = 4
MIN_COVERAGE = 0.9
NUM_INSTANCES = 100


def benchmark_instance() -> dict[str, Any]:
    """Return milliseconds per instance (median) of both ways, and seconds for a whole photo."""
    figures: dict[str, Any] = {}
    for name in RECIPES:
        figures |= {f"{name}_{key}": value for key, value in measure_recipe(name).items()}
    return figures


def measure_recipe(name: str) -> dict[str, Any]:
    """Return the figures of one published recipe."""
    from benchmark import median_seconds
    from divide_and_conquer.grid_conquer import clusters, conquer_instance, protected_nms
    from unsam.structures import MaskSet

    side, thresholds, nms_iou, shares = RECIPES[name]
    features = nested_segments(side, shares)
    dense = ellipse(PHOTO, CORNER, CROP)
    instance = MaskSet.from_masks(dense[None], source="divide")
    conquer = partial(
        conquer_instance,
        thresholds=thresholds,
        min_patches=MIN_PATCHES,
        min_coverage=MIN_COVERAGE,
        nms_iou=nms_iou,
    )
    plain = partial(plain_conquer, features, dense, thresholds, nms_iou)
    as_published = conquer(features, instance, published=True)
    figures: dict[str, Any] = {
        "masks_per_level": [
            len(level) for level in clusters(features, thresholds, MIN_PATCHES, published=True)[1]
        ],
        "masks_kept": len(conquer(features, instance)),
        "masks_kept_published_mode": len(as_published),
        "published_mode_equals_plain": as_published
        == MaskSet.from_masks(plain(), source="conquer"),
        "ms": 1000 * median_seconds(partial(conquer, features, instance), repeats=15),
        "published_mode_ms": 1000
        * median_seconds(partial(conquer, features, instance, published=True), repeats=15),
        "plain_ms": 1000 * median_seconds(plain, repeats=3, warm_up=0),
    }
    figures["speedup"] = figures["plain_ms"] / figures["ms"]
    figures["speedup_published_mode"] = figures["plain_ms"] / figures["published_mode_ms"]
    figures["photo_instances"] = NUM_INSTANCES
    photo = MaskSet.cat(
        [
            MaskSet.from_masks(ellipse(LARGE_PHOTO, *place)[None], source="divide")
            for place in places()
        ]
    )

    def conquer_photo() -> int:
        total = 0
        for index in range(len(photo)):
            one = photo.filter([index])
            total += len(protected_nms(one, conquer(features, one), nms_iou=nms_iou))
        return total

    figures["photo_masks"] = conquer_photo()
    figures["photo_seconds"] = median_seconds(conquer_photo, repeats=3)
    return figures


def nested_segments(side: int, shares: tuple[float, ...]) -> np.ndarray:
    """Return ``float32 [side, side, 768]``: segments of several sizes, laid over each other.

    Args:
        side: of the grid.
        shares: of each patch's energy: what all have in common, then what those of one segment
            have, from the largest segments to the smallest. The rest is noise.
    """
    rng = np.random.default_rng(side)
    rows, columns = np.mgrid[:side, :side]
    total = np.sqrt(shares[0]) * rng.standard_normal(DIMS) * np.ones((side, side, 1))
    for count, share in zip(SEGMENTS, shares[1:], strict=True):
        seeds = rng.uniform(0, side, (count, 2))
        near = np.hypot(rows[..., None] - seeds[:, 0], columns[..., None] - seeds[:, 1])
        total += np.sqrt(share) * rng.standard_normal((count, DIMS))[near.argmin(axis=2)]
    total += np.sqrt(1 - sum(shares)) * rng.standard_normal(total.shape)
    return gaussian_filter(total, (0.4, 0.4, 0)).astype(np.float32)


def ellipse(photo: tuple[int, int], corner: tuple[int, int], crop: tuple[int, int]) -> np.ndarray:
    """Return ``bool [H, W]``: nearly a rectangle (a superellipse) that fills its box."""
    rows = np.linspace(-1, 1, crop[0])[:, None]
    columns = np.linspace(-1, 1, crop[1])
    dense = np.zeros(photo, bool)
    dense[corner[0] : corner[0] + crop[0], corner[1] : corner[1] + crop[1]] = (
        rows**4 + columns**4 <= 1
    )
    return dense


def places() -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return corner and size of the instances of a photo: few large ones and many small ones."""
    rng = np.random.default_rng(0)
    result = []
    for share in np.geomspace(0.6, 0.03, NUM_INSTANCES):
        height, width = int(share * LARGE_PHOTO[0]), int(share * LARGE_PHOTO[1])
        top = int(rng.integers(0, LARGE_PHOTO[0] - height + 1))
        left = int(rng.integers(0, LARGE_PHOTO[1] - width + 1))
        result.append(((top, left), (height, width)))
    return result


def plain_conquer(
    features: np.ndarray, instance: np.ndarray, thresholds: tuple[float, ...], nms_iou: float
) -> np.ndarray:
    """Return the masks that the published procedure keeps, ``bool [N, H, W]``, largest first."""
    rows, columns = np.flatnonzero(instance.any(axis=1)), np.flatnonzero(instance.any(axis=0))
    # The last row and column are lost.
    box = np.s_[rows[0] : rows[-1], columns[0] : columns[-1]]
    inside = instance[box]
    masks = []
    for grid in plain_clusters(features, thresholds):
        picture = Image.fromarray(grid.astype(np.uint8) * 255).resize(inside.shape[::-1])
        values = np.asarray(picture)
        mask = values > values.max() / 2
        if mask.any() and (mask & inside).sum() / mask.sum() > MIN_COVERAGE:
            full = np.zeros(instance.shape, bool)
            full[box] = mask
            masks.append(full)
    masks.sort(key=lambda mask: -int(mask.sum()))
    keep = np.ones(len(masks), bool)
    for i, mask in enumerate(masks):
        for j in range(i + 1, min(i + 5, len(masks))):
            if keep[i] and keep[j]:
                keep[j] = (mask & masks[j]).sum() / (mask | masks[j]).sum() <= nms_iou
    return np.array([mask for mask, kept in zip(masks, keep, strict=True) if kept])


def plain_clusters(features: np.ndarray, thresholds: tuple[float, ...]) -> list[np.ndarray]:
    """Return the clusters that each threshold emits, ``bool [h, w]`` each, copies included."""
    height, width = features.shape[:2]
    count = height * width
    sums = list(features.reshape(count, -1))
    units = [vector / np.linalg.norm(vector) for vector in sums]
    grids = list(np.eye(count, dtype=bool).reshape(count, height, width))
    near: list[set[int]] = [set() for _ in sums]
    pairs: dict[tuple[int, int], float] = {}
    for node in range(count):
        right = [node + 1] if (node + 1) % width else []
        for other in [*right, *([node + width] if node + width < count else [])]:
            near[node].add(other)
            near[other].add(node)
            pairs[node, other] = float(units[node] @ units[other])
    emitted = []
    for threshold in thresholds:
        while pairs:
            a, b = max(pairs, key=pairs.__getitem__)
            if pairs[a, b] < threshold:
                break
            new = len(sums)
            for old in (a, b):
                for other in near[old]:
                    pairs.pop((min(old, other), max(old, other)), None)
            sums.append(sums[a] + sums[b])
            units.append(sums[new] / np.linalg.norm(sums[new]))
            grids.append(grids[a] | grids[b])
            near.append((near[a] | near[b]) - {a, b})
            for other in near[new]:
                near[other] -= {a, b}
                near[other].add(new)
                pairs[other, new] = float(units[other] @ units[new])
        nodes = dict.fromkeys(node for pair in pairs for node in pair)
        emitted += [grids[node] for node in nodes if grids[node].sum() >= MIN_PATCHES]
    return emitted
