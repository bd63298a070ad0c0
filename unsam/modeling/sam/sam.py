"""Sam: Segment Anything, which can be taught to answer at a granularity (UnSAMv2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch import Tensor
from torch.nn import functional as F

from unsam.errors import ConfigError
from unsam.modeling.automatic_masks import AutomaticMasks, crop_to_input
from unsam.modeling.build import META_ARCHITECTURES
from unsam.modeling.click_trained import ClickTrainedModel
from unsam.modeling.criterion import MaskCriterion
from unsam.modeling.granular_parts import GranularityParts
from unsam.modeling.interactive import TrainingClicks
from unsam.modeling.lora import add_lora, enable_lora
from unsam.modeling.precision import at_least_float32
from unsam.modeling.prompts import Prompts
from unsam.modeling.sam.image_encoder import ENCODERS, SamImageEncoder
from unsam.modeling.sam.mask_decoder import LORA_LAYERS, DecoderInput, SamMaskDecoder
from unsam.modeling.sam.prompt_encoder import SamPromptEncoder
from unsam.modeling.segmentation_model import InputFrame, padded_pixels

_GROWN_AT_ONCE = 16


@dataclass(frozen=True)
class SamFeatures:
    """What `Sam.encode` returns for B photos.

    Attributes:
        embedding: float ``[B, C, h, w]``, 16 pixels per cell.
        position: the position encoding of the cells, float ``[C, h, w]``.
    """

    embedding: Tensor
    position: Tensor


@META_ARCHITECTURES.register()
class Sam(ClickTrainedModel):
    """Segment Anything (arXiv 2304.02643), with or without a granularity (arXiv 2511.13714, §3.2).

    Without one, a prompt has a single answer (`decode`) and three alternatives (`decode_all`),
    those of published SAM. With `granularity`, prompts may ask for one: a token of it joins the
    prompt's, the mask is that of an additional mask token, and the attentions of the decoder get
    low-rank updates, which are left out when no granularity is asked for.

    Args:
        image_encoder: photo to embedding.
        prompt_encoder: prompts to tokens.
        mask_decoder: both to masks.
        granularity: what granularity adds; None for plain SAM.
        lora: ``rank``, ``alpha`` and ``dropout`` of the updates, read with `granularity` alone;
            None for none.
        criterion: the losses.
        automatic: how whole photos are segmented.
        clicks: the simulated user of training.
        pixel_mean: RGB mean, 0 to 255.
        pixel_std: RGB standard deviation, 0 to 255.
    """

    def __init__(
        self,
        *,
        image_encoder: SamImageEncoder,
        prompt_encoder: SamPromptEncoder,
        mask_decoder: SamMaskDecoder,
        granularity: GranularityParts | None = None,
        lora: dict[str, Any] | None = None,
        criterion: MaskCriterion,
        automatic: AutomaticMasks,
        clicks: TrainingClicks,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
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
        self.granularity = granularity
        self.image_size: int = image_encoder.img_size
        self.mask_stride = image_encoder.stride // 4
        self.is_granular = granularity is not None
        if granularity is not None and lora is not None:
            add_lora(mask_decoder.transformer, LORA_LAYERS, **lora)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate the config into the constructor's arguments.

        Raises:
            ConfigError: an unknown ``MODEL.SAM.SIZE``.
        """
        node, granular = cfg.MODEL.SAM, cfg.MODEL.GRANULARITY
        if node.SIZE not in ENCODERS:
            raise ConfigError(
                f"MODEL.SAM.SIZE: unknown '{node.SIZE}'; known: {', '.join(ENCODERS)}"
            )
        parts = None
        if granular.ENABLED:
            parts = GranularityParts(**GranularityParts.from_config(cfg))
        lora = {
            "rank": granular.LORA_RANK,
            "alpha": granular.LORA_ALPHA,
            "dropout": granular.LORA_DROPOUT,
        }
        return super().from_config(cfg) | {
            "image_encoder": SamImageEncoder(
                **ENCODERS[node.SIZE], image_size=cfg.INPUT.IMAGE_SIZE, fused=node.FUSED_ATTENTION
            ),
            "prompt_encoder": SamPromptEncoder(image_size=cfg.INPUT.IMAGE_SIZE),
            "mask_decoder": SamMaskDecoder(fused=node.FUSED_ATTENTION),
            "granularity": parts,
            "lora": lora if granular.LORA_RANK else None,
        }

    def resized_size(self, photo_size: tuple[int, int]) -> tuple[int, int]:
        """Scale the longer side to `image_size`; halves are rounded up."""
        scale = self.image_size / max(photo_size)
        height, width = (max(1, int(side * scale + 0.5)) for side in photo_size)
        return height, width

    def padded_size(self, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """Return the square that every input of the model is."""
        return self.image_size, self.image_size

    def place(self, points: np.ndarray, is_corner: np.ndarray, frame: InputFrame) -> np.ndarray:
        """Bring points from the photo into the input as segment-anything does.

        Clicks and the corners of boxes alike are scaled as they are, then half a pixel is added.

        Args:
            points: float ``[..., 2]``, x and y in pixels of the photo.
            is_corner: bool ``[...]``; has no effect.
            frame: where the photo lies.

        Returns:
            float32 ``[..., 2]``, as in `Prompts.points`.
        """
        (H, W), (h, w) = frame.photo_size, frame.input_size
        scaled = np.asarray(points, np.float64) * np.array([w / W, h / H])
        return scaled.astype(np.float32) + np.float32(0.5)

    def encode(self, images: Sequence[Tensor]) -> SamFeatures:
        """Encode photos once, for any number of prompts.

        Args:
            images: uint8 ``[3, h, w]`` each, RGB, both sides at most `image_size`.

        Raises:
            ValueError: an image is larger.
        """
        size = (self.image_size, self.image_size)
        pixels = padded_pixels(images, size, self.pixel_mean, self.pixel_std)
        return SamFeatures(self.image_encoder(pixels), self.prompt_encoder.position())

    @property
    def patch_dim(self) -> int:
        """Channels of the image embedding."""
        return self.prompt_encoder.embed_dim

    def patch_embeddings(self, features: SamFeatures) -> Tensor:
        """Return the image embedding, ``[B, C, h, w]`` at 16 pixels per cell."""
        return features.embedding

    def decode(self, features: SamFeatures, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Answer P prompts with one mask each, see `PromptableModel.decode`.

        Without granularity SAM's single answer. A model that never learned granularity answers
        with the one of its three masks whose level is nearest.
        """
        if prompts.granularity is None:
            logits, quality = self._plain(features, prompts, slice(0, 1))
            return logits[:, 0], quality[:, 0]
        if self.granularity is None:
            return super().decode(features, prompts)
        if len(prompts) == 0:
            logits, quality = self._nothing(features, 1)
            return logits[:, 0], quality[:, 0]
        enable_lora(self.mask_decoder, True)
        inputs = self._decoder_input(
            features, prompts, self.granularity.encoding(prompts.granularity)
        )
        logits, quality = self.mask_decoder.answer_granularity(inputs, self.granularity)
        return at_least_float32(logits), at_least_float32(quality)

    def decode_all(self, features: SamFeatures, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Answer P prompts with SAM's three masks each, see `PromptableModel.decode_all`."""
        return self._plain(features, prompts, slice(1, None))

    def grow(self, logits: Tensor, frame: InputFrame) -> Tensor:
        """Bring logits ``[N, h, w]`` to the pixels of the photo, float32 ``[N, H, W]``.

        Bilinear to the size of the input, padding cut off, bilinear to the photo's size.
        """
        if len(logits) == 0:
            return logits.new_zeros((0, *frame.photo_size), dtype=torch.float32)
        h, w = frame.input_size
        # The cell after the last one has its say in the last pixels.
        cells = crop_to_input(
            logits, self.mask_stride, (h + self.mask_stride, w + self.mask_stride)
        ).to(torch.float32)
        grown = []
        # Masks in the channel axis, as published: torch has another kernel for single channels.
        for some in cells[None].split(_GROWN_AT_ONCE, dim=1):
            size = (some.shape[2] * self.mask_stride, some.shape[3] * self.mask_stride)
            inputs = F.interpolate(some, size, mode="bilinear", align_corners=False)[..., :h, :w]
            grown.append(
                F.interpolate(inputs, frame.photo_size, mode="bilinear", align_corners=False)
            )
        return torch.cat(grown, dim=1)[0]

    def _plain(
        self, features: SamFeatures, prompts: Prompts, slots: slice
    ) -> tuple[Tensor, Tensor]:
        if len(prompts) == 0:
            return self._nothing(features, len(range(self.mask_decoder.num_mask_tokens)[slots]))
        enable_lora(self.mask_decoder, False)
        logits, quality = self.mask_decoder(self._decoder_input(features, prompts), slots)
        return at_least_float32(logits), at_least_float32(quality)

    def _decoder_input(
        self, features: SamFeatures, prompts: Prompts, asked: Tensor | None = None
    ) -> DecoderInput:
        """Embed prompts, each with the granularity token ``asked [P, 1, C]`` at its end."""
        tokens, real = self.prompt_encoder.tokens(prompts)
        if asked is not None:
            tokens = torch.cat((tokens, asked.to(tokens.dtype)), dim=1)
            real = torch.cat((real, real.new_ones(len(real), 1)), dim=1)
        return DecoderInput(
            embedding=features.embedding,
            position=features.position,
            tokens=tokens,
            real=real,
            dense=self.prompt_encoder.dense(prompts.mask_logits),
            image_of_prompt=prompts.image_of_prompt,
        )

    def _nothing(self, features: SamFeatures, num_masks: int) -> tuple[Tensor, Tensor]:
        """Return the answers to no prompts."""
        size = self.image_size // self.mask_stride
        empty = features.embedding.new_zeros((0, num_masks, size, size))
        return empty, empty[:, :, 0, 0]
