"""Weights files of other projects: read on the CPU, and nothing in them is executed."""

from __future__ import annotations

import argparse
import os
import pickle
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from torch import Tensor

from unsam.checkpoint.array_pickle import read_array_pickle
from unsam.checkpoint.checkpointer import FORMAT_VERSION
from unsam.checkpoint.file_kind import FileKind, file_kind
from unsam.errors import CheckpointError, first_line

# Where training checkpoints keep the tensors; DINO's teacher is the network that is published.
_WRAPPERS = ("model", "state_dict", "teacher")


@dataclass(frozen=True)
class WeightsFile:
    """The tensors of a file, ours or another project's.

    Attributes:
        tensors: by name, on the CPU, without the wrapper of the file.
        config: the merged config as YAML if this program wrote the file, else "".
    """

    tensors: dict[str, Tensor]
    config: str = ""


def read_weights_file(path: str | os.PathLike[str]) -> WeightsFile:
    """Return the tensors of a ``.pth``, ``.pt``, ``.pkl`` or ``.safetensors`` file.

    What a file is decides its content, not its name. ``{"model": ...}``, ``{"state_dict": ...}``
    and ``{"teacher": ...}`` are opened, a ``module.`` before every name goes, and arrays become
    tensors.

    Raises:
        CheckpointError: see `read_foreign_weights`; also a file without tensors.
    """
    file, content = Path(path), read_foreign_weights(path)
    is_safe = file_kind(file) is FileKind.SAFETENSORS
    about = _safetensors_metadata(file) if is_safe else content
    version = str(about.get("format_version", FORMAT_VERSION))
    if version != str(FORMAT_VERSION):
        raise CheckpointError(
            f"{file}: checkpoint format {version}, this program reads {FORMAT_VERSION}; "
            "use the program's version that wrote it"
        )
    config = about.get("config", "") if "format_version" in about else ""
    for wrapper in _WRAPPERS:
        if isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    tensors = {}
    for name, value in content.items():
        if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biuf":
            value = torch.as_tensor(np.array(value, value.dtype.newbyteorder("=")))
        if not isinstance(value, Tensor):
            raise CheckpointError(
                f"{file}: no weights: {name} is a {type(value).__name__}, expected a tensor"
            )
        if not _is_plain(value):
            raise CheckpointError(
                f"{file}: no weights: {name} is a tensor of {value.dtype}, {value.layout}, on "
                f"{value.device}, expected real numbers in memory; save it dense, on the CPU"
            )
        tensors[str(name)] = value
    if not tensors:
        raise CheckpointError(f"{file}: no weights in it, expected a dict of tensors by name")
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return WeightsFile(tensors, config if isinstance(config, str) else "")


def read_foreign_weights(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what a ``.pth``, ``.pkl`` or ``.safetensors`` file holds, as it is.

    Beside tensors and plain values, numpy arrays of numbers (detectron2) and the command line that
    DINO's training checkpoints carry are let through.

    Raises:
        CheckpointError: missing, damaged, not a weights file, no dict, or a pickle that could run
            code; the text says which.
    """
    file = Path(path)
    readers = {
        FileKind.SAFETENSORS: _read_safetensors,
        FileKind.TORCH: _read_torch,
        FileKind.PICKLE: read_array_pickle,
    }
    content = readers[file_kind(file)](file)
    if not isinstance(content, dict) or not content:
        raise CheckpointError(
            f"{file}: no weights in it, expected a dict of tensors by name and found "
            f"{'an empty dict' if content == {} else f'a {type(content).__name__}'}"
        )
    return content


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        with safetensors.safe_open(file, framework="pt") as archive:
            # Its keys() is a method of the format's reader, which is not iterable itself.
            return {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{file}: truncated or not a safetensors file ({first_line(error)})"
        ) from None


def _safetensors_metadata(file: Path) -> dict[str, str]:
    with safetensors.safe_open(file, framework="pt") as archive:
        return archive.metadata() or {}


def _read_torch(file: Path) -> Any:
    _check_sums(file)
    try:
        allowed = [argparse.Namespace, *_numpy_globals()]
        # A stream, for torch reads a path by its ending.
        with torch.serialization.safe_globals(allowed), file.open("rb") as stream:
            return torch.load(stream, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"holds {named[1]}" if named else f"not readable as plain values ({error})"
        raise CheckpointError(
            f"{file}: refused: {' '.join(what.split())[:200]}, which could run code; weights are "
            "tensors, arrays and plain values"
        ) from None
    # A pickle of garbage can raise any of these.
    except (RuntimeError, OSError, EOFError, LookupError, ValueError, TypeError) as error:
        raise CheckpointError(f"{file}: damaged ({first_line(error)}); get it again") from None


def _check_sums(file: Path) -> None:
    """Raise if a part of an archive has other bytes than were written, which torch ignores."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            try:
                damaged = archive.testzip()
            except (zipfile.BadZipFile, EOFError, OSError) as error:
                damaged = first_line(error)
        if damaged is not None:
            raise CheckpointError(f"{file}: damaged (wrong checksum: {damaged}); get it again")


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor holds a real number for each of its places."""
    return tensor.layout is torch.strided and not tensor.is_meta and not tensor.is_complex()


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
