"""Matching of queries to masks, and the losses of Mask2Former."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import Tensor
from torch.nn import functional as F

from unsam.modeling.losses import (
    hungarian,
    kept_pairs,
    mask_iou,
    pairwise_mask_cost,
    sample_points,
)
from unsam.modeling.mask2former.query_decoder import QueryPredictions
from unsam.modeling.point_criterion import PointCriterion

_MASK, _NOTHING = 0, 1
_STRIDE = 4


@dataclass(frozen=True)
class _Matches:
    """Pairs of a query and a mask over all photos of a batch, P in all.

    Attributes:
        logits: ``[P, h, w]`` of the query.
        targets: bool ``[P, H, W]`` of the mask.
    """

    logits: Tensor
    targets: Tensor


class QueryCriterion(PointCriterion):
    """Each mask is one query's to find, the other queries are to say "nothing".

    Every output of the decoder is matched and scored by itself (Mask2Former, Cheng et al. 2022,
    sections 3.2 and 3.3; matching after Carion et al. 2020). Masks are compared at points; the
    logits there are products of the queries with the mask features at the points, so that full
    masks exist only for the matched queries.

    Args:
        class_weight: weight of the cross entropy of mask or nothing.
        mask_weight: see `PointCriterion`.
        dice_weight: see `PointCriterion`.
        no_object_weight: weight of queries without a mask in the class loss.
        num_points: see `PointCriterion`.
        oversample: see `PointCriterion`.
        importance: see `PointCriterion`.
        drop_iou: matched masks of no larger IoU at their points cost nothing, so that a model
            that finds what the pseudo masks have missed is not punished for it (DropLoss, CutLER,
            Wang et al. 2023); below 0 none is dropped.

    Raises:
        ValueError: no points, fewer candidates than points, or a share outside [0, 1].
    """

    class_weights: Tensor

    def __init__(
        self,
        *,
        class_weight: float = 2.0,
        mask_weight: float = 5.0,
        dice_weight: float = 5.0,
        no_object_weight: float = 0.1,
        num_points: int = 12544,
        oversample: float = 3.0,
        importance: float = 0.75,
        drop_iou: float = -1.0,
    ) -> None:
        super().__init__(
            mask_weight=mask_weight,
            dice_weight=dice_weight,
            num_points=num_points,
            oversample=oversample,
            importance=importance,
        )
        self.class_weight = class_weight
        self.drop_iou = drop_iou
        self.no_object_weight = no_object_weight
        self.register_buffer("class_weights", torch.tensor((1.0, no_object_weight)), False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate ``CRITERION.QUERIES`` into the constructor's arguments."""
        node = cfg.CRITERION.QUERIES
        return super().from_config(cfg) | {
            "class_weight": node.CLASS_WEIGHT,
            "no_object_weight": node.NO_OBJECT_WEIGHT,
            "drop_iou": node.DROP_IOU,
        }

    def forward(
        self,
        outputs: Sequence[QueryPredictions],
        mask_features: Tensor,
        targets: Sequence[Tensor],
        num_masks: float,
    ) -> dict[str, Tensor]:
        """Return the losses, weighted and summed over the outputs, as scalars.

        Args:
            outputs: of the decoder for B photos, the final one last.
            mask_features: ``[B, C, h, w]``, at a quarter of the input.
            targets: for each photo bool ``[M, H, W]``, in the size of the padded input.
            num_masks: what the sums over masks are divided by, see `TrainingContext.num_masks`.

        Returns:
            ``loss_class``, ``loss_mask``, ``loss_dice``, and ``iou_matched`` without gradient: the
            mean IoU of the final masks with those that they are matched to.
        """
        losses: dict[str, Tensor] = {}
        with torch.autocast(mask_features.device.type, enabled=False):
            # Half the range of bfloat16 would not tell neighbouring costs apart.
            precise = torch.promote_types(mask_features.dtype, torch.float32)
            mask_features = mask_features.to(precise)
            exact = [
                QueryPredictions(
                    output.class_logits.to(precise), output.mask_embeddings.to(precise)
                )
                for output in outputs
            ]
            matched = self._match(exact, mask_features, targets)
            for output, pairs in zip(exact, matched, strict=True):
                matches = _gather(output, mask_features, targets, pairs)
                for name, value in self._output_losses(output, matches, pairs, num_masks).items():
                    losses[name] = losses.get(name, 0) + value
            losses["iou_matched"] = _mean_iou(matches)
        return losses

    @torch.no_grad()
    def _match(
        self,
        outputs: Sequence[QueryPredictions],
        mask_features: Tensor,
        targets: Sequence[Tensor],
    ) -> list[list[tuple[Tensor, Tensor]]]:
        """Return, for each output and photo, queries and the masks that they are to find.

        All outputs are compared with the masks of a photo at the same points.
        """
        costs = []
        for index, masks in enumerate(targets):
            points = self.random_points(mask_features)
            features = sample_points(mask_features[index : index + 1], points)[0]
            wanted = sample_points(masks[None], points)[0]
            for output in outputs:
                probability = output.class_logits[index].softmax(-1)[:, _MASK]
                logits = output.mask_embeddings[index] @ features
                cost = pairwise_mask_cost(logits, wanted, self.mask_weight, self.dice_weight)
                costs.append(cost - self.class_weight * probability[:, None])
        pairs = hungarian(costs)
        return [pairs[first :: len(outputs)] for first in range(len(outputs))]

    def _output_losses(
        self,
        output: QueryPredictions,
        matches: _Matches,
        pairs: Sequence[tuple[Tensor, Tensor]],
        num_masks: float,
    ) -> dict[str, Tensor]:
        points = self.loss_points(matches.logits)
        logits = sample_points(matches.logits[:, None], points)[:, 0]
        wanted = sample_points(matches.targets[:, None], points)[:, 0]
        kept = kept_pairs(logits, wanted, self.drop_iou) if self.drop_iou >= 0 else None
        class_loss = self._class_loss(output.class_logits, pairs, num_masks)
        return {"loss_class": class_loss} | self.mask_losses(logits, wanted, num_masks, kept)

    def _class_loss(
        self, logits: Tensor, pairs: Sequence[tuple[Tensor, Tensor]], num_masks: float
    ) -> Tensor:
        """Return the weighted mean cross entropy of ``[B, Q, 2]`` logits.

        The weights are summed as if `num_masks` queries had a mask, which alone is the same for
        all micro-batches of a step: how its photos are dealt out then does not matter.
        """
        classes = torch.full(logits.shape[:2], _NOTHING, device=logits.device)
        for row, (queries, _) in zip(classes, pairs, strict=True):
            row[queries] = _MASK
        entropy = F.cross_entropy(
            logits.flatten(0, 1),
            classes.flatten(),
            self.class_weights.to(logits.dtype),
            reduction="sum",
        )
        no_object = self.no_object_weight
        total = no_object * classes.numel() + (1 - no_object) * min(num_masks, classes.numel())
        return self.class_weight * entropy / total


def _gather(
    output: QueryPredictions,
    mask_features: Tensor,
    targets: Sequence[Tensor],
    pairs: Sequence[tuple[Tensor, Tensor]],
) -> _Matches:
    logits = [
        torch.einsum("pc,chw->phw", output.mask_embeddings[index, queries], mask_features[index])
        for index, (queries, _) in enumerate(pairs)
    ]
    masks = [some[chosen] for some, (_, chosen) in zip(targets, pairs, strict=True)]
    return _Matches(torch.cat(logits), torch.cat(masks))


@torch.no_grad()
def _mean_iou(matches: _Matches) -> Tensor:
    """Return the mean IoU at the cells' centres; 0 without a match."""
    half = _STRIDE // 2
    wanted = matches.targets[:, half::_STRIDE, half::_STRIDE].flatten(1)
    found = matches.logits.flatten(1) > 0
    iou = mask_iou(found, wanted, torch.ones_like(wanted))
    return iou.sum() / max(len(iou), 1)
