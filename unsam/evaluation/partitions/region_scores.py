"""Region covering, Rand index and variation of information: per photo, and over photos."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from unsam.evaluation.partitions.agreement import agreement, contingency_table


class PhotoRegions(NamedTuple):
    """How the partitions of one photo at K levels agree with its annotators.

    Attributes:
        levels: ``float64 [K, 3]``: area of people's regions, each times its best IoU, summed over
            people; Rand index and variation of information in bits, means over people.
        best: as the first column, with the best IoU over all levels.
        area: area of people's regions, summed over people.
    """

    levels: np.ndarray
    best: float
    area: float


def score_partitions(
    partitions: Iterable[np.ndarray], people: Sequence[np.ndarray]
) -> PhotoRegions:
    """Return how the partitions of one photo agree with each annotator's.

    Args:
        partitions: label maps ``int [H, W]`` with labels from 0, one per level.
        people: label maps ``int [H, W]`` with labels from 0, at least one.
    """
    areas = [np.bincount(labels.reshape(-1)).astype(np.float64) for labels in people]
    best = [np.zeros(item.size) for item in areas]
    levels = []
    for regions in partitions:
        found = [agreement(contingency_table(regions, labels)) for labels in people]
        covered = sum(float(a @ item.best_iou) for a, item in zip(areas, found, strict=True))
        best = [np.maximum(b, item.best_iou) for b, item in zip(best, found, strict=True)]
        rand = np.mean([item.rand_index for item in found])
        levels.append((covered, rand, np.mean([item.information for item in found])))
    return PhotoRegions(
        levels=np.array(levels),
        best=sum(float(a @ b) for a, b in zip(areas, best, strict=True)),
        area=sum(float(a.sum()) for a in areas),
    )


def region_scores(photos: Sequence[PhotoRegions], levels: Sequence[float]) -> dict[str, float]:
    """Return the scores over photos at the best common level (ODS) and at each photo's own (OIS).

    Covering sums over photos before it divides;
    Rand index (PRI) and variation of information (VI) are means over photos.

    Args:
        photos: at least one, all with K levels.
        levels: what the K levels are called: thresholds or granularities.
    """
    tables = np.stack([item.levels for item in photos])
    area = sum(item.area for item in photos)
    covering = tables[:, :, 0].sum(axis=0) / area
    rand, information = tables[:, :, 1].mean(axis=0), tables[:, :, 2].mean(axis=0)
    return {
        "covering_ODS": float(covering.max()),
        "covering_ODS_level": float(levels[int(covering.argmax())]),
        "covering_OIS": float(tables[:, :, 0].max(axis=1).sum() / area),
        "covering_best": sum(item.best for item in photos) / area,
        "PRI_ODS": float(rand.max()),
        "PRI_ODS_level": float(levels[int(rand.argmax())]),
        "PRI_OIS": float(tables[:, :, 1].max(axis=1).mean()),
        "VI_ODS": float(information.min()),
        "VI_ODS_level": float(levels[int(information.argmin())]),
        "VI_OIS": float(tables[:, :, 2].min(axis=1).mean()),
    }
