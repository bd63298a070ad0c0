"""Which masks of a photo are instances, and which are parts of which instance (UnSAMv2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unsam.structures import MaskSet

# Of two near copies the one from the surer source stays.
_SOURCE_RANK = {"human": 3, "divide": 2, "conquer": 1}


def source_rank(masks: MaskSet) -> np.ndarray:
    """Return ``int64 [N]``: people before the divider before clusters before all else."""
    return np.array([_SOURCE_RANK.get(str(name), 0) for name in masks.source], np.int64)


def sureness(masks: MaskSet) -> np.ndarray:
    """Return ``float64 [N]``, larger for the surer mask: by source, and by score within one."""
    return source_rank(masks) + np.clip(masks.score.astype(np.float64), 0, 1) / 2


@dataclass(frozen=True)
class Instances:
    """Relations among the N masks of a set, by index.

    A mask that is neither an instance nor a part is small, and lies in no instance.

    Attributes:
        instances: ``int64 [I]``, ascending.
        parts: for each instance the masks in it, ``int64 [P]``, ascending. A mask may be a part
            of several instances. Instances are parts of no other one, except as published.
    """

    instances: np.ndarray
    parts: tuple[np.ndarray, ...]

    @classmethod
    def all_of(cls, masks: MaskSet) -> Instances:
        """Return each mask as an instance without parts, as UnSAM has it."""
        return cls(np.arange(len(masks)), (np.zeros(0, np.int64),) * len(masks))


def relate(
    masks: MaskSet, *, min_area_share: float, containment: float, published: bool = False
) -> Instances:
    """Tell instances from parts.

    Mask a lies in mask b if more than `containment` of its pixels do. An instance covers more than
    `min_area_share` of the photo and lies in no other instance; its parts are the other masks that
    lie in it, of any size (reference sheet of UnSAMv2, section 1.2).

    Two near copies of one object lie in each other. The one from the surer source stands, then the
    one with the better score, of equal scores the larger one, then the first one; the other becomes
    its part, and goes as a near copy where parts are suppressed. So no object is lost: a large mask
    that is no instance lies in one.

    Args:
        masks: objects and parts of one photo, with sources and scores.
        min_area_share: as above, of the photo's pixels.
        containment: as above, in [0.5, 1).
        published: as the released code: an instance must lie in no other mask at all. Near copies
            then exclude each other, and so does a mask that is itself no instance. Exact copies of
            an instance are not its parts.

    Returns:
        The instances and their parts.

    Raises:
        ValueError: `containment` out of range.
    """
    if not 0.5 <= containment < 1:
        raise ValueError(f"containment must lie in [0.5, 1), got {containment}")
    share = masks.containment()
    inside = share > containment
    np.fill_diagonal(inside, False)
    large = masks.areas > min_area_share * masks.size[0] * masks.size[1]
    if published:
        chosen = np.flatnonzero(large & ~inside.any(axis=1))
        # Both shares are 1 for exact copies only.
        inside &= ~((share == 1) & (share.T == 1))
    else:
        chosen = _standing(masks, inside, large)
        inside[chosen] = False
    return Instances(chosen, tuple(np.flatnonzero(inside[:, index]) for index in chosen))


def _standing(masks: MaskSet, inside: np.ndarray, large: np.ndarray) -> np.ndarray:
    """Return the large masks that lie in no other one that stands, ``int64 [I]``, ascending.

    Among masks that do not lie in each other, what contains is larger than what it contains. Thus
    with copies out of the way, one pass from large to small decides. Copies come last: one that
    does not lie where its original lies still stands, even if it holds an instance itself.
    """
    areas = masks.areas
    index = np.arange(len(masks))
    copies = inside & inside.T
    original = np.zeros(len(masks), bool)
    for mask in np.lexsort((index, -areas, -sureness(masks))):
        original[mask] = not (copies[mask] & original).any()
    standing = np.zeros(len(masks), bool)
    for mask in np.lexsort((index, -areas, ~original)):
        standing[mask] = large[mask] and not (inside[mask] & standing).any()
    return np.flatnonzero(standing)
