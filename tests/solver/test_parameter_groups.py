"""Who learns, how fast, and who decays."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unsam.errors import ConfigError
from unsam.solver import freeze, parameter_groups


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.LayerNorm([4, 2, 2])
        self.words = nn.Embedding(5, 4)
        self.pos_embed = nn.Parameter(torch.zeros(1, 4, 4))
        self.mask_token = nn.Parameter(torch.zeros(1, 4))
        self.offset_bias = nn.Parameter(torch.zeros(9, 4))
        self.patch_embed = nn.Linear(4, 4)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.tied = self.conv


def test_every_trainable_parameter_is_in_one_group() -> None:
    model = Model()
    decayed, free = parameter_groups(model, base_lr=0.5, weight_decay=0.1)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert [names[id(p)] for p in decayed["params"]] == ["conv.weight", "patch_embed.weight"]
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    assert decayed["lr"] == free["lr"] == 0.5
    assert {names[id(p)] for p in free["params"]} == {
        "conv.bias",
        "norm.weight",
        "norm.bias",
        "words.weight",
        "pos_embed",
        "mask_token",
        "offset_bias",
        "patch_embed.bias",
    }


def test_rates_split_groups_and_lose_no_parameter() -> None:
    model = Model()
    multipliers = {"conv.weight": 0.1, "conv.bias": 0.1, "words.weight": 0.5, "frozen.weight": 0.2}
    groups = parameter_groups(model, base_lr=2.0, weight_decay=0.1, multipliers=multipliers)
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [
        (2.0, 0.1),
        (2.0, 0.0),
        (0.2, 0.1),
        (0.2, 0.0),
        (1.0, 0.0),
    ]
    every = [id(p) for group in groups for p in group["params"]]
    assert len(every) == len(set(every))
    assert set(every) == {id(p) for p in model.parameters() if p.requires_grad}


def test_freezing_by_pattern() -> None:
    model = Model()
    freeze(model, ["conv.*", "*_token"])
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert learning == {
        "norm.weight",
        "norm.bias",
        "words.weight",
        "pos_embed",
        "offset_bias",
        "patch_embed.weight",
        "patch_embed.bias",
    }


def test_pattern_without_a_match_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'patch_embd' matches no parameter.*patch_embed\.") as e:
        freeze(Model(), ["conv.*", "patch_embd"])
    assert "\n" not in str(e.value)
