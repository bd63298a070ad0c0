"""Models that are trained by simulated clicks: a prompt for a mask, then corrections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from fvcore.common.config import CfgNode
from torch import Tensor
from torch.nn import functional as F

from unsam.errors import ConfigError
from unsam.modeling.automatic_masks import AutomaticMasks
from unsam.modeling.criterion import MaskCriterion
from unsam.modeling.interactive import (
    TrainingClicks,
    choose_masks,
    correction_clicks,
    first_prompts,
)
from unsam.modeling.losses import mask_iou
from unsam.modeling.promptable import PromptableModel
from unsam.modeling.prompts import Prompts
from unsam.modeling.sample_random import SampleRandom
from unsam.modeling.training_context import TaskSampler, TrainingContext


@dataclass(frozen=True)
class _Targets:
    """The chosen masks of a batch, P in all, at full and at the decoder's resolution."""

    masks: Tensor
    cells: Tensor
    inside: Tensor
    granularity: Tensor
    image_of_mask: Tensor
    counts: list[int]


class ClickTrainedModel(PromptableModel):
    """Base of the models that learn to answer as SAM, SAM 2 and UnSAMv2 do (UnSAMv2, §4.1).

    Args:
        automatic: how whole photos are segmented.
        criterion: the losses.
        clicks: the simulated user.
        pixel_mean: RGB mean, 0 to 255.
        pixel_std: RGB standard deviation, 0 to 255.

    Attributes:
        has_object_score: whether it says if there is anything to segment.

    Raises:
        ConfigError: the criterion weighs an object score and the model gives none.
    """

    has_object_score: ClassVar[bool] = False

    def __init__(
        self,
        *,
        automatic: AutomaticMasks,
        criterion: MaskCriterion,
        clicks: TrainingClicks,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__(automatic=automatic, pixel_mean=pixel_mean, pixel_std=pixel_std)
        if criterion.object_weight > 0 and not self.has_object_score:
            raise ConfigError(
                f"CRITERION.OBJECT_WEIGHT is {criterion.object_weight}, but {type(self).__name__} "
                "gives no object score; set it to 0"
            )
        self.criterion = criterion
        self.clicks = clicks

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate the config into the arguments of this constructor; models add their own."""
        return {
            "automatic": AutomaticMasks(**AutomaticMasks.from_config(cfg)),
            "criterion": MaskCriterion(**MaskCriterion.from_config(cfg)),
            "clicks": TrainingClicks(**TrainingClicks.from_config(cfg)),
            "pixel_mean": cfg.INPUT.PIXEL_MEAN,
            "pixel_std": cfg.INPUT.PIXEL_STD,
        }

    def decode_with_object(
        self, features: Any, prompts: Prompts
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Answer P prompts as `decode`, with the object score of models that give one.

        Returns:
            Mask logits and predicted IoU of `decode`; object logits float32 ``[P]``, over 0 where
            there is something to segment, or None.
        """
        return *self.decode(features, prompts), None

    def count_targets(
        self,
        batch: Sequence[dict[str, Any]],
        random: SampleRandom,
        tasks: TaskSampler | None = None,
    ) -> int:
        """Return how many masks will be clicked."""
        return sum(min(len(_usable(sample)), self.clicks.masks_per_image) for sample in batch)

    def losses(self, context: TrainingContext) -> dict[str, Tensor]:
        """Train by clicks: a first prompt, then corrections where the answer is wrong.

        Returns:
            Scalars: the losses of `MaskCriterion` (weighted, means over the rounds of clicks), and
            without gradient ``iou_first`` and ``iou_last``, the mean IoU after the first and after
            the last prompt.
        """
        zero = self.zero_loss()
        random = context.random.fork("clicks")
        targets = self._choose_targets(context, random)
        losses = dict.fromkeys(self.criterion.loss_names, zero)
        if len(targets.granularity) == 0:
            return losses | {"iou_first": zero.detach(), "iou_last": zero.detach()}
        ious = []
        tasks = context.tasks
        clicks = self.clicks.reweighted(None if tasks is None else tasks.prompt_weights())
        points, labels, kinds = first_prompts(
            targets.masks,
            targets.cells,
            self.mask_stride,
            clicks.centre_probability,
            clicks.box_probability,
            random,
            targets.counts,
        )
        logits: Tensor | None = None
        for _ in range(self.clicks.rounds):
            if logits is not None:
                point, label = correction_clicks(
                    logits,
                    targets.cells,
                    targets.inside,
                    self.mask_stride,
                    random.uniform(targets.counts),
                )
                points, labels = torch.cat((points, point), 1), torch.cat((labels, label), 1)
            prompts = Prompts(points, labels, targets.granularity, targets.image_of_mask, logits)
            answer, quality, found = self.decode_with_object(context.features, prompts)
            terms = self.criterion(
                answer, quality, targets.cells, targets.inside, context.num_masks, found
            )
            losses = {name: losses[name] + terms[name] / self.clicks.rounds for name in losses}
            logits = answer.detach()
            ious.append(_iou(logits, targets))
        if tasks is not None:
            photos = torch.tensor([sample["photo"] for sample in context.batch])
            owners = targets.image_of_mask.cpu()
            tasks.record(photos[owners], targets.granularity, kinds, 1 - ious[0])
        return losses | {"iou_first": ious[0].mean(), "iou_last": ious[-1].mean()}

    def _choose_targets(self, context: TrainingContext, random: SampleRandom) -> _Targets:
        """Choose the masks of this iteration and bring them to the padded size of the batch."""
        device, batch, tasks = self.device, context.batch, context.tasks
        height, width = self.padded_size([tuple(sample["image"].shape[-2:]) for sample in batch])
        stride = self.mask_stride
        masks, granularity, owners, inside = [], [], [], []
        for index, sample in enumerate(batch):
            usable = _usable(sample)
            candidates = sample["granularity"][usable]
            chosen = usable[
                choose_masks(
                    candidates,
                    self.clicks.masks_per_image,
                    self.clicks.mask_sampling,
                    random.generator(index),
                    None if tasks is None else tasks.mask_weights(candidates),
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
            counts=[len(owner) for owner in owners],
        )


def _usable(sample: dict[str, Any]) -> Tensor:
    """Return the indices of the masks that have a pixel."""
    return sample["masks"].flatten(1).any(1).nonzero()[:, 0]


def _iou(logits: Tensor, targets: _Targets) -> Tensor:
    """Return the IoU of predicted with true masks, ``[P]`` without gradient."""
    predicted, truth = (logits > 0).flatten(1), (targets.cells > 0.5).flatten(1)
    return mask_iou(predicted, truth, targets.inside.flatten(1))
