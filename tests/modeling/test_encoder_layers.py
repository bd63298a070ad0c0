"""Every encoder is a sequence of blocks, and every parameter of it has its place."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.modeling.conftest import tiny_cfg
from tests.modeling.sam.tiny import tiny_sam
from tests.modeling.sam2.tiny import tiny_model
from unsam.modeling import build_model
from unsam.modeling.backbone import ResNet50, SamVit, SwinTransformer
from unsam.modeling.encoder_layers import encoder_blocks, encoder_distances


class WithBackbone(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.decoder = nn.Linear(2, 2)


def make(name: str) -> nn.Module:
    if name == "GranularSam":
        return build_model(tiny_cfg())
    if name == "Sam":
        return tiny_sam()
    if name == "Sam2":
        return tiny_model()
    kinds = {"ResNet50": ResNet50, "SwinTransformer": SwinTransformer, "SamVit": SamVit}
    # Shapes are all that is asked about.
    with torch.device("meta"):
        return WithBackbone(kinds[name]())


# First block, last block, how many, and distances of some parameters.
EXPECTED = {
    "GranularSam": ("image_encoder.stages.0.2", "image_encoder.attention.0", 4),
    "Sam": ("image_encoder.blocks.0", "image_encoder.blocks.1", 2),
    "Sam2": ("network.vision_encoder.backbone.blocks.0", None, 6),
    "ResNet50": ("backbone.layer1.0", "backbone.layer4.2", 16),
    "SwinTransformer": ("backbone.stages.0.blocks.0", "backbone.stages.3.blocks.1", 12),
    "SamVit": ("backbone.encoder.blocks.0", "backbone.encoder.blocks.11", 12),
}
DISTANCES = {
    "GranularSam": {
        "image_encoder.stem.0.weight": 5,
        "image_encoder.stages.0.0.weight": 5,
        "image_encoder.stages.1.0.weight": 4,
        "image_encoder.attention.0.qkv.weight": 1,
        "image_encoder.neck.0.weight": 0,
    },
    "Sam": {
        "image_encoder.pos_embed": 3,
        "image_encoder.patch_embed.proj.weight": 3,
        "image_encoder.blocks.0.attn.qkv.weight": 2,
        "image_encoder.blocks.1.mlp.lin1.weight": 1,
        "image_encoder.neck.0.weight": 0,
    },
    "Sam2": {
        "network.vision_encoder.backbone.pos_embed": 7,
        "network.vision_encoder.backbone.blocks.5.attn.qkv.weight": 1,
        "network.vision_encoder.neck.convs.0.weight": 0,
    },
    "ResNet50": {
        "backbone.conv1.weight": 17,
        "backbone.layer1.0.downsample.0.weight": 16,
        "backbone.layer4.2.conv3.weight": 1,
    },
    "SwinTransformer": {
        "backbone.patch_embedding.weight": 13,
        "backbone.stages.0.blocks.1.attention.qkv.weight": 11,
        "backbone.merges.0.reduce.weight": 11,
        "backbone.stages.1.blocks.0.attention.qkv.weight": 10,
        "backbone.merges.2.norm.weight": 3,
        "backbone.norms.0.weight": 0,
    },
    "SamVit": {
        "backbone.encoder.pos_embed": 13,
        "backbone.encoder.blocks.0.attn.rel_pos_h": 12,
        "backbone.pyramid.levels.0.0.weight": 0,
    },
}


@pytest.mark.parametrize("name", list(EXPECTED))
def test_blocks_and_distances(name: str) -> None:
    model = make(name)
    first, last, count = EXPECTED[name]
    blocks = list(encoder_blocks(model))
    assert len(blocks) == count
    assert blocks[0] == first
    assert last in (None, blocks[-1])
    distances = encoder_distances(model)
    assert {key: distances[key] for key in DISTANCES[name]} == DISTANCES[name]
    encoder = first.split(".")[0]
    inside = {key for key, _ in model.named_parameters() if key.startswith(f"{encoder}.")}
    assert set(distances) <= inside
    assert set(distances.values()) <= set(range(count + 2))
    if name != "Sam2":
        assert set(distances) == inside


def test_model_without_encoder_has_no_layers() -> None:
    assert encoder_blocks(nn.Linear(2, 2)) == {}
    assert encoder_distances(nn.Linear(2, 2)) == {}
