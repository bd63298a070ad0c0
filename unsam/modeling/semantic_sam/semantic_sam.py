"""SemanticSam: several masks for one click or box, from fine to coarse (UnSAM promptable)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from fvcore.common.config import CfgNode
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from unsam.modeling.automatic_masks import AutomaticMasks
from unsam.modeling.backbone import Backbone
from unsam.modeling.build import META_ARCHITECTURES, build_backbone
from unsam.modeling.interactive import TrainingClicks
from unsam.modeling.losses import mask_iou
from unsam.modeling.pixel_decoder import DeformablePixelDecoder
from unsam.modeling.promptable import PromptableModel
from unsam.modeling.prompts import Prompts
from unsam.modeling.sample_random import SampleRandom
from unsam.modeling.segmentation_model import InputFrame, common_size, padded_pixels
from unsam.modeling.semantic_sam.criterion import PromptCriterion, PromptTargets
from unsam.modeling.semantic_sam.prompt_boxes import (
    BOX_KIND,
    check_prompts,
    is_click,
    prompt_boxes,
)
from unsam.modeling.semantic_sam.prompted_decoder import PromptedDecoder, TokenStates
from unsam.modeling.semantic_sam.training_prompts import DrawnPrompts, draw_prompts
from unsam.modeling.training_context import TaskSampler, TrainingContext

_DIVISOR = 32
# Share of its own size that a click's box moves and grows at random in training.
_CLICK_NOISE = 0.4 * 0.01
_GROWN_PIXELS = 32_000_000
_LOSSES = ("loss_mask", "loss_dice", "loss_box", "loss_giou", "loss_quality")


@dataclass(frozen=True)
class EncodedPhotos:
    """What SemanticSam knows of B photos before it is asked anything.

    Attributes:
        mask_features: ``[B, C, h, w]`` at a quarter of the padded input's size.
        values: ``[B, S, C]`` for each decoder layer, what it reads of the photos.
        shapes: ``(h, w)`` of the maps that the S cells are of, coarse first.
        inside: float ``[B, 2]``, the share of the padded width and height that each photo covers.
        padded_size: ``(h, w)`` of the padded input.
    """

    mask_features: Tensor
    values: tuple[Tensor, ...]
    shapes: tuple[tuple[int, int], ...]
    inside: Tensor
    padded_size: tuple[int, int]


@dataclass(frozen=True)
class _MatchedAnswers:
    """Answers that were matched with masks: their IoU, granularity and kind of prompt, ``[N]``."""

    iou: Tensor
    granularity: Tensor
    kinds: Tensor


@META_ARCHITECTURES.register()
class SemanticSam(PromptableModel):
    """Backbone, pixel decoder and a decoder that answers each prompt with several masks.

    Args:
        backbone: photo to maps.
        pixel_decoder: maps to maps that have seen all scales, and mask features.
        decoder: prompts to tokens to masks.
        criterion: the losses of training.
        automatic: how whole photos are segmented.
        clicks: how masks are chosen and prompted in training; there is one round.
        max_prompts: the most prompts per photo and iteration of training.
        click_size: width and height of the box that stands for a click, as a share of the photo's.
        click_kind: row of the prompt kind embedding for clicks in use. The published weights were
            trained with row 1 and are used with row 0.
        training_click_kind: the row for clicks in training.
        shorter_side: photos are resized to this shorter side in pixels,
        max_longer_side: unless the longer side would be over this.
        pixel_mean: RGB mean, 0 to 255.
        pixel_std: RGB standard deviation, 0 to 255.
    """

    takes_masks: ClassVar[bool] = False
    max_points: ClassVar[int | None] = 2
    resampling = Image.Resampling.BICUBIC
    mask_stride = 4

    def __init__(
        self,
        *,
        backbone: Backbone,
        pixel_decoder: DeformablePixelDecoder,
        decoder: PromptedDecoder,
        criterion: PromptCriterion,
        automatic: AutomaticMasks,
        clicks: TrainingClicks,
        max_prompts: int,
        click_size: float,
        click_kind: int,
        training_click_kind: int,
        shorter_side: int,
        max_longer_side: int,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__(automatic=automatic, pixel_mean=pixel_mean, pixel_std=pixel_std)
        self.clicks = clicks
        self.backbone = backbone
        self.pixel_decoder = pixel_decoder
        self.decoder = decoder
        self.criterion = criterion
        self.max_prompts = max_prompts
        self.click_size = click_size
        self.click_kind = click_kind
        self.training_click_kind = training_click_kind
        self.shorter_side = shorter_side
        self.max_longer_side = max_longer_side

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate the config into the constructor's arguments."""
        backbone = build_backbone(cfg)
        prompted = cfg.MODEL.PROMPTED_DECODER
        return {
            "backbone": backbone,
            "pixel_decoder": DeformablePixelDecoder(
                in_channels=backbone.channels,
                fine_first=True,
                **DeformablePixelDecoder.from_config(cfg),
            ),
            "decoder": PromptedDecoder(**PromptedDecoder.from_config(cfg)),
            "criterion": PromptCriterion(**PromptCriterion.from_config(cfg)),
            "automatic": AutomaticMasks(**AutomaticMasks.from_config(cfg)),
            "clicks": TrainingClicks(**TrainingClicks.from_config(cfg)),
            "max_prompts": prompted.MAX_PROMPTS,
            "click_size": prompted.CLICK_SIZE,
            "click_kind": prompted.CLICK_KIND,
            "training_click_kind": prompted.TRAINING_CLICK_KIND,
            "shorter_side": cfg.INPUT.SHORTER_SIDE,
            "max_longer_side": cfg.INPUT.MAX_LONGER_SIDE,
            "pixel_mean": cfg.INPUT.PIXEL_MEAN,
            "pixel_std": cfg.INPUT.PIXEL_STD,
        }

    def resized_size(self, photo_size: tuple[int, int]) -> tuple[int, int]:
        """Scale the shorter side to `shorter_side`, or the longer one to `max_longer_side`."""
        shorter, longer = min(photo_size), max(photo_size)
        new_shorter, new_longer = self.shorter_side, self.shorter_side * longer // shorter
        if new_longer > self.max_longer_side:
            new_longer = self.max_longer_side
            new_shorter = max(1, new_longer * shorter // longer)
        is_tall = photo_size[0] > photo_size[1]
        return (new_longer, new_shorter) if is_tall else (new_shorter, new_longer)

    def padded_size(self, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """Return the least height and width, multiples of 32, that hold all sizes."""
        return common_size(sizes, _DIVISOR)

    def encode(self, images: Sequence[Tensor]) -> EncodedPhotos:
        """Encode photos once, for any number of prompts.

        Args:
            images: uint8 ``[3, h, w]`` each, RGB. They are padded at the right and the bottom to
                one size.
        """
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        height, width = self.padded_size(sizes)
        pixels = padded_pixels(images, (height, width), self.pixel_mean, self.pixel_std)
        features = self.pixel_decoder(self.backbone(pixels))
        values = self.decoder.values(features.levels)
        # Not in half precision under autocast: reading the values would convert them every time,
        # and prompts may be decoded without autocast.
        return EncodedPhotos(
            mask_features=features.mask_features.to(pixels.dtype),
            values=tuple(of_layer.to(pixels.dtype) for of_layer in values),
            shapes=tuple((level.shape[-2], level.shape[-1]) for level in features.levels),
            inside=pixels.new_tensor([(w / width, h / height) for h, w in sizes]),
            padded_size=(height, width),
        )

    def answer_tokens(
        self, features: EncodedPhotos, prompts: Prompts
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Answer P prompts with M masks each, in the order of the decoder's tokens.

        Args:
            features: what `encode` returned for B photos.
            prompts: P prompts about them, each one click or one box.

        Returns:
            Mask logits float32 ``[P, M, h, w]``; predicted quality float32 ``[P, M]``, not
            bounded; boxes ``[P, M, 4]``: centre x, centre y, width, height as fractions of the
            padded input.

        Raises:
            ValueError: something else than one click or one box in a prompt.
        """
        check_prompts(prompts)
        boxes, kinds = self._boxes(features, prompts, self.click_kind)
        if len(features.mask_features) == 1:
            return self._answer_one(features, 0, boxes, kinds)
        count, M = len(prompts), self.decoder.num_tokens
        h, w = features.mask_features.shape[-2:]
        logits, quality = boxes.new_empty((count, M, h, w)), boxes.new_empty((count, M))
        answered = boxes.new_empty((count, M, 4))
        for photo in range(len(features.mask_features)):
            rows = (prompts.image_of_prompt == photo).nonzero()[:, 0]
            logits[rows], quality[rows], answered[rows] = self._answer_one(
                features, photo, boxes[rows], kinds[rows]
            )
        return logits, quality, answered

    def decode_all(self, features: EncodedPhotos, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Answer P prompts with M masks each, the smallest first.

        Arguments and errors as of `answer_tokens`.

        Returns:
            Mask logits float32 ``[P, M, h, w]``; predicted quality float32 ``[P, M]``.
        """
        logits, quality, _ = self.answer_tokens(features, prompts)
        order = (logits > 0).sum((2, 3)).argsort(dim=1, stable=True)
        rows = torch.arange(len(order), device=order.device)[:, None]
        return logits[rows, order], quality.gather(1, order)

    def grow(self, logits: Tensor, frame: InputFrame) -> Tensor:
        """Bring logits ``[N, h, w]`` to the pixels of the photo, float32 ``[N, H, W]``.

        Up to the padded input, cut to the resized photo, then to the photo (where that shrinks
        them, with the area that a pixel covers).
        """
        height, width = frame.input_size
        grown = []
        # The input may be far larger than the photo, whose size bounds what callers pass.
        for some in logits.split(max(1, _GROWN_PIXELS // (height * width))):
            part = F.interpolate(some[:, None], size=frame.padded_size, mode="bilinear")
            part = part[..., :height, :width]
            if frame.input_size != frame.photo_size:
                part = F.interpolate(part, size=frame.photo_size, mode="bilinear", antialias=True)
            grown.append(part[:, 0])
        return torch.cat(grown)

    def count_targets(
        self,
        batch: Sequence[dict[str, Any]],
        random: SampleRandom,
        tasks: TaskSampler | None = None,
    ) -> int:
        """Return how many masks the prompts of the batch may mean, counted once per prompt."""
        size = self.padded_size([tuple(sample["image"].shape[-2:]) for sample in batch])
        drawn = self._draw(batch, size, random.fork("prompts"), tasks)
        return sum(asked.num_targets for asked in drawn if asked is not None)

    @property
    def patch_dim(self) -> int:
        """Channels of the mask features."""
        return self.pixel_decoder.mask_projection.out_channels

    def patch_embeddings(self, features: EncodedPhotos) -> Tensor:
        """Return the mask features, ``[B, C, h, w]`` at a quarter of the input."""
        return features.mask_features

    def losses(self, context: TrainingContext) -> dict[str, Tensor]:
        """Train by one prompt for each mask: what it may mean, against all answers to it.

        The answers of the last layer are matched; the others are supervised by the same pairs.

        Returns:
            Scalars: ``loss_mask``, ``loss_dice``, ``loss_box``, ``loss_giou``, ``loss_quality``
            (weighted, sums over the layers), and without gradient ``iou_matched``, the mean IoU of
            the last layer's matched answers.
        """
        features, random = context.features, context.random.fork("prompts")
        drawn = self._draw(context.batch, features.padded_size, random, context.tasks)
        count = sum(asked.num_targets for asked in drawn if asked is not None)
        zero = self.zero_loss()
        losses = dict.fromkeys(_LOSSES, zero)
        iou = zero.detach()
        for photo, asked in enumerate(drawn):
            if asked is None:
                continue
            noise = random.of(photo).uniform([len(asked.prompts)], 4)
            terms, answered = self._losses_of_photo(
                features, photo, asked, noise, context.num_masks
            )
            losses = {name: losses[name] + terms[name] for name in losses}
            iou = iou + answered.iou.sum() / count
            if context.tasks is not None:
                number = torch.full_like(answered.kinds, context.batch[photo]["photo"])
                errors = 1 - answered.iou
                context.tasks.record(number, answered.granularity, answered.kinds, errors)
        return losses | {"iou_matched": iou}

    def _draw(
        self,
        batch: Sequence[dict[str, Any]],
        padded_size: tuple[int, int],
        random: SampleRandom,
        tasks: TaskSampler | None,
    ) -> list[DrawnPrompts | None]:
        """Draw prompts of each sample and their targets; None where it has no mask."""
        return [
            self._draw_one(sample, padded_size, random.of(index), tasks)
            for index, sample in enumerate(batch)
        ]

    def _draw_one(
        self,
        sample: dict[str, Any],
        padded_size: tuple[int, int],
        random: SampleRandom,
        tasks: TaskSampler | None,
    ) -> DrawnPrompts | None:
        usable = sample["masks"].flatten(1).any(1).nonzero()[:, 0]
        if len(usable) == 0:
            return None
        masks = sample["masks"][usable].to(self.device)
        height, width = padded_size
        masks = F.pad(masks, (0, width - masks.shape[2], 0, height - masks.shape[1]))
        return draw_prompts(
            masks,
            sample["granularity"][usable.to(sample["granularity"].device)],
            self.clicks,
            self.max_prompts,
            self.decoder.num_tokens,
            random,
            tasks,
        )

    def _losses_of_photo(
        self,
        features: EncodedPhotos,
        photo: int,
        asked: DrawnPrompts,
        noise: Tensor,
        num_masks: float,
    ) -> tuple[dict[str, Tensor], _MatchedAnswers]:
        """Return the losses of one photo's prompts, and how good the matched answers are."""
        prompts, targets = asked.prompts, asked.targets
        owned = Prompts(
            prompts.points, prompts.labels, None, torch.full_like(prompts.image_of_prompt, photo)
        )
        boxes, kinds = self._boxes(features, owned, self.training_click_kind)
        moves = (2 * noise.to(boxes) - 1) * boxes[:, 2:].repeat(1, 2)
        moved = (boxes + _CLICK_NOISE * moves).clamp(0, 1)
        boxes = torch.where(is_click(owned)[:, None], moved, boxes)
        states = self._states(features, photo, boxes, kinds)
        with torch.no_grad():
            logits, _ = self.decoder.answers(states[-1].hidden, features.mask_features[photo])
            answers, masks = self.criterion.match(logits, states[-1].boxes, targets)
        losses: dict[str, Tensor] = {}
        for state in states:
            # Masks of the matched tokens alone: the others have no loss.
            hidden, found = (part.flatten(0, 1)[answers] for part in (state.hidden, state.boxes))
            logits, quality = self.decoder.answers(hidden, features.mask_features[photo])
            terms = self.criterion(logits, quality, found, targets, masks, num_masks)
            losses = {name: losses.get(name, 0) + term for name, term in terms.items()}
        return losses, _MatchedAnswers(
            iou=_iou(logits.detach(), targets, masks, self.mask_stride),
            granularity=asked.granularity[masks],
            kinds=asked.kinds[answers // self.decoder.num_tokens],
        )

    def _boxes(
        self, features: EncodedPhotos, prompts: Prompts, click_kind: int
    ) -> tuple[Tensor, Tensor]:
        """Return the box ``[P, 4]`` and the kind ``[P]`` of each prompt."""
        inside = features.inside[prompts.image_of_prompt]
        boxes = prompt_boxes(prompts, inside, features.padded_size, self.click_size)
        return boxes, torch.where(is_click(prompts), click_kind, BOX_KIND)

    def _states(
        self, features: EncodedPhotos, photo: int, boxes: Tensor, kinds: Tensor
    ) -> list[TokenStates]:
        values = [of_layer[photo] for of_layer in features.values]
        return self.decoder(boxes, kinds, values, features.shapes)

    def _answer_one(
        self, features: EncodedPhotos, photo: int, boxes: Tensor, kinds: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        last = self._states(features, photo, boxes, kinds)[-1]
        return *self.decoder.answers(last.hidden, features.mask_features[photo]), last.boxes


def _iou(logits: Tensor, targets: PromptTargets, masks: Tensor, stride: int) -> Tensor:
    """Return the IoU of N answers with the masks ``[N]`` of targets, ``[N]``."""
    cells = F.avg_pool2d(targets.masks[:, None].to(torch.float32), stride)[:, 0]
    truth = (cells > 0.5).flatten(1)[masks]
    return mask_iou((logits > 0).flatten(1), truth, torch.ones_like(truth))
