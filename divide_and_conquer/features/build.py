"""The registry of feature extractors and its builder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from fvcore.common.config import CfgNode

from divide_and_conquer.features.classical import ClassicalFeatures
from unsam.config.registry import Registry

if TYPE_CHECKING:
    from divide_and_conquer.features.vit import VitFeatures


class FeatureExtractor(Protocol):
    """Anything that turns a photo into features."""

    def __call__(self, photo: np.ndarray) -> np.ndarray:
        """Return ``float32 [h, w, D]`` for a photo ``uint8 [H, W, 3]`` (RGB).

        The grid covers the whole photo; one cell per pixel, or one per patch.
        """
        ...

    def batch(self, photos: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return one such grid for each photo; they may differ in size."""
        ...


FEATURES = Registry("PSEUDO_MASKS.FEATURES.NAME")


@FEATURES.register()
def classical(cfg: CfgNode) -> ClassicalFeatures:
    """Colour, texture and gradient statistics; no weights."""
    return ClassicalFeatures.from_config(cfg)


@FEATURES.register()
def vit(cfg: CfgNode) -> VitFeatures:
    """Patch features of a self-supervised ViT: DINO, DINOv2 or DINOv3."""
    # The other extractors do without timm, which takes long to import.
    from divide_and_conquer.features.vit import VitFeatures

    return VitFeatures.from_config(cfg)


def build_features(cfg: CfgNode) -> FeatureExtractor:
    """Build the extractor that PSEUDO_MASKS.FEATURES.NAME selects."""
    return FEATURES.get(cfg.PSEUDO_MASKS.FEATURES.NAME)(cfg)
