"""Single losses, one value per mask or pair, and the matching of answers with masks.

Weights, and the division of sums by `TrainingContext.num_masks`, are the criteria's.
"""

from unsam.modeling.losses.bce import bce_loss
from unsam.modeling.losses.box import box_l1_loss, giou_loss
from unsam.modeling.losses.dice import dice_loss, soft_dice
from unsam.modeling.losses.drop_loss import kept_pairs
from unsam.modeling.losses.focal import focal_loss
from unsam.modeling.losses.matching import hungarian, pairwise_box_cost, pairwise_mask_cost
from unsam.modeling.losses.object_score import object_score_loss
from unsam.modeling.losses.points import sample_points, uncertain_points
from unsam.modeling.losses.quality import mask_iou, quality_loss

__all__ = [
    "bce_loss",
    "box_l1_loss",
    "dice_loss",
    "focal_loss",
    "giou_loss",
    "hungarian",
    "kept_pairs",
    "mask_iou",
    "object_score_loss",
    "pairwise_box_cost",
    "pairwise_mask_cost",
    "quality_loss",
    "sample_points",
    "soft_dice",
    "uncertain_points",
]
