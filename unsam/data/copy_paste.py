"""Copy-paste: masks of one photo are laid over another, with the pixels under them.

Simple Copy-Paste (Ghiasi et al., CVPR 2021), as CutLER uses it for self-training (Wang et al.,
CVPR 2023, section 3.3): without blending, at a place and scale drawn at random. Masks here nest, so
what is pasted is the union of a few masks, and every mask of the donor that lies within it comes
along as a label; a mask that reaches beyond it would be half a mask, and does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAX_PASTED = 4
"""Most masks whose union is pasted."""

MAX_COVERAGE = 0.5
"""A mask over more of its photo is background, or the whole of it, and not pasted."""

MIN_VISIBLE = 0.5
"""A mask beneath that keeps less of its area is dropped."""


@dataclass(frozen=True)
class MaskedPhoto:
    """A photo with some of its masks.

    Attributes:
        image: ``uint8 [h, w, 3]``, RGB.
        masks: ``bool [M, h, w]``.
        granularity: ``float32 [M]``.
    """

    image: np.ndarray
    masks: np.ndarray
    granularity: np.ndarray


def copy_paste(
    generator: np.random.Generator,
    target: MaskedPhoto,
    donor: MaskedPhoto,
    *,
    limit: int,
    min_area: int = 1,
) -> MaskedPhoto:
    """Paste some masks of `donor` over `target`; granularity stays with each mask.

    Args:
        generator: the sample's own generator.
        target: the photo beneath; its arrays are left as they are.
        donor: the photo to cut from, at the scale at which it is pasted; its masks in random
            order, the first objects among them are pasted.
        limit: most masks to return; drawn evenly among both photos' if there are more.
        min_area: least pixels of a mask in the result.

    Returns:
        The photo in the size of `target`; `target` itself where `donor` has no mask to paste.
    """
    count = int(generator.integers(1, MAX_PASTED + 1))
    objects = donor.masks[donor.masks.mean((1, 2)) <= MAX_COVERAGE]
    region: np.ndarray = np.any(objects[:count], axis=0)
    if not region.any():
        return target
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    # A region larger than the target loses what hangs over.
    height = min(rows[-1] + 1 - rows[0], target.image.shape[0])
    width = min(columns[-1] + 1 - columns[0], target.image.shape[1])
    cut = np.s_[rows[0] : rows[0] + height, columns[0] : columns[0] + width]
    top = int(generator.integers(0, target.image.shape[0] - height + 1))
    left = int(generator.integers(0, target.image.shape[1] - width + 1))
    place = np.s_[top : top + height, left : left + width]

    image, beneath = target.image.copy(), target.masks.copy()
    image[place][region[cut]] = donor.image[cut][region[cut]]
    beneath[:, *place] &= ~region[cut]
    before, after = target.masks.sum((1, 2)), beneath.sum((1, 2))
    seen = np.flatnonzero((after >= min_area) & (after >= MIN_VISIBLE * before))

    within = ~(donor.masks & ~region).any((1, 2))
    large = donor.masks[:, *cut].sum((1, 2)) >= min_area
    pasted = np.flatnonzero(within & large)

    chosen = np.sort(generator.permutation(seen.size + pasted.size)[:limit])
    old, new = seen[chosen[chosen < seen.size]], pasted[chosen[chosen >= seen.size] - seen.size]
    masks = np.zeros((chosen.size, *target.image.shape[:2]), bool)
    masks[: old.size] = beneath[old]
    masks[old.size :, *place] = donor.masks[new][:, *cut]
    granularity = np.concatenate([target.granularity[old], donor.granularity[new]])
    return MaskedPhoto(image, masks, granularity)
