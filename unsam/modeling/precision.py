"""Which arithmetic autocast uses, and what must not be left in half precision."""

from __future__ import annotations

import torch
from torch import Tensor

from unsam.errors import ConfigError


def autocast_dtype(
    name: str, device: torch.device, key: str = "INFERENCE.PRECISION"
) -> torch.dtype | None:
    """Return the type for autocast, None for plain float32.

    Args:
        name: ``"float32"``, ``"bfloat16"``, ``"float16"``, or ``"auto"``: bfloat16 where the device
            computes in it (a GPU that supports it, a processor with AVX-512 BF16 or AMX), where it
            is about twice as fast; float32 elsewhere, where bfloat16 would be emulated slowly.
        device: where the model runs.
        key: the key of the config that `name` is from, for the error.

    Raises:
        ConfigError: another name.
    """
    known = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name == "auto":
        return torch.bfloat16 if _computes_in_bfloat16(device) else None
    if name not in known:
        raise ConfigError(f"{key}: unknown '{name}'; known: auto, bfloat16, float16, float32")
    return known[name]


def at_least_float32(x: Tensor) -> Tensor:
    """Return `x` in float32 if it is in half precision, and as it is otherwise."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _computes_in_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Queries of torch without a public name yet; without them float32 is the safe answer.
    queries = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, query, bool)() for query in queries)
