"""Weights that belong to the family but are no whole model: what each is for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from unsam.checkpoint.layouts.base import Weights


@dataclass(frozen=True)
class OtherUse:
    """A kind of weights file that a part of this project takes.

    Attributes:
        title: what it is, for people.
        matches: whether a file's tensors are of this kind.
        advice: the key or command that takes it.
    """

    title: str
    matches: Callable[[Weights], bool]
    advice: str


def _has(weights: Weights, *ends: str) -> bool:
    """Whether for each of `ends` some name ends in it."""
    return all(any(name.endswith(end) for name in weights) for end in ends)


def _is_cutler(weights: Weights) -> bool:
    return _has(weights, "proposal_generator.rpn_head.conv.weight") and any(
        name.startswith("roi_heads.box_head.0.") for name in weights
    )


def _is_detector(weights: Weights) -> bool:
    return _has(weights, "proposal_generator.rpn_head.conv.weight")


def _is_swin(weights: Weights) -> bool:
    return _has(weights, "blocks.0.attn.relative_position_bias_table", "patch_embed.proj.weight")


def _is_vit(weights: Weights) -> bool:
    has_blocks = _has(weights, "blocks.0.attn.qkv.weight") or _has(
        weights, "layer.0.attention.q_proj.weight"
    )
    return has_blocks and any(name.endswith("cls_token") for name in weights)


def _is_resnet(weights: Weights) -> bool:
    return any(
        _has(weights, stem, block)
        for stem, block in (
            ("stem.conv1.weight", "res2.0.conv1.weight"),
            ("conv1.weight", "layer1.0.conv1.weight"),
        )
    )


def _is_cascadepsp(weights: Weights) -> bool:
    return _has(weights, "psp.bottleneck.weight")


def _is_mask2former(weights: Weights) -> bool:
    return "sem_seg_head.predictor.query_feat.weight" in weights


# The first that matches counts: CascadePSP holds a ResNet.
OTHER_USES: tuple[OtherUse, ...] = (
    OtherUse(
        "CascadePSP",
        _is_cascadepsp,
        "it refines pseudo masks: PSEUDO_MASKS.REFINE.NAME cascadepsp "
        "PSEUDO_MASKS.REFINE.CASCADEPSP.WEIGHTS FILE",
    ),
    OtherUse(
        "CutLER's cascade detector",
        _is_cutler,
        "it finds objects for pseudo masks: unsam pseudo-masks --preset unsam "
        "PSEUDO_MASKS.DIVIDE.CUTLER.WEIGHTS FILE",
    ),
    OtherUse(
        "a detector of detectron2",
        _is_detector,
        "of those only CutLER's cascade detector is of use here",
    ),
    OtherUse(
        "Mask2Former trained with classes",
        _is_mask2former,
        "models here know no classes; its backbone alone can start one",
    ),
    OtherUse(
        "a Swin Transformer backbone",
        _is_swin,
        "start a model from it with MODEL.BACKBONE.NAME SwinTransformer "
        "MODEL.BACKBONE.WEIGHTS FILE",
    ),
    OtherUse(
        "a ViT backbone (DINO, DINOv2, DINOv3)",
        _is_vit,
        "it gives features for pseudo masks: PSEUDO_MASKS.FEATURES.NAME vit "
        "PSEUDO_MASKS.FEATURES.VIT.WEIGHTS FILE",
    ),
    OtherUse(
        "a ResNet backbone",
        _is_resnet,
        "start a model from it with MODEL.BACKBONE.NAME ResNet50 MODEL.BACKBONE.WEIGHTS FILE",
    ),
)
