"""Whole photos by their contours: learnt from pseudo masks, turned into a hierarchy of regions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn
from torch.nn import functional as F

from unsam.modeling.contour_decoder import ContourDecoder, contour_loss
from unsam.modeling.image_encoder import EncodedImages
from unsam.regions.contour_hierarchy import ContourHierarchy
from unsam.structures import MaskSet
from unsam.structures.photo import resize_photo, scaled_size

GRANULARITY_WINDOW = 0.1
"""Masks this near a granularity that is asked for belong to it."""


class Contours(nn.Module):
    """Contours of photos, and the regions that they enclose.

    Where a click asks for one mask, this gives all of a photo from a few passes of the encoder.

    Args:
        decoder: features to contour logits.
        hierarchy: contours to masks.
        image_size: photos with a longer side than this, in pixels, are segmented at this size.
        scales: sizes at which contours are found, relative to that; their mean counts.
        weight: of the loss.
        snap_iou: see `SegmentationModel.snap_iou`.
    """

    def __init__(
        self,
        *,
        decoder: ContourDecoder,
        hierarchy: ContourHierarchy,
        image_size: int = 512,
        scales: Sequence[float] = (0.5, 1.0, 1.5),
        weight: float = 1.0,
        snap_iou: float = 0.5,
    ) -> None:
        super().__init__()
        if not scales or not all(0 < scale < math.inf for scale in scales) or image_size < 1:
            raise ValueError(
                f"MODEL.CONTOURS: SCALES and IMAGE_SIZE are over 0, got {tuple(scales)} and "
                f"{image_size}"
            )
        self.decoder = decoder
        self.hierarchy = hierarchy
        self.image_size = image_size
        self.scales = tuple(scales)
        self.weight = weight
        self.snap_iou = snap_iou

    @classmethod
    def from_config(
        cls, cfg: CfgNode, embed_dim: int, high_res_dims: tuple[int, int]
    ) -> dict[str, Any]:
        """Translate ``MODEL.CONTOURS`` into the constructor's arguments.

        Args:
            cfg: the config.
            embed_dim: channels of the encoder's embedding.
            high_res_dims: channels of its finer maps.
        """
        node = cfg.MODEL.CONTOURS
        decoder = ContourDecoder(
            embed_dim=embed_dim, high_res_dims=high_res_dims, **ContourDecoder.from_config(cfg)
        )
        return {
            "decoder": decoder,
            "hierarchy": ContourHierarchy(**ContourHierarchy.from_config(cfg)),
            "image_size": node.IMAGE_SIZE,
            "scales": node.SCALES,
            "weight": cfg.CRITERION.CONTOUR_WEIGHT,
            "snap_iou": node.SNAP_IOU,
        }

    def loss(self, features: EncodedImages, batch: Sequence[dict[str, Any]]) -> Tensor:
        """Return the weighted loss of the contours of a batch, a scalar.

        Args:
            features: of the photos of the batch, with their pixels.
            batch: samples with ``contours``, uint8 ``[h, w]``, see `unsam.regions.contours`.
        """
        assert features.pixels is not None, "encoded without pixels"
        logits = self.decoder(features.pixels, features)
        strength = torch.zeros(logits.shape, device=logits.device)
        inside = torch.zeros(logits.shape, dtype=torch.bool, device=logits.device)
        for index, sample in enumerate(batch):
            h, w = sample["contours"].shape
            strength[index, :h, :w] = sample["contours"].to(logits.device) / 255
            inside[index, :h, :w] = True
        return self.weight * contour_loss(logits, strength, inside)

    def segment(
        self,
        encode: Callable[[Sequence[Tensor]], EncodedImages],
        photo: np.ndarray,
        granularities: Sequence[float] | None = None,
    ) -> MaskSet:
        """Return the masks of a photo, best first.

        Args:
            encode: prepared photos ``uint8 [3, h, w]`` to features with pixels.
            photo: ``uint8 [H, W, 3]``, RGB.
            granularities: masks within `GRANULARITY_WINDOW` of one of these; None for all.

        Returns:
            Masks of the photo's size; score is the contour all around a mask relative to the
            best one's, granularity and parents are those of the hierarchy.
        """
        size = (photo.shape[0], photo.shape[1])
        # Enlarging blurs what ends at a pixel, and gives the decoder nothing to see.
        longer_side = min(max(size), self.image_size)
        work = resize_photo(photo, scaled_size(size, longer_side))
        masks = self.hierarchy(self.find(encode, work), work)
        if granularities is not None:
            distance = np.abs(masks.granularity[:, None] - np.asarray(granularities)[None])
            masks = masks.filter(distance.min(axis=1) <= GRANULARITY_WINDOW)
        return (masks if masks.size == size else masks.resize(size)).sort(by="score")

    def find(
        self, encode: Callable[[Sequence[Tensor]], EncodedImages], photo: np.ndarray
    ) -> np.ndarray:
        """Return how sure there is a contour at each pixel, ``float32 [H, W]`` in [0, 1].

        Args:
            encode: see `segment`.
            photo: ``uint8 [H, W, 3]``, RGB, at working size.
        """
        height, width = photo.shape[:2]
        total = torch.zeros(height, width)
        for scale in self.scales:
            size = (max(1, round(height * scale)), max(1, round(width * scale)))
            resized = photo if scale == 1 else resize_photo(photo, size)
            features = encode([torch.from_numpy(np.ascontiguousarray(resized)).permute(2, 0, 1)])
            assert features.pixels is not None, "encoded without pixels"
            found = self.decoder(features.pixels, features)[:, : size[0], : size[1]]
            sure = found.to(torch.float32).sigmoid()[None]
            total += F.interpolate(sure, size=(height, width), mode="bilinear")[0, 0].cpu()
        return (total / len(self.scales)).numpy()
