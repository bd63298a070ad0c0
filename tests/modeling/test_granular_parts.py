from __future__ import annotations

import pytest
import torch
from torch import nn

from unsam.modeling.granular_parts import GranularityParts, freeze_all_but_granularity
from unsam.modeling.lora import add_lora


def test_the_shapes_are_those_of_the_published_weights():
    shapes = {name: tuple(p.shape) for name, p in GranularityParts().named_parameters()}
    assert shapes == {
        "mask_token": (1, 256),
        "encoding.type_embedding": (1, 256),
        "encoding.mlp.layers.0.weight": (192, 128),
        "encoding.mlp.layers.0.bias": (192,),
        "encoding.mlp.layers.1.weight": (192, 192),
        "encoding.mlp.layers.1.bias": (192,),
        "encoding.mlp.layers.2.weight": (256, 192),
        "encoding.mlp.layers.2.bias": (256,),
        "hypernetwork.layers.0.weight": (256, 256),
        "hypernetwork.layers.0.bias": (256,),
        "hypernetwork.layers.1.weight": (256, 256),
        "hypernetwork.layers.1.bias": (256,),
        "hypernetwork.layers.2.weight": (32, 256),
        "hypernetwork.layers.2.bias": (32,),
    }


def test_the_quality_head_is_optional_and_reads_both_tokens():
    tokens = torch.randn(2, 5, 16)
    assert GranularityParts(dim=16).quality(*tokens) is None
    parts = GranularityParts(dim=16, quality_head=True)
    quality = parts.quality(*tokens)
    assert quality.shape == (5,)
    assert ((quality > 0) & (quality < 1)).all()
    for changed in ((tokens[0] + 1, tokens[1]), (tokens[0], tokens[1] + 1)):
        assert not torch.allclose(parts.quality(*changed), quality)


def test_freezing_leaves_the_added_parts_to_train():
    model = nn.ModuleDict({"base": nn.ModuleDict({"q_proj": nn.Linear(8, 8)})})
    with pytest.raises(ValueError, match="no parts for a granularity"):
        freeze_all_but_granularity(model)
    add_lora(model, r".*q_proj", rank=2, alpha=4.0)
    model["granularity"] = GranularityParts(dim=16)
    freeze_all_but_granularity(model)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"base.q_proj.weight", "base.q_proj.bias"}
