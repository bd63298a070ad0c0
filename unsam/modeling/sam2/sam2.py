"""SAM 2 and 2.1 on photos, and with UnSAMv2's granularity (arXiv 2408.00714, 2511.13714)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch import Tensor
from torch.nn import functional as F
from transformers import Sam2VideoModel

from unsam.errors import ConfigError
from unsam.modeling.automatic_masks import AutomaticMasks
from unsam.modeling.build import META_ARCHITECTURES
from unsam.modeling.click_trained import ClickTrainedModel
from unsam.modeling.criterion import MaskCriterion
from unsam.modeling.granular_parts import GranularityParts
from unsam.modeling.interactive import TrainingClicks
from unsam.modeling.lora import add_lora, enable_lora
from unsam.modeling.precision import at_least_float32
from unsam.modeling.promptable import choose_answer
from unsam.modeling.prompts import PADDING, Prompts
from unsam.modeling.sam2.architectures import SIZES, video_config
from unsam.modeling.sam2.image_encoder import Sam2Features, encode_pixels, fuse_blocks
from unsam.modeling.sam2.mask_decoder import (
    Answers,
    EncodedPrompts,
    answer_granular,
    answer_padded,
    answer_plain,
)
from unsam.modeling.segmentation_model import InputFrame, padded_pixels

# The image predictor's bound on logits, and so on earlier answers that come back as prompts.
_LOGIT_LIMIT = 32.0
# On the CPU: maps of more prompts fall out of its caches and cost half as much again. With fewer
# than four, its matrix products round otherwise than those of the whole batch.
_PROMPTS_AT_ONCE = 4
# Queries, keys, values and output of all 28 attentions' linear layers.
_ATTENTION_LAYERS = r"transformer\..*\.[qkvo]_proj"


@META_ARCHITECTURES.register()
class Sam2(ClickTrainedModel):
    """SAM 2 on single photos, stretched to a square; optionally asked for a granularity.

    The weights are those of the library's video model, so that files lose nothing; the parts for
    video take no part here. Without granularity the answers are the library's to the last bit,
    whether or not the model has `granularity`. Under bfloat16 autocast logits are off by up to 5 %
    of the largest.

    Args:
        network: the library's model.
        granularity: UnSAMv2's additions; None for plain SAM 2.
        lora: ``rank``, ``alpha`` and ``dropout`` of the updates of the decoder's 28 attention
            layers, read with `granularity` alone; None for none, as weights with merged updates
            have it.
        criterion: the losses.
        automatic: how whole photos are segmented.
        clicks: the simulated user of training.
        pixel_mean: RGB mean, 0 to 255.
        pixel_std: RGB standard deviation, 0 to 255.
    """

    mask_stride = 4
    has_object_score = True

    def __init__(
        self,
        *,
        network: Sam2VideoModel,
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
        # One random code of positions for clicks and cells; a new library model draws two.
        code = network.shared_image_embedding.positional_embedding
        network.prompt_encoder.shared_embedding.positional_embedding.copy_(code)
        fuse_blocks(network)
        self.network = network
        self.granularity = granularity
        self.is_granular = granularity is not None
        size = network.config.image_size
        assert isinstance(size, int), "the input is square"
        self.image_size = size
        if granularity is not None and lora is not None:
            add_lora(network.mask_decoder, _ATTENTION_LAYERS, **lora)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate the config into the constructor's arguments.

        Raises:
            ConfigError: an unknown ``MODEL.SAM2.SIZE``.
            ValueError: an unknown version, or an image size that the model cannot have.
        """
        sam2, node = cfg.MODEL.SAM2, cfg.MODEL.GRANULARITY
        if sam2.SIZE not in SIZES:
            raise ConfigError(f"MODEL.SAM2.SIZE is one of {', '.join(SIZES)}, got '{sam2.SIZE}'")
        config = video_config(SIZES[sam2.SIZE], str(sam2.VERSION), cfg.INPUT.IMAGE_SIZE)
        parts = None
        if node.ENABLED:
            parts = GranularityParts(**GranularityParts.from_config(cfg))
        lora = {"rank": node.LORA_RANK, "alpha": node.LORA_ALPHA, "dropout": node.LORA_DROPOUT}
        return super().from_config(cfg) | {
            "network": Sam2VideoModel(config),
            "granularity": parts,
            "lora": lora if node.LORA_RANK else None,
        }

    def resized_size(self, photo_size: tuple[int, int]) -> tuple[int, int]:
        """Return the side of the square input twice; SAM 2 does not keep the aspect."""
        return self.image_size, self.image_size

    def padded_size(self, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """Return the side of the square input twice."""
        return self.image_size, self.image_size

    def prepare(self, photo: np.ndarray) -> Tensor:
        """Resize ``uint8 [H, W, 3]`` to float32 ``[3, S, S]``, bilinear with antialiasing."""
        pixels = torch.from_numpy(photo.astype(np.float32)).permute(2, 0, 1)
        size = (self.image_size, self.image_size)
        return F.interpolate(pixels[None], size, mode="bilinear", antialias=True)[0]

    def place(self, points: np.ndarray, is_corner: np.ndarray, frame: InputFrame) -> np.ndarray:
        """Bring points into the input as SAM 2 does, see `PromptableModel.place`.

        SAM 2 scales clicks and corners alike, in float32, then counts them from the centre of
        their pixel.
        """
        (H, W), (h, w) = frame.photo_size, frame.input_size
        share = points.astype(np.float32) / np.array([W, H], np.float32)
        return share * np.array([w, h], np.float32) + np.float32(0.5)

    def encode(self, images: Sequence[Tensor]) -> Sam2Features:
        """Encode photos once, for any number of prompts.

        Args:
            images: ``[3, h, w]`` each, RGB from 0 to 255, as `prepare` returns them; smaller ones
                are padded at the right and the bottom.

        Returns:
            Features of ``[B, ...]``, on the model's device.

        Raises:
            ValueError: an image is larger than the model's input.
        """
        size = (self.image_size, self.image_size)
        pixels = padded_pixels(images, size, self.pixel_mean, self.pixel_std)
        return encode_pixels(self.network, pixels)

    @property
    def patch_dim(self) -> int:
        """Channels of the image embedding."""
        return self.network.prompt_encoder.hidden_size

    def patch_embeddings(self, features: Sam2Features) -> Tensor:
        """Return the image embedding, ``[B, C, h, w]`` at 16 pixels per cell."""
        return features.embedding

    def decode(self, features: Sam2Features, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Answer P prompts with one mask each, see `PromptableModel.decode`.

        Without granularity it is SAM 2's single mask, or, where that is unstable, the best of its
        three (in evaluation).
        """
        logits, quality, _ = self.decode_with_object(features, prompts)
        return logits, quality

    def decode_with_object(
        self, features: Sam2Features, prompts: Prompts
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Answer as `decode`, and say whether there is anything to segment.

        See `ClickTrainedModel.decode_with_object`.
        """
        granularity = prompts.granularity
        if granularity is None or self.granularity is not None:
            one = self.answer(features, prompts)
            return one.logits[:, 0], one.quality[:, 0], one.object_score
        three = self.answer(features, replace(prompts, granularity=None), several=True)
        logits, quality = choose_answer(three.logits, three.quality, granularity)
        return logits, quality, three.object_score

    def decode_all(self, features: Sam2Features, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Answer P prompts with SAM 2's three masks each, see `PromptableModel.decode_all`."""
        answers = self.answer(features, replace(prompts, granularity=None), several=True)
        return answers.logits, answers.quality

    def grow(self, logits: Tensor, frame: InputFrame) -> Tensor:
        """Bring logits to the photo as SAM 2 does, see `PromptableModel.grow`."""
        if frame.input_size != frame.padded_size:
            return super().grow(logits, frame)
        size = frame.photo_size
        return F.interpolate(logits[:, None].to(torch.float32), size, mode="bilinear")[:, 0]

    def answer(self, features: Sam2Features, prompts: Prompts, *, several: bool = False) -> Answers:
        """Answer P prompts, with all that the decoder says about them.

        Args:
            features: of B photos.
            prompts: P prompts about them, all with granularity or all without.
            several: three masks instead of one. With granularity there is always one, and of
                published weights its quality then comes from the heads of the three masks.

        Returns:
            Float32 answers. A negative object score does not empty a mask.

        Raises:
            ValueError: a granularity is asked for and the model has none.
        """
        if prompts.granularity is not None and self.granularity is None:
            raise ValueError("this SAM 2 knows no granularity; leave it out or load UnSAMv2")
        enable_lora(self.network.mask_decoder, prompts.granularity is not None)
        parts = len(prompts) // _PROMPTS_AT_ONCE
        if parts < 2 or self.device.type != "cpu" or torch.compiler.is_compiling():
            return self._answer(features, prompts, several)
        answers = [self._answer(features, part, several) for part in _split(prompts, parts)]
        return Answers(
            torch.cat([part.logits for part in answers]),
            torch.cat([part.quality for part in answers]),
            torch.cat([part.object_score for part in answers]),
        )

    def _answer(self, features: Sam2Features, prompts: Prompts, several: bool) -> Answers:
        encoded = self._encode_prompts(prompts)
        decoder = self.network.mask_decoder
        if self.granularity is not None and prompts.granularity is not None:
            answers = answer_granular(decoder, self.granularity, features, encoded, several)
        elif encoded.real is not None or len(prompts) == 0:
            answers = answer_padded(decoder, features, encoded, several)
        else:
            answers = answer_plain(decoder, features, encoded, several)
        logits = answers.logits
        if not self.training:
            logits = logits.clamp(-_LOGIT_LIMIT, _LOGIT_LIMIT)
        return Answers(
            at_least_float32(logits),
            at_least_float32(answers.quality),
            at_least_float32(answers.object_score),
        )

    def _encode_prompts(self, prompts: Prompts) -> EncodedPrompts:
        encoder = self.network.prompt_encoder
        # SAM 2 closes every prompt with a token that stands for no point.
        points = F.pad(prompts.points, (0, 0, 0, 1))
        labels = F.pad(prompts.labels, (0, 1), value=PADDING)
        # In bfloat16 a click would miss its pixel.
        with torch.autocast(points.device.type, enabled=False):
            coded = encoder.shared_embedding(points[None], (self.image_size, self.image_size))[0]
        coded = coded + encoder.point_embed(labels.clamp(min=0))
        sparse = torch.where(labels[..., None] < 0, encoder.not_a_point_embed.weight, coded)
        real = F.pad(prompts.labels != PADDING, (0, 1), value=True)
        if prompts.granularity is not None and self.granularity is not None:
            token = self.granularity.encoding(prompts.granularity)
            sparse = torch.cat((sparse, token.to(sparse.dtype)), dim=1)
            real = F.pad(real, (0, 1), value=True)
        # A compiled model cannot look; it takes the slower way, which is right for both.
        has_padding = torch.compiler.is_compiling() or not bool(real.all())
        if prompts.mask_logits is None:
            dense = encoder.no_mask_embed.weight[..., None, None]
        else:
            masks = prompts.mask_logits[:, None]
            dense = encoder.mask_embed(masks.to(encoder.no_mask_embed.weight.dtype))
        return EncodedPrompts(sparse, real if has_padding else None, dense, prompts.image_of_prompt)


def _split(prompts: Prompts, count: int) -> list[Prompts]:
    """Split prompts into parts of about the same number."""

    def split(x: Tensor | None) -> Sequence[Tensor | None]:
        return [None] * count if x is None else x.tensor_split(count)

    return [
        Prompts(points, labels, granularity, owner, masks)
        for points, labels, owner, granularity, masks in zip(
            prompts.points.tensor_split(count),
            prompts.labels.tensor_split(count),
            prompts.image_of_prompt.tensor_split(count),
            split(prompts.granularity),
            split(prompts.mask_logits),
            strict=True,
        )
    ]
