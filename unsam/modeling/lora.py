"""Low-rank updates of linear layers (Hu et al., LoRA, arXiv 2106.09685, §4.1)."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LoraLinear(nn.Linear):
    """A linear layer plus a learned update of low rank: ``W x + b + (alpha / rank) B A x``.

    The update starts at zero. `weight` and `bias` keep their names, so weights of the plain layer
    load as they are.

    Args:
        in_features: width of the input.
        out_features: width of the output.
        bias: whether the plain layer has one.
        rank: rank of the update.
        alpha: the update is scaled by ``alpha / rank``.
        dropout: chance that an input of the update is dropped in training.

    Attributes:
        enabled: False leaves the update out: exactly `torch.nn.Linear`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        rank: int,
        alpha: float,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(in_features, out_features, bias)
        if rank < 1:
            raise ValueError(f"rank of a low-rank update is at least 1, got {rank}")
        self.lora_a = nn.Parameter(torch.randn(rank, in_features) * 0.01)
        self.lora_b = nn.Parameter(torch.zeros(out_features, rank))
        self.scale = alpha / rank
        self.dropout = dropout
        self.enabled = True

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[..., in_features]`` to ``[..., out_features]``."""
        if not self.enabled:
            return super().forward(x)
        if self.training and self.dropout:
            update = F.linear(F.dropout(x, self.dropout), self.lora_a)
            return super().forward(x) + self.scale * F.linear(update, self.lora_b)
        # The weights are far smaller than the inputs, so updating those is nearly free.
        return F.linear(x, self.updated_weight(), self.bias)

    def updated_weight(self) -> Tensor:
        """Return the weights with the update in them, ``[out_features, in_features]``."""
        return self.weight + self.scale * (self.lora_b @ self.lora_a)


def add_lora(
    module: nn.Module, pattern: str, *, rank: int, alpha: float, dropout: float = 0.0
) -> list[str]:
    """Give linear layers inside a module a low-rank update.

    Args:
        module: changed in place; names and values of its parameters stay as they are.
        pattern: regular expression that the whole dotted name of a layer must match.
        rank: of the updates.
        alpha: the updates are scaled by ``alpha / rank``.
        dropout: on the input of the updates, in training.

    Returns:
        The names of the layers that got an update.

    Raises:
        ValueError: no linear layer matches.
    """
    names = [
        name
        for name, child in module.named_modules()
        if type(child) is nn.Linear and re.fullmatch(pattern, name)
    ]
    if not names:
        raise ValueError(f"no linear layer matches '{pattern}'; nothing to give a low-rank update")
    for name in names:
        plain = module.get_submodule(name)
        assert isinstance(plain, nn.Linear)
        updated = LoraLinear(
            plain.in_features,
            plain.out_features,
            plain.bias is not None,
            rank=rank,
            alpha=alpha,
            dropout=dropout,
        ).to(plain.weight)
        updated.weight, updated.bias = plain.weight, plain.bias
        module.set_submodule(name, updated)
    return names


def enable_lora(module: nn.Module, enabled: bool) -> None:
    """Switch all low-rank updates inside a module on or off."""
    for child in module.modules():
        if isinstance(child, LoraLinear):
            child.enabled = enabled


@torch.no_grad()
def merge_lora(module: nn.Module) -> None:
    """Add the low-rank updates inside a module to the weights; the layers become plain ones.

    After this the layers can no longer be used without their updates.
    """
    updated = [(name, m) for name, m in module.named_modules() if isinstance(m, LoraLinear)]
    for name, layer in updated:
        plain = nn.Linear(
            layer.in_features, layer.out_features, layer.bias is not None, device="meta"
        )
        plain.weight = nn.Parameter(layer.updated_weight(), layer.weight.requires_grad)
        plain.bias = layer.bias
        plain.train(layer.training)
        module.set_submodule(name, plain)
