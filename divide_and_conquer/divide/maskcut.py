"""MaskCut as a divider: objects of a photo by normalised cuts of the patch features of a ViT.

Source: CutLER (arXiv 2301.11320, section 3.2): the photo as a square of 480 pixels, keys of
DINO ViT-B/8 (60 x 60 patches), tau 0.15, 3 objects, each sharpened by a dense CRF.
"""

from __future__ import annotations

import numpy as np
import torch
from fvcore.common.config import CfgNode
from PIL import Image
from scipy.ndimage import binary_fill_holes

from divide_and_conquer.divide.ncut import maskcut
from divide_and_conquer.features.build import FeatureExtractor
from divide_and_conquer.features.vit import VitFeatures
from divide_and_conquer.refine.crf import dense_crf
from unsam.regions.conquer import grid_edges
from unsam.structures import MaskSet

# Objects that the CRF changes to less than this IoU with themselves are dropped.
MIN_CRF_IOU = 0.5


class MaskCutDivider:
    """Divider: at most `max_objects` disjoint cuts of the photo's patch grid."""

    def __init__(
        self,
        features: FeatureExtractor,
        *,
        input_size: int,
        tau: float,
        max_objects: int,
        crf: bool,
        device: str | torch.device | None = None,
    ) -> None:
        """Keep the settings.

        Args:
            features: gives the patches of a square photo of `input_size` pixels.
            input_size: side in pixels of the square that features and CRF see.
            tau: cosine above which two patches are linked, in [-1, 1].
            max_objects: rounds; each gives at most one object.
            crf: sharpen the masks of patches by a dense CRF.
            device: of the cuts, see `ncut.maskcut`.
        """
        self.features = features
        self.input_size = input_size
        self.tau = tau
        self.max_objects = max_objects
        self.crf = crf
        self.device = device

    @classmethod
    def from_config(cls, cfg: CfgNode, features: FeatureExtractor) -> MaskCutDivider:
        """Build from PSEUDO_MASKS.DIVIDE and PSEUDO_MASKS.FEATURES.VIT.

        Args:
            cfg: the whole config.
            features: of the same config; a ViT shares its weights, for others one is loaded.
        """
        node = cfg.PSEUDO_MASKS.DIVIDE
        vit = features if isinstance(features, VitFeatures) else VitFeatures.from_config(cfg)
        return cls(
            vit.with_input(node.MASKCUT.INPUT_SIZE, "square"),
            input_size=node.MASKCUT.INPUT_SIZE,
            tau=node.TAU,
            max_objects=node.MAX_OBJECTS,
            crf=node.MASKCUT.CRF,
            device=vit.device if vit.device.type == "cuda" else None,
        )

    def __call__(self, photo: np.ndarray) -> MaskSet:
        """Return the objects of a photo ``uint8 [H, W, 3]`` (RGB), source ``divide``.

        Scores are 1: the method does not rank its objects; they come in the order of the cuts.
        """
        side, size = self.input_size, (photo.shape[0], photo.shape[1])
        image = Image.fromarray(np.ascontiguousarray(photo))
        square = np.asarray(image.resize((side, side), Image.Resampling.LANCZOS))
        masks = enlarge(self._patch_masks(square), side)
        if self.crf and len(masks):
            masks = sharpen(square, masks)
        if not len(masks):
            return MaskSet.empty(size)
        resized = np.stack([_resize(mask, size) for mask in masks])
        found = MaskSet.from_masks(resized, source="divide")
        return found.filter(found.areas > 0)

    def _patch_masks(self, square: np.ndarray) -> np.ndarray:
        """Return the objects that were found, ``bool [K, h, w]`` of patches."""
        features = self.features(square)
        height, width, dims = features.shape
        corners = np.array([0, width - 1, (height - 1) * width, height * width - 1])
        found = maskcut(
            features.reshape(-1, dims),
            grid_edges(height, width),
            corners,
            tau=self.tau,
            rounds=self.max_objects,
            device=self.device,
        )
        return found[found.any(axis=1)].reshape(-1, height, width)


def enlarge(masks: np.ndarray, side: int) -> np.ndarray:
    """Enlarge ``bool [K, h, w]`` to ``bool [K, side, side]`` by nearest neighbour."""
    rows = np.arange(side) * masks.shape[1] // side
    columns = np.arange(side) * masks.shape[2] // side
    return masks[:, rows[:, None], columns[None, :]]


def sharpen(photo: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Sharpen masks by the dense CRF, fill their holes, drop those that it carries away.

    Args:
        photo: ``uint8 [H, W, 3]``.
        masks: ``bool [K, H, W]``.

    Returns:
        ``bool [at most K, H, W]``: those whose IoU with the mask before is 0.5 or more.
    """
    after = dense_crf(photo, masks.astype(np.float32))
    after = np.stack([binary_fill_holes(mask) for mask in after])
    both = (masks & after).sum(axis=(1, 2))
    either = (masks | after).sum(axis=(1, 2))
    return after[both >= MIN_CRF_IOU * np.maximum(either, 1)]


def _resize(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize ``bool [h, w]`` to ``bool [H, W]``: bicubic, cut at the middle, as published."""
    image = Image.fromarray(mask.astype(np.uint8) * np.uint8(255))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BICUBIC)) > 127
