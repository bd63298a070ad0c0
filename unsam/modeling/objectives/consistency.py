"""Student and averaged teacher agree on two views of a photo, prompt by prompt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import Tensor
from torch.nn import functional as F

from unsam.modeling.interactive import choose_masks, first_prompts
from unsam.modeling.losses import mask_iou
from unsam.modeling.objectives.objective import OBJECTIVES
from unsam.modeling.objectives.second_view import SecondViewAugmentation, ViewTransform
from unsam.modeling.objectives.two_view_objective import (
    TwoViewObjective,
    counts_of,
    mean_over_photos,
    promptable,
)
from unsam.modeling.objectives.weight_schedule import WeightSchedule
from unsam.modeling.precision import at_least_float32
from unsam.modeling.promptable import PromptableModel
from unsam.modeling.prompts import Prompts
from unsam.modeling.sample_random import SampleRandom
from unsam.modeling.segmentation_model import SegmentationModel
from unsam.modeling.training_context import TrainingContext


@OBJECTIVES.register()
class Consistency(TwoViewObjective):
    """Mean teacher (Tarvainen and Valpola 2017) for prompts and granularities.

    A click inside a mask of the photo asks the student on the photo as it is, and the moving
    average of the student on the second view, where the click has moved with the photo; both are
    asked for the granularity of the mask. The teacher's answer is brought back, and the two are to
    agree where both views see the photo. The mask itself takes no part: it only says where to
    click and at which granularity.

    The teacher has the second view, because then the student's features are those of its other
    losses and only a pass without gradient is added. What it teaches is its mean answer over crops,
    enlargements and turns, which is better than its answer to one view (Radosavovic et al. 2018).

    Args:
        schedule: its weight over the training.
        views: how the second view differs from the first.
        loss: "dice" (`soft_dice_distance`) or "kl" (`symmetric_kl`).
        masks_per_image: the most masks of a photo that are clicked.
        centre_probability: chance that a click is at the centre of a mask, not anywhere in it.

    Raises:
        ValueError: another loss, or fewer than one mask per photo.
    """

    def __init__(
        self,
        *,
        schedule: WeightSchedule,
        views: SecondViewAugmentation,
        loss: str = "dice",
        masks_per_image: int = 8,
        centre_probability: float = 0.3,
    ) -> None:
        super().__init__(
            schedule=schedule,
            views=views,
            masks_per_image=masks_per_image,
            centre_probability=centre_probability,
        )
        if loss not in _LOSSES:
            raise ValueError(f"LOSS is 'dice' or 'kl', got '{loss}'")
        self.loss = loss

    @classmethod
    def from_config(cls, cfg: CfgNode, model: SegmentationModel) -> dict[str, Any]:
        """Translate ``OBJECTIVES.CONSISTENCY`` into the constructor's arguments.

        Raises:
            ConfigError: the model answers no prompts.
        """
        return super().from_config(cfg, model) | {"loss": cfg.OBJECTIVES.CONSISTENCY.LOSS}

    def forward(self, model: SegmentationModel, context: TrainingContext) -> dict[str, Tensor]:
        """Return ``loss_consistency`` and the metric ``consistency_iou``.

        Both are means over the clicks of a photo, then over photos. The metric is the IoU of the
        student's and the teacher's mask where both views see the photo.
        """
        student, teacher = promptable(model), promptable(context.teacher)
        batch, random = context.batch, context.random.fork("consistency")
        view = self.draw_view(context, random, student.device)
        with torch.no_grad():
            second = teacher.encode(view.images([sample["image"] for sample in batch]))
        prompts = self._clicks(student, context, view.transform.inverse, random)
        if len(prompts) == 0:
            zero = torch.zeros((), device=student.device)
            return {"loss_consistency": zero, "consistency_iou": zero}
        answer, _ = student.decode(context.features, prompts)
        photos = prompts.image_of_prompt
        with torch.no_grad():
            moved = view.transform.points(prompts.points, photos)
            taught, _ = teacher.decode(
                second, Prompts(moved, prompts.labels, prompts.granularity, photos)
            )
            taught, seen = view.transform.inverse.warp(taught, photos, student.mask_stride)
            iou = mask_iou((answer > 0).flatten(1), (taught > 0).flatten(1), seen.flatten(1))
        distance = _LOSSES[self.loss](answer.flatten(1), taught.flatten(1), seen.flatten(1))
        return {
            "loss_consistency": mean_over_photos(distance, photos, len(batch)),
            "consistency_iou": mean_over_photos(iou, photos, len(batch)),
        }

    def _clicks(
        self,
        model: PromptableModel,
        context: TrainingContext,
        to_first: ViewTransform,
        random: SampleRandom,
    ) -> Prompts:
        """Return a click in each chosen mask, where the second view sees it too."""
        batch, stride = context.batch, model.mask_stride
        height, width = model.padded_size([tuple(s["image"].shape[-2:]) for s in batch])
        masks, granularity, photos = [], [], []
        for index, sample in enumerate(batch):
            own, generator = sample["granularity"], random.generator(index)
            chosen = choose_masks(own, self.masks_per_image, "uniform", generator)
            h, w = sample["image"].shape[-2:]
            masks.append(F.pad(sample["masks"][chosen], (0, width - w, 0, height - h)))
            granularity.append(own[chosen])
            photos.append(torch.full((len(chosen),), index))
        photo_of_mask = torch.cat(photos).to(model.device)
        full = torch.cat(masks).to(model.device, torch.float32)
        cells = F.avg_pool2d(full[:, None], stride)[:, 0]
        seen = to_first.seen((height // stride, width // stride), stride)
        visible = (cells > 0.5) & seen[photo_of_mask]
        kept = visible.flatten(1).any(1)
        visible, photo_of_mask = visible[kept], photo_of_mask[kept]
        # In units of cells, so that a click is at the centre of one that both views see.
        points, labels, _ = first_prompts(
            visible,
            visible.to(torch.float32),
            1,
            self.centre_probability,
            0.0,
            random,
            counts_of(photo_of_mask, len(batch)),
        )
        asked = torch.cat(granularity).to(model.device, torch.float32)[kept]
        return Prompts(points[:, :1] * stride, labels[:, :1], asked, photo_of_mask)


def soft_dice_distance(logits: Tensor, taught: Tensor, inside: Tensor) -> Tensor:
    """Return one minus the soft dice coefficient of probabilities p and q, with squares.

    ``1 - 2 sum(p q) / (sum(p^2) + sum(q^2))``, which is ``sum((p - q)^2) / sum(p^2 + q^2)``: the
    form of Milletari et al. 2016. It is zero where p equals q; the form without squares would
    rather have p sharper than a soft q.

    Args:
        logits: float ``[P, N]``, of p.
        taught: float ``[P, N]``, of q.
        inside: bool ``[P, N]``, the cells that count.

    Returns:
        ``[P]`` in [0, 1], float32 or float64.
    """
    p, q = (at_least_float32(x).sigmoid() * inside for x in (logits, taught))
    # One cell more: small answers that are next to nothing agree.
    return (p - q).square().sum(1) / ((p.square() + q.square()).sum(1) + 1)


def symmetric_kl(logits: Tensor, taught: Tensor, inside: Tensor) -> Tensor:
    """Return the mean over cells of ``(KL(p, q) + KL(q, p)) / 2`` of Bernoulli p and q.

    It is ``(p - q) (logit p - logit q) / 2``. Arguments and shape of the result as of
    `soft_dice_distance`; not bounded.
    """
    x, y = at_least_float32(logits), at_least_float32(taught)
    divergence = 0.5 * (x.sigmoid() - y.sigmoid()) * (x - y) * inside
    return divergence.sum(1) / inside.sum(1).clamp(min=1)


_LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "dice": soft_dice_distance,
    "kl": symmetric_kl,
}
