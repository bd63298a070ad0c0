"""GranularSam: one mask per prompt, at the granularity that the prompt asks for (UnSAMv2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch import Tensor

from unsam.modeling.automatic_masks import AutomaticMasks
from unsam.modeling.build import META_ARCHITECTURES, build_image_encoder
from unsam.modeling.click_trained import ClickTrainedModel
from unsam.modeling.contours import Contours
from unsam.modeling.criterion import MaskCriterion
from unsam.modeling.image_encoder import EncodedImages, ImageEncoder
from unsam.modeling.interactive import TrainingClicks
from unsam.modeling.mask_decoder import MaskDecoder
from unsam.modeling.prompt_encoder import PromptEncoder
from unsam.modeling.prompts import Prompts
from unsam.modeling.segmentation_model import common_size, padded_pixels
from unsam.modeling.training_context import TrainingContext
from unsam.structures import MaskSet
from unsam.structures.photo import resize_photo, scaled_size


@META_ARCHITECTURES.register()
class GranularSam(ClickTrainedModel):
    """Image encoder, prompt encoder and mask decoder, with interactive training.

    Args:
        image_encoder: photo to embedding.
        prompt_encoder: prompts to tokens.
        mask_decoder: both to masks.
        criterion: the losses.
        automatic: how whole photos are segmented when the model is in evaluation mode.
        clicks: the simulated user of training.
        image_size: the longer side of the photos that the model is made for, in pixels.
        pixel_mean: RGB mean, 0 to 255.
        pixel_std: RGB standard deviation, 0 to 255.
        contours: how whole photos are segmented instead of by clicks; None for clicks.
    """

    is_granular = True
    needs_granularity = True

    def __init__(
        self,
        *,
        image_encoder: ImageEncoder,
        prompt_encoder: PromptEncoder,
        mask_decoder: MaskDecoder,
        criterion: MaskCriterion,
        automatic: AutomaticMasks,
        clicks: TrainingClicks,
        image_size: int,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        contours: Contours | None = None,
    ) -> None:
        super().__init__(
            automatic=automatic,
            criterion=criterion,
            clicks=clicks,
            pixel_mean=pixel_mean,
            pixel_std=pixel_std,
        )
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.contours = contours
        self.snap_iou = 0.0 if contours is None else contours.snap_iou
        self.image_size = image_size
        self.mask_stride = image_encoder.stride // 4

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate the config into the constructor's arguments."""
        encoder = build_image_encoder(cfg)
        prompt, decoder = cfg.MODEL.PROMPT_ENCODER, cfg.MODEL.MASK_DECODER
        point_dims = (encoder.embed_dim, encoder.high_res_dims[0])
        prompt_encoder = PromptEncoder(
            embed_dim=encoder.embed_dim,
            image_size=cfg.INPUT.IMAGE_SIZE,
            stride=encoder.stride,
            mask_dim=prompt.MASK_DIM,
            point_feature_dims=point_dims if prompt.POINT_FEATURES else None,
            click_widths=prompt.CLICK_WIDTHS if prompt.CLICK_MAPS else (),
            similarity=_similarity_arguments(cfg, encoder.high_res_dims[0]),
            fourier_dim=prompt.FOURIER_DIM,
            temperature=prompt.TEMPERATURE,
        )
        contours = None
        if cfg.MODEL.CONTOURS.ENABLED:
            dims = (encoder.embed_dim, encoder.high_res_dims)
            contours = Contours(**Contours.from_config(cfg, *dims))
        return super().from_config(cfg) | {
            "contours": contours,
            "image_encoder": encoder,
            "prompt_encoder": prompt_encoder,
            "mask_decoder": MaskDecoder(
                embed_dim=encoder.embed_dim,
                high_res_dims=encoder.high_res_dims,
                depth=decoder.DEPTH,
                num_heads=decoder.NUM_HEADS,
                mlp_dim=decoder.MLP_DIM,
                upscale_dims=tuple(decoder.UPSCALE_DIMS),
                num_maps=prompt_encoder.num_fine_maps,
            ),
            "image_size": cfg.INPUT.IMAGE_SIZE,
        }

    def resized_size(self, photo_size: tuple[int, int]) -> tuple[int, int]:
        """Scale the longer side to `image_size`."""
        return scaled_size(photo_size, self.image_size)

    def padded_size(self, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """Return the least height and width, multiples of the stride, that hold all sizes."""
        return common_size(sizes, self.image_encoder.stride)

    def prepare(self, photo: np.ndarray) -> Tensor:
        """Resize ``uint8 [H, W, 3]`` to uint8 ``[3, h, w]``."""
        resized = resize_photo(photo, self.resized_size((photo.shape[0], photo.shape[1])))
        return torch.from_numpy(np.ascontiguousarray(resized)).permute(2, 0, 1)

    def encode(self, images: Sequence[Tensor]) -> EncodedImages:
        """Encode photos once, for any number of prompts.

        Args:
            images: uint8 ``[3, h, w]`` each, RGB, longer side at most about `image_size`. They
                are padded at the right and the bottom to one size.

        Returns:
            Features of ``[B, ...]``, on the model's device.
        """
        stride = self.image_encoder.stride
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        height, width = self.padded_size(sizes)
        pixels = padded_pixels(images, (height, width), self.pixel_mean, self.pixel_std)
        valid = torch.zeros(
            (len(images), height // stride, width // stride), dtype=torch.bool, device=pixels.device
        )
        for index, (h, w) in enumerate(sizes):
            valid[index, : -(-h // stride), : -(-w // stride)] = True
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        features = self.image_encoder(pixels, None if bool(valid.all()) else valid)
        return features if self.contours is None else replace(features, pixels=pixels)

    def losses(self, context: TrainingContext) -> dict[str, Tensor]:
        """Return the losses of clicks, and ``loss_contour`` where contours are learnt."""
        losses = super().losses(context)
        if self.contours is not None:
            losses["loss_contour"] = self.contours.loss(context.features, context.batch)
        return losses

    def segment_photo(
        self,
        photo: np.ndarray,
        granularities: Sequence[float] | None = None,
        features: EncodedImages | None = None,
    ) -> MaskSet:
        """Segment a photo by its contours, where they are learnt, at a size of their own."""
        if self.contours is None:
            return super().segment_photo(photo, granularities, features)
        return self.contours.segment(self.encode, photo, granularities)

    @property
    def patch_dim(self) -> int:
        """Channels of the image embedding."""
        return self.image_encoder.embed_dim

    def patch_embeddings(self, features: EncodedImages) -> Tensor:
        """Return the image embedding, ``[B, C, h, w]`` at the encoder's stride."""
        return features.embedding

    def decode(self, features: EncodedImages, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Answer P prompts with one mask each.

        Args:
            features: what `encode` returned for B photos.
            prompts: P prompts about them, each with a granularity.

        Returns:
            Mask logits float32 ``[P, h, w]``, over 0 in the mask, `mask_stride` pixels per cell of
            the padded input; predicted IoU float32 ``[P]`` in [0, 1].

        Raises:
            ValueError: the prompts have no granularity.
        """
        if prompts.granularity is None:
            raise ValueError("GranularSam has one answer per granularity; name granularities")
        h, w = features.embedding.shape[-2:]
        if len(prompts) == 0:
            cells = self.image_encoder.stride // self.mask_stride
            empty = features.embedding.new_zeros((0, cells * h, cells * w), dtype=torch.float32)
            return empty, empty[:, 0, 0]
        sparse, real = self.prompt_encoder.sparse(prompts, features)
        dense = self.prompt_encoder.dense(prompts, h, w)
        position = self.prompt_encoder.position.grid(h, w, self.image_encoder.stride)
        maps = self.prompt_encoder.fine_maps(prompts, features)
        return self.mask_decoder(
            features, sparse, real, dense, position, prompts.image_of_prompt, maps
        )


def _similarity_arguments(cfg: CfgNode, in_dim: int) -> dict[str, int] | None:
    prompt = cfg.MODEL.PROMPT_ENCODER
    if prompt.SIMILARITY_HEADS == 0:
        return None
    return {
        "in_dim": in_dim,
        "num_heads": prompt.SIMILARITY_HEADS,
        "head_dim": prompt.SIMILARITY_DIM,
    }
