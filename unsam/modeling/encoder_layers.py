"""The image encoder of any model as a sequence of layers, from the pixels up."""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import nn

# Where models keep the part that sees the pixels.
_ENCODERS = ("image_encoder", "backbone", "network.vision_encoder")
# What residual blocks are called here, in torchvision, segment-anything and transformers.
_BLOCK = re.compile("Block|Bottleneck")
# Swin's steps from one stage to the next are registered after all stages.
_MERGE = re.compile(r"(.*)merges\.(\d+)\.")


def encoder_name(model: nn.Module) -> str | None:
    """Return the name of the image encoder within `model`, None where there is none."""
    modules = dict(model.named_modules())
    return next((name for name in _ENCODERS if name in modules), None)


def encoder_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """Return the residual blocks of the image encoder by name, in the order of the computation.

    A block is an outermost module whose class is named after one (``SwinBlock``, ``Bottleneck``);
    the names are those within `model`.
    """
    name = encoder_name(model)
    if name is None:
        return {}
    return dict(_outermost_blocks(model.get_submodule(name), f"{name}."))


def encoder_distances(model: nn.Module) -> dict[str, int]:
    """Return how far each parameter of the image encoder is from the encoder's end, in layers.

    The rule is that of BEiT (Bao et al. 2021, arXiv 2106.08254, appendix): with N blocks, the last
    is one layer away and the first N; what comes before the first (embeddings of patches and
    positions) is N + 1 away, and what comes after the last (norms, neck, pyramid) 0. Parameters
    between two blocks belong to the earlier one.

    Returns:
        Distances by the name of the parameter within `model`; {} for a model without encoder.
    """
    encoder = encoder_name(model)
    if encoder is None:
        return {}
    blocks = {f"{name}.": depth for depth, name in enumerate(encoder_blocks(model), start=1)}
    end = len(blocks) + 1
    latest = 0
    distances = {}
    for name, _ in model.named_parameters():
        if not name.startswith(f"{encoder}."):
            continue
        merge = _MERGE.match(name)
        own = next((depth for block, depth in blocks.items() if name.startswith(block)), None)
        if own is not None:
            latest = own
        elif merge:
            stage = f"{merge[1]}stages.{merge[2]}."
            own = max(depth for block, depth in blocks.items() if block.startswith(stage))
        else:
            own = latest if latest < len(blocks) else end
        distances[name] = end - own
    return distances


def _outermost_blocks(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        if _BLOCK.search(type(child).__name__):
            yield prefix + name, child
        else:
            yield from _outermost_blocks(child, f"{prefix}{name}.")
