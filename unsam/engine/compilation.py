"""Encoder and decoder as compiled graphs."""

from __future__ import annotations

from types import MethodType

import torch

from unsam.modeling import SegmentationModel

# What models compute with; what surrounds it chooses, cuts and pads, and stays Python.
_MODULES = (
    "image_encoder",
    "backbone",
    "pixel_decoder",
    "query_decoder",
    "decoder",
    "mask_decoder",
    "mask_decoder.transformer",
)
# A model around a library's network uses its modules in parts: it is compiled as a whole.
_METHODS = ("encode", "decode_with_object")


def compile_model(model: SegmentationModel, backend: str = "inductor") -> None:
    """Compile the encoder and the decoder of `model` in place (`torch.compile`).

    Names of weights stay. A copy of the model does not compute with this one's weights.

    Args:
        model: any model.
        backend: torch's name of the compiler, or a compiler.
    """
    modules = dict(model.named_modules())
    for name in _MODULES:
        if name in modules:
            modules[name].compile(backend=backend)
    if "network" in modules:
        for name in _METHODS:
            compiled = torch.compile(getattr(type(model), name), backend=backend)
            setattr(model, name, MethodType(compiled, model))
