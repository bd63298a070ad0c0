"""The registry of refiners and its builder."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from fvcore.common.config import CfgNode

from divide_and_conquer.refine.acceptance import RefineReport
from divide_and_conquer.refine.cascadepsp import CascadePspRefiner
from divide_and_conquer.refine.crf import CrfRefiner
from divide_and_conquer.refine.guided import GuidedRefiner
from divide_and_conquer.refine.superpixel import SuperpixelRefiner
from unsam.config.registry import Registry
from unsam.structures import MaskSet

__all__ = ["REFINERS", "RefineReport", "Refiner", "build_refiner"]


class Refiner(Protocol):
    """Anything that moves the borders of masks to those of the photo.

    Attributes:
        supervised: whether it learned from masks made by people.
    """

    supervised: bool

    def __call__(self, photo: np.ndarray, masks: MaskSet) -> tuple[MaskSet, RefineReport]:
        """Return the refined masks of a photo ``uint8 [H, W, 3]`` (RGB) and what became of them.

        The same masks in the same order with the same fields; only shapes change. Masks that
        nested before need not nest exactly after.
        """
        ...


REFINERS = Registry("PSEUDO_MASKS.REFINE.NAME")


@REFINERS.register()
def none(cfg: CfgNode) -> None:
    """Masks stay as they are."""


@REFINERS.register()
def superpixel(cfg: CfgNode) -> SuperpixelRefiner:
    """Snap to small regions of even colour; no weights."""
    return SuperpixelRefiner.from_config(cfg)


@REFINERS.register()
def guided(cfg: CfgNode) -> GuidedRefiner:
    """The guided filter; no weights."""
    return GuidedRefiner.from_config(cfg)


@REFINERS.register()
def crf(cfg: CfgNode) -> CrfRefiner:
    """The dense CRF of MaskCut; no weights."""
    return CrfRefiner.from_config(cfg)


@REFINERS.register()
def cascadepsp(cfg: CfgNode) -> CascadePspRefiner:
    """CascadePSP, whose weights learned from human masks."""
    return CascadePspRefiner.from_config(cfg)


def build_refiner(cfg: CfgNode) -> Refiner | None:
    """Build the refiner that PSEUDO_MASKS.REFINE.NAME selects; "none" is no refiner.

    Raises:
        ConfigError: an unknown name, a value out of its range, or CascadePSP is not there.
    """
    return REFINERS.get(cfg.PSEUDO_MASKS.REFINE.NAME)(cfg)
