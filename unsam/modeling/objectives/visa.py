"""ViSA: early in training, frozen features guide a model to semantic regions, not to edges."""

from __future__ import annotations

import math
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn
from torch.nn import functional as F

from unsam.modeling.interactive import choose_masks
from unsam.modeling.objectives.frozen_features import FrozenFeatures, build_frozen_features
from unsam.modeling.objectives.objective import OBJECTIVES
from unsam.modeling.objectives.patch_objective import PatchObjective
from unsam.modeling.objectives.weight_schedule import WeightSchedule
from unsam.modeling.segmentation_model import SegmentationModel

TARGETS = ("affinity", "prototype")
# A channel that varies less over a photo says nothing about it.
_LEAST_DEVIATION = 0.01


@OBJECTIVES.register()
class Visa(PatchObjective):
    """Vision-guided semantic augmentation (ViSA), our reading of it.

    The text that names it says no more than that frozen self-supervised features guide the model
    early in training to semantic regions rather than edges, and that this fades. Here a linear map
    of the patch embeddings, about their mean in the photo, learns from the frozen features,
    standardised over the photo:

    - "affinity": pairs of patches are to be as alike as their frozen features are, see
      `affinity_loss`; half of the pairs lie in one region, half in two.
    - "prototype": a patch is to name its region by the region's mean frozen feature, see
      `prototype_loss`; regions that look alike may be taken for each other.

    The regions are the masks nearest to a granularity that is drawn for the photo, see
    `partition`. Patches count the less the nearer they are to the boundary of their region, see
    `interior_weights`.

    Args:
        schedule: the weight.
        embed_dim: channels of the patch embeddings.
        features: the frozen features.
        target: "affinity" or "prototype".
        boundary_width: in patches, the distance at which a patch counts 63 %.
        temperature: of the similarities.
        num_pairs: pairs of a photo, or patches for "prototype".

    Raises:
        ValueError: a number out of its range, or another target.
    """

    name = "visa"

    def __init__(
        self,
        *,
        schedule: WeightSchedule,
        embed_dim: int,
        features: FrozenFeatures,
        target: str,
        boundary_width: float,
        temperature: float,
        num_pairs: int,
    ) -> None:
        super().__init__(schedule=schedule)
        if target not in TARGETS:
            raise ValueError(f"TARGET is one of {', '.join(TARGETS)}, got '{target}'")
        if not (0 < boundary_width < math.inf and temperature > 0 and num_pairs >= 2):
            raise ValueError("BOUNDARY_WIDTH and TEMPERATURE are over 0, NUM_PAIRS at least 2")
        # Linear: what the features know shall get into the encoder, not into this head.
        self.head = nn.Linear(embed_dim, features.dim, bias=False)
        self.features = features
        self.target = target
        self.boundary_width = boundary_width
        self.temperature = temperature
        self.num_pairs = num_pairs

    @classmethod
    def from_config(cls, cfg: CfgNode, model: SegmentationModel) -> dict[str, Any]:
        """Translate ``OBJECTIVES.VISA`` into the constructor's arguments."""
        node = cfg.OBJECTIVES.VISA
        return {
            "embed_dim": model.patch_dim,
            "features": build_frozen_features(node.FEATURES, node.FEATURE_WEIGHTS),
            "target": node.TARGET,
            "boundary_width": node.BOUNDARY_WIDTH,
            "temperature": node.TEMPERATURE,
            "num_pairs": node.NUM_PAIRS,
        }

    def photo_loss(
        self,
        embedding: Tensor,
        coverage: Tensor,
        granularity: Tensor,
        image: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """Return the guidance of one photo, see `PatchObjective.photo_loss`."""
        drawn = choose_masks(granularity, 1, "balanced", generator)
        regions = partition(coverage, granularity, granularity[drawn.to(granularity.device)])
        weights = interior_weights(regions, self.boundary_width)[regions >= 0]
        labels = regions[regions >= 0]
        if len(labels) < 2:
            return embedding.new_zeros(())
        frozen = self._frozen(image, regions.shape)[:, regions >= 0].T
        # About their mean in the photo, as the frozen ones are.
        patches = (embedding - embedding.mean((1, 2), keepdim=True))[:, regions >= 0].T
        if self.target == "affinity":
            pairs, exists = draw_pairs(labels, self.num_pairs, generator)
            first, second = (self.head(patches[index]) for index in pairs)
            weight = weights[pairs[0]] * weights[pairs[1]] * exists
            alike = F.cosine_similarity(frozen[pairs[0]], frozen[pairs[1]])
            return affinity_loss(first, second, alike, weight, self.temperature)
        count = min(self.num_pairs, len(labels))
        drawn = torch.randperm(len(labels), generator=generator)[:count].to(labels.device)
        prototypes, labels = region_prototypes(frozen, labels, weights)
        return prototype_loss(
            self.head(patches[drawn]), prototypes, labels[drawn], weights[drawn], self.temperature
        )

    def _frozen(self, image: Tensor, grid: torch.Size) -> Tensor:
        """Return the frozen features ``[D, h, w]``, standardised over the patches of the photo."""
        features = self.features(image, (grid[0], grid[1]))
        mean, std = features.mean((1, 2), keepdim=True), features.std((1, 2), keepdim=True)
        return (features - mean) / std.clamp(min=_LEAST_DEVIATION)


def partition(coverage: Tensor, granularity: Tensor, wanted: Tensor) -> Tensor:
    """Give each patch to the mask over it whose granularity is nearest to the wanted one.

    Args:
        coverage: ``[M, h, w]`` in [0, 1].
        granularity: ``[M]``.
        wanted: ``[1]``.

    Returns:
        int64 ``[h, w]``, indices of masks; -1 for a patch that no mask covers by a half or more.
    """
    distance = (granularity - wanted).abs()[:, None, None].expand_as(coverage)
    nearest, index = distance.masked_fill(coverage < 0.5, math.inf).min(0)
    return index.masked_fill(nearest.isinf(), -1)


def interior_weights(regions: Tensor, width: float) -> Tensor:
    """Return ``1 - exp(-d / width)`` of each patch, d its distance to another region.

    d is in patches over rows, columns and diagonals alike, from the centre of the patch: half a
    patch beside a boundary. It is not followed beyond four times the width. The photo's own border
    is no boundary.

    Args:
        regions: int64 ``[h, w]``.
        width: in patches.

    Returns:
        float32 ``[h, w]`` in (0, 1).
    """
    highest = regions.to(torch.float32)[None]
    lowest = highest
    distance = torch.full_like(highest, 0.5)
    for _ in range(math.ceil(4 * width)):
        highest, lowest = F.max_pool2d(highest, 3, 1, 1), -F.max_pool2d(-lowest, 3, 1, 1)
        distance = distance + (highest == lowest)
    return 1 - (-distance[0] / width).exp()


def draw_pairs(labels: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw pairs of patches: the first half within a region, the others across two.

    Args:
        labels: int64 ``[N]``, the region of each patch.
        count: pairs.
        generator: on the CPU.

    Returns:
        Indices, int64 ``[2, count]``, and whether a pair is what it should be, bool ``[count]``:
        a patch may be alone in its region, a region alone in the photo.
    """
    uniform = torch.rand(2, count, generator=generator).to(labels.device)
    ordered, order = labels.sort(stable=True)
    _, region, sizes = ordered.unique_consecutive(return_inverse=True, return_counts=True)
    starts = sizes.cumsum(0) - sizes
    place = (uniform[0] * len(labels)).long().clamp(max=len(labels) - 1)
    start, size = starts[region[place]], sizes[region[place]]
    within = torch.arange(count, device=labels.device) < count // 2
    # Of the region all but the patch itself; of the others all.
    choices = torch.where(within, size - 1, len(labels) - size)
    step = torch.minimum((uniform[1] * choices).long(), choices - 1).clamp(min=0)
    inside = start + (place - start + 1 + step) % size
    outside = step + torch.where(step >= start, size, 0)
    other = torch.where(within, inside, outside.clamp(max=len(labels) - 1))
    return torch.stack((order[place], order[other])), choices > 0


def affinity_loss(
    first: Tensor, second: Tensor, alike: Tensor, weight: Tensor, temperature: float
) -> Tensor:
    """Return the weighted mean cross entropy of two affinities, a scalar.

    The affinity of a pair is ``sigmoid(cosine / temperature)``, of the student as of the frozen
    features; the loss is least where both cosines are equal.

    Args:
        first: the student's ``[P, D]``.
        second: the student's ``[P, D]``.
        alike: cosines of the frozen features, ``[P]``.
        weight: ``[P]``, at least 0.
        temperature: over 0.
    """
    student = F.cosine_similarity(first, second) / temperature
    losses = F.binary_cross_entropy_with_logits(
        student, (alike / temperature).sigmoid(), reduction="none"
    )
    return (losses * weight).sum() / weight.sum().clamp(min=1e-6)


def region_prototypes(features: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weighted mean feature of each region.

    Args:
        features: ``[N, D]``.
        labels: int64 ``[N]``, the region of each patch.
        weights: ``[N]``, over 0.

    Returns:
        ``[R, D]`` for the R regions, and the row of each patch, int64 ``[N]``.
    """
    _, rows = labels.unique(return_inverse=True)
    members = F.one_hot(rows).T * weights
    return members @ features / members.sum(1, keepdim=True), rows


def prototype_loss(
    student: Tensor, prototypes: Tensor, rows: Tensor, weight: Tensor, temperature: float
) -> Tensor:
    """Return the weighted mean cross entropy over the prototypes of a photo, a scalar.

    The student says ``softmax_r(cos(student, prototype_r) / temperature)``; the target is the same
    of the prototype of the patch's own region, so that regions that look alike share it.

    Args:
        student: ``[P, D]``.
        prototypes: ``[R, D]``.
        rows: int64 ``[P]``, the prototype of each patch.
        weight: ``[P]``, over 0.
        temperature: over 0.
    """
    prototypes = F.normalize(prototypes, dim=1)
    logits = F.normalize(student, dim=1) @ prototypes.T / temperature
    targets = (prototypes @ prototypes.T / temperature).softmax(1)
    losses = F.cross_entropy(logits, targets[rows], reduction="none")
    return (losses * weight).sum() / weight.sum()
