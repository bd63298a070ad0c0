"""Which parameters learn, how fast, and which of them decay."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from unsam.errors import ConfigError

# Parameters of these names are embeddings, tokens or biases whatever their shape and module.
_UNDECAYED_WORDS = ("embed", "token", "bias")
_UNDECAYED_MODULES = (nn.Embedding, nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Stop the parameters whose names match one of `patterns` from learning.

    Args:
        model: any module.
        patterns: shell patterns (fnmatch) for whole names: ``image_encoder.*``.

    Raises:
        ConfigError: a pattern matches no parameter.
    """
    parameters = dict(model.named_parameters())
    for pattern in patterns:
        matched = fnmatch.filter(parameters, pattern)
        if not matched:
            near = difflib.get_close_matches(pattern, parameters, n=3, cutoff=0.0)
            raise ConfigError(
                f"SOLVER.FREEZE: '{pattern}' matches no parameter; the nearest are "
                f"{', '.join(near)} (a * stands for anything)"
            )
        for name in matched:
            parameters[name].requires_grad_(False)


def parameter_groups(
    model: nn.Module,
    *,
    base_lr: float,
    weight_decay: float,
    multipliers: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Split the trainable parameters by learning rate and weight decay.

    Scales, biases (one axis or none, or so named), embeddings, learnt tokens and tables of relative
    positions' biases are not decayed: pulling them to zero does not make the function smoother. A
    shared parameter is listed once.

    Args:
        model: any module.
        base_lr: learning rate of parameters without a multiplier.
        weight_decay: decay of the matrices and filters.
        multipliers: factors on the rate, by the name of the parameter within `model`.

    Returns:
        Parameter groups of AdamW, two at most for each rate: decayed, then not; in the order in
        which the rates first occur in ``model.named_parameters()``.
    """
    undecayed = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, _UNDECAYED_MODULES)
        for parameter in module.parameters(recurse=False)
    }
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in _trainable(model):
        multiplier = (multipliers or {}).get(name, 1.0)
        for decays in (True, False):
            groups.setdefault(
                (multiplier, decays),
                {
                    "params": [],
                    "lr": base_lr * multiplier,
                    "weight_decay": weight_decay if decays else 0.0,
                },
            )
        last = name.rsplit(".", 1)[-1].lower()
        is_free = (
            parameter.ndim <= 1
            or any(word in last for word in _UNDECAYED_WORDS)
            or id(parameter) in undecayed
        )
        groups[multiplier, not is_free]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]


def _trainable(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, p) for name, p in model.named_parameters() if p.requires_grad)
