"""What the DEVICE key means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unsam.errors import ConfigError

if TYPE_CHECKING:
    import torch


def resolve_device(name: str, local_rank: int | None = None) -> torch.device:
    """Return the device that a name stands for.

    Args:
        name: "auto" (CUDA when there is one, else the CPU), "cpu", "cuda" or "cuda:1".
        local_rank: of a launched process: the GPU that it takes, whatever the name's index.

    Raises:
        ConfigError: another name, or a GPU that this machine does not have.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type != "cuda":
            # Names of devices that this machine has not, and "meta", are names all the same.
            torch.zeros(1, device=device).cpu()
            return device
    except (RuntimeError, AssertionError):
        raise ConfigError(
            f"DEVICE: unknown device '{name}' on this machine; use auto, cpu or cuda"
        ) from None
    index = (device.index or 0) if local_rank is None else local_rank
    if index >= torch.cuda.device_count():
        raise ConfigError(
            f"DEVICE {name}: GPU {index} is asked for, this machine has "
            f"{torch.cuda.device_count()}; start fewer processes or set DEVICE cpu"
        )
    return torch.device("cuda", index)
