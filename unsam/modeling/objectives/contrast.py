"""Patch-level contrast: patches of one mask attract, across its boundary they repel."""

from __future__ import annotations

import math
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import Tensor
from torch.nn import functional as F

from unsam.modeling.granularity_encoding import GranularityEncoding
from unsam.modeling.interactive import choose_masks
from unsam.modeling.layers import Mlp
from unsam.modeling.objectives.objective import OBJECTIVES
from unsam.modeling.objectives.patch_objective import PURE_COVERAGE, PatchObjective
from unsam.modeling.objectives.weight_schedule import WeightSchedule
from unsam.modeling.segmentation_model import SegmentationModel


@OBJECTIVES.register()
class Contrast(PatchObjective):
    """InfoNCE between the patches of a photo, mask by mask of the hierarchy.

    Masks are drawn evenly over granularities. The projection of the embeddings (SimCLR, Chen et
    al. 2020) is scaled channel by channel by a function of the mask's granularity: two patches may
    be alike at a coarse granularity and differ at a fine one, which one metric cannot say. Patches
    that a mask's boundary cuts are neither positive nor negative. See `region_contrast`.

    Args:
        schedule: the weight.
        embed_dim: channels of the patch embeddings.
        projection_dim: channels that are compared.
        temperature: of the similarities.
        masks_per_image: the most masks of a photo.
        anchors_per_mask: the most patches of a mask that are compared with all others.
        boundary_width: in patches; negatives this near to the mask are hard.
        hard_weight: how many times a hard negative counts.

    Raises:
        ValueError: a number out of its range.
    """

    name = "contrast"

    def __init__(
        self,
        *,
        schedule: WeightSchedule,
        embed_dim: int,
        projection_dim: int,
        temperature: float,
        masks_per_image: int,
        anchors_per_mask: int,
        boundary_width: int,
        hard_weight: float,
    ) -> None:
        super().__init__(schedule=schedule)
        if min(projection_dim, masks_per_image, anchors_per_mask) < 1:
            raise ValueError("PROJECTION_DIM, MASKS_PER_IMAGE and ANCHORS_PER_MASK are at least 1")
        if not (temperature > 0 and 0 < hard_weight < math.inf and boundary_width >= 0):
            raise ValueError("TEMPERATURE and HARD_WEIGHT are over 0, BOUNDARY_WIDTH at least 0")
        self.projection = Mlp((embed_dim, embed_dim, projection_dim))
        self.scale = GranularityEncoding(embed_dim=projection_dim, dropout=0.0)
        self.temperature = temperature
        self.masks_per_image = masks_per_image
        self.anchors_per_mask = anchors_per_mask
        self.boundary_width = boundary_width
        self.hard_weight = hard_weight

    @classmethod
    def from_config(cls, cfg: CfgNode, model: SegmentationModel) -> dict[str, Any]:
        """Translate ``OBJECTIVES.CONTRAST`` into the constructor's arguments."""
        node = cfg.OBJECTIVES.CONTRAST
        return {
            "embed_dim": model.patch_dim,
            "projection_dim": node.PROJECTION_DIM,
            "temperature": node.TEMPERATURE,
            "masks_per_image": node.MASKS_PER_IMAGE,
            "anchors_per_mask": node.ANCHORS_PER_MASK,
            "boundary_width": node.BOUNDARY_WIDTH,
            "hard_weight": node.HARD_WEIGHT,
        }

    def photo_loss(
        self,
        embedding: Tensor,
        coverage: Tensor,
        granularity: Tensor,
        image: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """Return the mean of `region_contrast` over the chosen masks, see `PatchObjective`."""
        inside, touched = coverage >= PURE_COVERAGE, coverage > 1 - PURE_COVERAGE
        usable = (inside.sum((1, 2)) > 1) & ~touched.flatten(1).all(1)
        chosen = usable.nonzero()[:, 0]
        if len(chosen) == 0:
            return embedding.new_zeros(())
        drawn = choose_masks(granularity[chosen], self.masks_per_image, "balanced", generator)
        chosen = chosen[drawn.to(chosen.device)]
        inside, touched = inside[chosen].flatten(1), touched[chosen]
        weights = negative_weights(touched, self.boundary_width, self.hard_weight).flatten(1)
        scores = torch.rand(inside.shape, generator=generator).to(inside.device)
        count = min(self.anchors_per_mask, inside.shape[1])
        drawn_scores, anchors = scores.masked_fill(~inside, -1.0).topk(count, dim=1)
        projected = self.projection(embedding.flatten(1).T) * (1 + self.scale(granularity[chosen]))
        return region_contrast(
            F.normalize(projected, dim=-1),
            anchors.masked_fill(drawn_scores < 0, -1),
            inside,
            weights,
            self.temperature,
        ).mean()


def negative_weights(touched: Tensor, boundary_width: int, hard_weight: float) -> Tensor:
    """Return how much each patch counts as a negative of each mask.

    Args:
        touched: bool ``[K, h, w]``, patches with more than a trace of the mask.
        boundary_width: in patches, over rows, columns and diagonals alike.
        hard_weight: of patches that are at most this far from a touched one.

    Returns:
        float32 ``[K, h, w]``: 0 where touched, `hard_weight` near it, 1 elsewhere.
    """
    near = F.max_pool2d(
        touched[:, None].to(torch.float32), 2 * boundary_width + 1, 1, boundary_width
    )[:, 0]
    return (1 + (hard_weight - 1) * near).masked_fill(touched, 0.0)


def region_contrast(
    embeddings: Tensor, anchors: Tensor, inside: Tensor, weights: Tensor, temperature: float
) -> Tensor:
    """Return the InfoNCE loss of K masks with weighted negatives.

    For anchor a, positive p and the similarity s of unit vectors over the temperature::

        loss(a, p) = -log( exp s(a, p) / (exp s(a, p) + sum_n w_n exp s(a, n)) )

    averaged over all pairs of an anchor and another patch in the mask. InfoNCE is of van den Oord
    et al. (2018), several positives as in Khosla et al. (2020), but that positives do not compete.

    Args:
        embeddings: ``[K, N, D]``, of unit length.
        anchors: int64 ``[K, A]``, indices of patches inside the mask; -1 for none.
        inside: bool ``[K, N]``, the positives.
        weights: ``[K, N]``, at least 0; every mask has one over 0 and none inside.
        temperature: over 0.

    Returns:
        ``[K]``; 0 for a mask without pairs.
    """
    drawn = anchors >= 0
    index = anchors.clamp(min=0)
    rows = embeddings.gather(1, index[..., None].expand(-1, -1, embeddings.shape[2]))
    similarity = rows @ embeddings.transpose(1, 2) / temperature
    negatives = (similarity + weights.log()[:, None]).logsumexp(2, keepdim=True)
    pairs = (inside[:, None] & drawn[..., None]).scatter(2, index[..., None], False)
    # The definition above, divided by its numerator: log(1 + exp(negatives - similarity)).
    losses = F.softplus(negatives - similarity) * pairs
    return losses.sum((1, 2)) / pairs.sum((1, 2)).clamp(min=1)
