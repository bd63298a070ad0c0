"""Backbones, one file each; all are registered in `BACKBONES`."""

from unsam.modeling.backbone.base import Backbone
from unsam.modeling.backbone.resnet import ResNet50
from unsam.modeling.backbone.sam_vit import SamVit
from unsam.modeling.backbone.swin import SwinTransformer
from unsam.modeling.backbone.weights import load_backbone_weights

__all__ = ["Backbone", "ResNet50", "SamVit", "SwinTransformer", "load_backbone_weights"]
