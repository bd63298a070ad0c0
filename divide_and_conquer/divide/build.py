"""The registry of dividers and its builder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from fvcore.common.config import CfgNode

from divide_and_conquer.divide.region_cuts import RegionCuts
from divide_and_conquer.features.build import FeatureExtractor
from unsam.config.registry import Registry
from unsam.structures import MaskSet

if TYPE_CHECKING:
    from divide_and_conquer.divide.cutler import CutlerDivider
    from divide_and_conquer.divide.maskcut import MaskCutDivider


class Divider(Protocol):
    """Anything that finds whole objects in a photo."""

    def __call__(self, photo: np.ndarray) -> MaskSet:
        """Return objects of a photo ``uint8 [H, W, 3]`` (RGB), scored, source ``divide``."""
        ...


DIVIDERS = Registry("PSEUDO_MASKS.DIVIDE.NAME")


@DIVIDERS.register()
def none(cfg: CfgNode, features: FeatureExtractor) -> None:
    """No objects but given ones."""


@DIVIDERS.register()
def ncut(cfg: CfgNode, features: FeatureExtractor) -> RegionCuts:
    """Normalised cuts on the features that the regions merge by."""
    return RegionCuts.from_config(cfg, features)


@DIVIDERS.register()
def cutler(cfg: CfgNode, features: FeatureExtractor) -> CutlerDivider:
    """CutLER's detector; its weights are downloaded."""
    # The other dividers do without torchvision, which takes long to import.
    from divide_and_conquer.divide.cutler import CutlerDivider

    return CutlerDivider.from_config(cfg)


@DIVIDERS.register()
def maskcut(cfg: CfgNode, features: FeatureExtractor) -> MaskCutDivider:
    """Normalised cuts on the patch features of a ViT (CutLER's MaskCut)."""
    from divide_and_conquer.divide.maskcut import MaskCutDivider

    return MaskCutDivider.from_config(cfg, features)


def build_divider(cfg: CfgNode, features: FeatureExtractor) -> Divider | None:
    """Build the divider that PSEUDO_MASKS.DIVIDE.NAME selects; "none" is no divider.

    Args:
        cfg: the config.
        features: what `build_features` made of the same config, so that weights load once.
    """
    return DIVIDERS.get(cfg.PSEUDO_MASKS.DIVIDE.NAME)(cfg, features)
