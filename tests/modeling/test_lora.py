from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from unsam.modeling.lora import LoraLinear, add_lora, enable_lora, merge_lora


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "attention": nn.ModuleDict({"q_proj": nn.Linear(6, 4), "k_proj": nn.Linear(6, 4)}),
            "mlp": nn.Linear(4, 4, bias=False),
        }
    )


def with_updates(dropout: float = 0.0) -> nn.Module:
    module = network()
    add_lora(module, r".*_proj", rank=2, alpha=6.0, dropout=dropout)
    for child in module.modules():
        if isinstance(child, LoraLinear):
            nn.init.normal_(child.lora_b)
    return module


def run(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    attention = module["attention"]
    return module["mlp"](attention["q_proj"](x) * attention["k_proj"](x))


def test_an_untrained_update_changes_nothing():
    plain, x = network(), torch.randn(5, 6)
    updated = copy.deepcopy(plain)
    names = add_lora(updated, r".*_proj", rank=2, alpha=4.0, dropout=0.5)
    assert names == ["attention.q_proj", "attention.k_proj"]
    assert type(updated["mlp"]) is nn.Linear
    torch.testing.assert_close(run(updated, x), run(plain, x))
    assert plain.state_dict().keys() <= updated.state_dict().keys()


def test_the_output_is_the_formula_in_training_and_in_evaluation():
    layer = LoraLinear(6, 4, rank=2, alpha=6.0)
    nn.init.normal_(layer.lora_b)
    x = torch.randn(3, 6)
    expected = x @ layer.weight.T + layer.bias + 3.0 * (x @ layer.lora_a.T @ layer.lora_b.T)
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.eval()(x), expected)
    layer.dropout = 1e-9
    torch.testing.assert_close(layer.train()(x), expected)


def test_dropout_is_on_the_update_alone_and_in_training_alone():
    layer = LoraLinear(6, 4, rank=2, alpha=6.0, dropout=0.5)
    x = torch.randn(64, 6)
    plain = nn.functional.linear(x, layer.weight, layer.bias)
    assert torch.equal(layer.train()(x), plain)
    nn.init.normal_(layer.lora_b)
    assert not torch.equal(layer(x), layer(x))
    assert torch.equal(layer.eval()(x), layer(x))


def test_switched_off_it_is_the_plain_layer_bit_for_bit():
    plain, updated, x = network(), with_updates(), torch.randn(5, 6)
    assert not torch.allclose(run(updated, x), run(plain, x))
    enable_lora(updated, False)
    assert torch.equal(run(updated, x), run(plain, x))
    enable_lora(updated, True)
    assert not torch.allclose(run(updated, x), run(plain, x))


@pytest.mark.parametrize("training", [False, True])
def test_merged_layers_are_plain_and_give_the_same(training):
    module, x = with_updates(), torch.randn(5, 6)
    module.train(training)
    before = run(module, x)
    merge_lora(module)
    assert not any(isinstance(child, LoraLinear) for child in module.modules())
    assert module.state_dict().keys() == network().state_dict().keys()
    torch.testing.assert_close(run(module, x), before)
    assert all(child.training == training for child in module.modules())


def test_both_factors_learn():
    module = with_updates()
    run(module.eval(), torch.randn(5, 6)).sum().backward()
    layer = module["attention"]["q_proj"]
    assert layer.lora_a.grad.abs().sum() > 0
    assert layer.lora_b.grad.abs().sum() > 0


def test_updates_take_the_type_of_the_layer():
    module = network().double()
    add_lora(module, r".*_proj", rank=2, alpha=4.0)
    assert run(module, torch.randn(2, 6, dtype=torch.float64)).dtype == torch.float64


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="no linear layer matches 'nothing'"):
        add_lora(network(), "nothing", rank=2, alpha=4.0)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        add_lora(network(), r".*_proj", rank=0, alpha=4.0)
