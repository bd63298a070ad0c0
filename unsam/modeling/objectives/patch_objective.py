"""Objectives on patch embeddings: photo by photo, over the patches that lie in the photo."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from unsam.modeling.objectives.objective import Objective
from unsam.modeling.precision import at_least_float32
from unsam.modeling.segmentation_model import SegmentationModel
from unsam.modeling.training_context import TrainingContext

PURE_COVERAGE = 0.9
"""Share of a patch from which on it counts as inside a mask; one minus it counts as outside."""


class PatchObjective(Objective):
    """Base of the objectives that compare the patches of each photo with each other.

    What is compared lies in one photo, so nothing has to be gathered from other processes, and a
    photo's term does not depend on what else is in the batch.

    Attributes:
        name: of its loss, without ``loss_``; also the purpose of its random numbers.
    """

    name: ClassVar[str]

    def forward(self, model: SegmentationModel, context: TrainingContext) -> dict[str, Tensor]:
        """Return ``loss_<name>``, the mean of `photo_loss` over the photos, in float32."""
        embeddings = at_least_float32(model.patch_embeddings(context.features))
        sizes = [tuple(sample["image"].shape[-2:]) for sample in context.batch]
        stride = model.padded_size(sizes)[0] // embeddings.shape[-2]
        random = context.random.fork(self.name)
        # The zero keeps the encoder in the graph, whatever the photos have to say.
        total = 0.0 * embeddings.sum()
        with torch.autocast(embeddings.device.type, enabled=False):
            for index, (sample, (height, width)) in enumerate(zip(context.batch, sizes)):
                h, w = height // stride, width // stride
                if len(sample["masks"]) == 0 or h * w == 0:
                    continue
                total = total + self.photo_loss(
                    embeddings[index, :, :h, :w],
                    mask_coverage(sample["masks"].to(embeddings.device), stride),
                    sample["granularity"].to(embeddings.device),
                    sample["image"][:, : h * stride, : w * stride].to(embeddings.device),
                    random.generator(index),
                )
        return {f"loss_{self.name}": total / len(context.batch)}

    def photo_loss(
        self,
        embedding: Tensor,
        coverage: Tensor,
        granularity: Tensor,
        image: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """Return the term of one photo that has masks, a scalar.

        Args:
            embedding: float ``[C, h, w]``, the patches that lie in the photo as a whole.
            coverage: float32 ``[M, h, w]`` in [0, 1], the share of each patch in each mask.
            granularity: float32 ``[M]`` in [0.1, 1].
            image: uint8 ``[3, H, W]``, RGB, the part of the photo that the patches cover.
            generator: the photo's random numbers, on the CPU.
        """
        raise NotImplementedError


def mask_coverage(masks: Tensor, stride: int) -> Tensor:
    """Return the share of each patch that masks cover.

    Args:
        masks: bool ``[M, H, W]``.
        stride: side of a patch in pixels.

    Returns:
        float32 ``[M, H // stride, W // stride]``; what is left over at the right and the bottom
        belongs to no patch.
    """
    return F.avg_pool2d(masks[:, None].to(torch.float32), stride)[:, 0]
