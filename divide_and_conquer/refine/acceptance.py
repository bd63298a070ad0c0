"""Which refined masks are taken, and the count of those that are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from unsam.errors import ConfigError
from unsam.regions.compiled import kernel
from unsam.structures import MaskSet
from unsam.structures.mask_set import concatenate_runs


@dataclass(frozen=True)
class RefineReport:
    """What became of masks that were to be refined; each is counted once.

    Attributes:
        refined: the refined mask is taken, changed or not.
        moved_too_far: the original is kept, for the refined one was too different or too large.
        failed: the original is kept, for the refinement raised an error or left nothing.
    """

    refined: int = 0
    moved_too_far: int = 0
    failed: int = 0

    def __add__(self, other: RefineReport) -> RefineReport:
        return RefineReport(
            self.refined + other.refined,
            self.moved_too_far + other.moved_too_far,
            self.failed + other.failed,
        )

    def to_dict(self) -> dict[str, int]:
        """Return the counts by name, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Acceptance:
    """The rule by which a refined mask replaces the original (UnSAM, refinement step).

    Attributes:
        min_iou: least IoU of the two, in [0, 1].
        max_area_share: largest share of the photo that the refined mask may cover, in (0, 1].
    """

    min_iou: float
    max_area_share: float

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: a value is out of its range.
        """
        if not 0 <= self.min_iou <= 1:
            raise ConfigError(f"PSEUDO_MASKS.REFINE.MIN_IOU must be in [0, 1], got {self.min_iou}")
        if not 0 < self.max_area_share <= 1:
            raise ConfigError(
                f"PSEUDO_MASKS.REFINE.MAX_AREA_SHARE must be in (0, 1], got {self.max_area_share}"
            )

    def apply(
        self, masks: MaskSet, candidates: Sequence[np.ndarray | None]
    ) -> tuple[MaskSet, RefineReport]:
        """Replace the masks whose candidates pass; number, order and fields stay.

        Args:
            masks: N masks.
            candidates: for each the runs ``int32 [R, 2]`` of the refined mask; None or no runs
                where the refinement failed.
        """
        pixels = masks.size[0] * masks.size[1]
        chosen, report = [], RefineReport()
        for index, candidate in enumerate(candidates):
            original = masks.runs_of(index)
            if candidate is None or not len(candidate):
                chosen.append(original)
                report += RefineReport(failed=1)
                continue
            common, union = _common_and_union(original, candidate)
            area = int((candidate[:, 1] - candidate[:, 0]).sum())
            fits = area <= self.max_area_share * pixels and common >= self.min_iou * union
            chosen.append(candidate if fits else original)
            report += RefineReport(refined=1) if fits else RefineReport(moved_too_far=1)
        refined = MaskSet(
            masks.size,
            *concatenate_runs(chosen),
            score=masks.score,
            granularity=masks.granularity,
            parent=masks.parent,
            source=masks.source,
        )
        return refined, report


@kernel
def _common_and_union(first: np.ndarray, second: np.ndarray) -> tuple[int, int]:
    """Return the pixels that two masks share and those that they cover together."""
    common, total = 0, 0
    for runs in (first, second):
        for row in range(runs.shape[0]):
            total += runs[row, 1] - runs[row, 0]
    i, j = 0, 0
    while i < first.shape[0] and j < second.shape[0]:
        common += max(0, min(first[i, 1], second[j, 1]) - max(first[i, 0], second[j, 0]))
        if first[i, 1] < second[j, 1]:
            i += 1
        else:
            j += 1
    return common, total - common
