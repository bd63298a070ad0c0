"""Weights files of other projects: read on the CPU, and nothing in them is executed."""

from __future__ import annotations

import argparse
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from unsam.errors import CheckpointError


def read_foreign_weights(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what a ``.pth`` or ``.safetensors`` file holds, as it is.

    Beside tensors and plain values, numpy arrays of numbers (detectron2) and the command line that
    DINO's training checkpoints carry are let through.

    Raises:
        CheckpointError: missing, damaged, no dict, or a pickle that could run code.
    """
    file = Path(path)
    if not file.is_file():
        raise CheckpointError(f"{file}: no such weights file")
    content = _read_safetensors(file) if file.suffix == ".safetensors" else _read_torch(file)
    if not isinstance(content, dict) or not content:
        raise CheckpointError(
            f"{file}: no weights in it, expected a dict of tensors by name and found a "
            f"{type(content).__name__}"
        )
    return content


def _read_safetensors(file: Path) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load_file(file)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{file}: truncated or not a safetensors file ({_first_line(error)})"
        ) from None


def _read_torch(file: Path) -> Any:
    try:
        with torch.serialization.safe_globals([argparse.Namespace, *_numpy_globals()]):
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{file}: refused: not a torch file, or one that holds more than tensors and plain "
            f"values, which could run code ({_first_line(error)})"
        ) from None
    # A pickle of garbage can raise any of these.
    except (RuntimeError, OSError, EOFError, LookupError, ValueError, TypeError) as error:
        raise CheckpointError(f"{file}: damaged ({_first_line(error)}); get it again") from None


def _numpy_globals() -> list[Any]:
    """Return what a pickled numpy array of numbers needs, by its names in old and new numpy."""
    array = np.zeros(1)
    functions = {"_reconstruct": array.__reduce__()[0], "scalar": array[0].__reduce__()[0]}
    names = [
        (function, f"numpy.{core}.multiarray.{name}")
        for name, function in functions.items()
        for core in ("core", "_core")
    ]
    numbers = ("float16", "float32", "float64", "int32", "int64")
    return [*names, np.ndarray, np.dtype, *(type(np.dtype(name)) for name in numbers)]


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:160] if lines else type(error).__name__
