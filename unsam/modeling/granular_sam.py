"""GranularSam: one mask per prompt, at the granularity that the prompt asks for (UnSAMv2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn
from torch.nn import functional as F

from unsam.modeling.automatic_masks import AutomaticMasks
from unsam.modeling.build import META_ARCHITECTURES, build_image_encoder
from unsam.modeling.criterion import MaskCriterion, mask_iou, mean_mask_count
from unsam.modeling.image_encoder import EncodedImages, ImageEncoder
from unsam.modeling.interactive import (
    TrainingClicks,
    choose_masks,
    correction_clicks,
    first_prompts,
)
from unsam.modeling.mask_decoder import MaskDecoder
from unsam.modeling.prompt_encoder import PromptEncoder
from unsam.modeling.prompts import Prompts
from unsam.structures import MaskSet


@dataclass(frozen=True)
class _Targets:
    """The chosen masks of a batch, P in all, at full and at the decoder's resolution."""

    masks: Tensor
    cells: Tensor
    inside: Tensor
    granularity: Tensor
    image_of_mask: Tensor


@META_ARCHITECTURES.register()
class GranularSam(nn.Module):
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
    """

    pixel_mean: Tensor
    pixel_std: Tensor

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
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.criterion = criterion
        self.automatic = automatic
        self.clicks = clicks
        self.image_size = image_size
        self.mask_stride = image_encoder.stride // 4
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean)[:, None, None], False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std)[:, None, None], False)

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
        return {
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
            "criterion": MaskCriterion(**MaskCriterion.from_config(cfg)),
            "automatic": AutomaticMasks(**AutomaticMasks.from_config(cfg)),
            "clicks": TrainingClicks(**TrainingClicks.from_config(cfg)),
            "image_size": cfg.INPUT.IMAGE_SIZE,
            "pixel_mean": cfg.INPUT.PIXEL_MEAN,
            "pixel_std": cfg.INPUT.PIXEL_STD,
        }

    def encode(self, images: Sequence[Tensor]) -> EncodedImages:
        """Encode photos once, for any number of prompts.

        Args:
            images: uint8 ``[3, h, w]`` each, RGB, longer side at most about `image_size`. They
                are padded at the right and the bottom to one size.

        Returns:
            Features of ``[B, ...]``, on the model's device.
        """
        stride = self.image_encoder.stride
        height, width = _padded_size(images, stride)
        pixels = self.pixel_mean.new_zeros((len(images), 3, height, width))
        valid = torch.zeros(
            (len(images), height // stride, width // stride), dtype=torch.bool, device=pixels.device
        )
        for index, image in enumerate(images):
            h, w = image.shape[-2:]
            colours = image.to(pixels.device, torch.float32)
            pixels[index, :, :h, :w] = (colours - self.pixel_mean) / self.pixel_std
            valid[index, : -(-h // stride), : -(-w // stride)] = True
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        return self.image_encoder(pixels, None if bool(valid.all()) else valid)

    def decode(self, images: EncodedImages, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Answer P prompts with one mask each.

        Args:
            images: what `encode` returned for B photos.
            prompts: P prompts about them.

        Returns:
            Mask logits float32 ``[P, h, w]``, over 0 in the mask, `mask_stride` pixels per cell of
            the padded input; predicted IoU float32 ``[P]`` in [0, 1].
        """
        h, w = images.embedding.shape[-2:]
        sparse, real = self.prompt_encoder.sparse(prompts, images)
        dense = self.prompt_encoder.dense(prompts, h, w)
        position = self.prompt_encoder.position.grid(h, w, self.image_encoder.stride)
        maps = self.prompt_encoder.fine_maps(prompts, images)
        return self.mask_decoder(
            images, sparse, real, dense, position, prompts.image_of_prompt, maps
        )

    def forward(self, batch: Sequence[dict[str, Any]]) -> dict[str, Tensor] | list[MaskSet]:
        """Return the losses of a batch in training, its whole-image masks in evaluation.

        Args:
            batch: samples with ``image`` (uint8 ``[3, h, w]``) and, in training, ``masks`` (bool
                ``[M, h, w]``) and ``granularity`` (float32 ``[M]``); in evaluation
                ``original_size`` (H, W). A sample may have no mask.

        Returns:
            In training scalars: ``loss_focal``, ``loss_dice``, ``loss_quality`` (weighted, means
            over the rounds of clicks), and without gradient ``iou_first`` and ``iou_last``, the
            mean IoU after the first and after the last prompt. In evaluation one `MaskSet` per
            sample, in the size of the original photo.
        """
        if self.training:
            return self._losses(batch)
        results = []
        for sample in batch:
            # One photo at a time: what else is in the batch must not change a result.
            image = sample["image"]
            images = self.encode([image])
            size = tuple(sample["original_size"])
            results.append(self.automatic(self, images, tuple(image.shape[-2:]), size))
        return results

    def _losses(self, batch: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        images = self.encode([sample["image"] for sample in batch])
        # Zero, but a function of every parameter: a batch without masks, or a recipe without
        # mask prompts, still gives all processes the same gradients to exchange.
        anchor = 0.0 * torch.stack([parameter.sum() for parameter in self.parameters()]).sum()
        targets = self._choose_targets(batch)
        num_masks = mean_mask_count(len(targets.granularity), anchor.device)
        losses = dict.fromkeys(("loss_focal", "loss_dice", "loss_quality"), anchor)
        if len(targets.granularity) == 0:
            return losses | {"iou_first": anchor.detach(), "iou_last": anchor.detach()}
        ious = []
        points, labels = first_prompts(
            targets.masks,
            targets.cells,
            self.mask_stride,
            self.clicks.centre_probability,
            self.clicks.box_probability,
        )
        logits: Tensor | None = None
        for _ in range(self.clicks.rounds):
            if logits is not None:
                point, label = correction_clicks(
                    logits, targets.cells, targets.inside, self.mask_stride
                )
                points, labels = torch.cat((points, point), 1), torch.cat((labels, label), 1)
            prompts = Prompts(points, labels, targets.granularity, targets.image_of_mask, logits)
            answer, quality = self.decode(images, prompts)
            terms = self.criterion(answer, quality, targets.cells, targets.inside, num_masks)
            losses = {name: losses[name] + terms[name] / self.clicks.rounds for name in losses}
            logits = answer.detach()
            ious.append(_mean_iou(logits, targets))
        return losses | {"iou_first": ious[0], "iou_last": ious[-1]}

    def _choose_targets(self, batch: Sequence[dict[str, Any]]) -> _Targets:
        """Choose the masks of this iteration and bring them to the padded size of the batch."""
        device = self.pixel_mean.device
        height, width = _padded_size(
            [sample["image"] for sample in batch], self.image_encoder.stride
        )
        stride = self.mask_stride
        masks, granularity, owners, inside = [], [], [], []
        for index, sample in enumerate(batch):
            usable = sample["masks"].flatten(1).any(1).nonzero()[:, 0]
            chosen = usable[
                choose_masks(
                    sample["granularity"][usable],
                    self.clicks.masks_per_image,
                    self.clicks.mask_sampling,
                ).to(usable.device)
            ]
            h, w = sample["image"].shape[-2:]
            masks.append(F.pad(sample["masks"][chosen], (0, width - w, 0, height - h)))
            granularity.append(sample["granularity"][chosen])
            owners.append(torch.full((len(chosen),), index))
            valid = torch.zeros((height // stride, width // stride), dtype=torch.bool)
            valid[: -(-h // stride), : -(-w // stride)] = True
            inside.append(valid.expand(len(chosen), -1, -1))
        full = torch.cat(masks).to(device)
        cells = F.avg_pool2d(full[:, None].to(torch.float32), stride)[:, 0]
        return _Targets(
            masks=full,
            cells=cells,
            inside=torch.cat(inside).to(device),
            granularity=torch.cat(granularity).to(device, torch.float32),
            image_of_mask=torch.cat(owners).to(device),
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


def _padded_size(images: Sequence[Tensor], stride: int) -> tuple[int, int]:
    """Return the least height and width, multiples of `stride`, that hold all images."""
    height = max(image.shape[-2] for image in images)
    width = max(image.shape[-1] for image in images)
    return -(-height // stride) * stride, -(-width // stride) * stride


def _mean_iou(logits: Tensor, targets: _Targets) -> Tensor:
    """Return the mean IoU of predicted with true masks, a scalar without gradient."""
    predicted, truth = (logits > 0).flatten(1), (targets.cells > 0.5).flatten(1)
    return mask_iou(predicted, truth, targets.inside.flatten(1)).mean()
