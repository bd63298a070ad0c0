"""Checkpoints: whole or not there, found again after any crash, and safe to open.

A checkpoint is one file that holds tensors and plain values only::

    format_version  int
    model           state dict, without wrapper prefixes
    average         state dict of the moving average, {} where none is kept
    objectives      state dict of what objectives learn beside the model
    optimizer       state dict
    scheduler       {"iteration": int, "seconds": float}: where the schedule stands
    scaler          state of the loss scaling, {} without float16
    sampler         {"position": int}: samples of the run that were seen, over all ranks
    rng             list of one dict of generator states per rank
    iteration       int, finished optimizer steps
    config          the merged config as YAML text

It is opened with ``weights_only=True``, so a file from the net cannot run code. Weights alone are
kept as safetensors; `unsam.checkpoint.foreign_weights` reads those of either kind.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from unsam.checkpoint.atomic import atomic_writer
from unsam.errors import CheckpointError, counted, first_line

FORMAT_VERSION = 1
_KEYS = (
    "model",
    "optimizer",
    "scheduler",
    "scaler",
    "sampler",
    "rng",
    "iteration",
    "config",
)
_NAME = re.compile(r"^iter_(\d{8})\.pt$")

logger = logging.getLogger(__name__)


def save_checkpoint(path: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Write a checkpoint atomically: on any failure, and after a kill, what was there stays.

    Args:
        path: the file.
        state: the entries of the module's table, without ``format_version``.

    Raises:
        StorageError: the disk is full or the folder not writable.
    """
    missing = [key for key in _KEYS if key not in state]
    assert not missing, missing
    write_torch_file(path, {"format_version": FORMAT_VERSION, **state})


def write_torch_file(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """Write what `torch.save` takes, whole or not at all.

    Raises:
        StorageError: the disk is full or the folder not writable.
    """
    # Into memory first: an error of the disk then comes from our own write, as what it is, and
    # not from the middle of torch's zip writer.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_writer(path) as stream:
        stream.write(buffer.getbuffer())


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read and check a whole checkpoint, tensors on the CPU.

    Raises:
        CheckpointError: no such file, truncated or damaged, not a checkpoint, holding objects
            that could run code, or of a newer format.
    """
    file = Path(path)
    _check_archive(file)
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{file}: refused, for it holds more than tensors and plain values, which could run "
            f"code ({first_line(error)})"
        ) from None
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{file}: damaged checkpoint ({first_line(error)}); use an older one"
        ) from None
    if not isinstance(state, dict) or "format_version" not in state:
        raise CheckpointError(
            f"{file}: a torch file, but not a checkpoint of this program (no format_version)"
        )
    version = state["format_version"]
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{file}: checkpoint format {version}, this program reads {FORMAT_VERSION}; "
            "use the program's version that wrote it"
        )
    missing = [key for key in _KEYS if key not in state]
    if missing:
        raise CheckpointError(f"{file}: incomplete checkpoint, without {', '.join(missing)}")
    return state


def fit_model_weights(
    model: nn.Module, weights: dict[str, torch.Tensor], *, name: str, architecture: str
) -> None:
    """Load `weights` into `model`, all or nothing.

    Args:
        model: the model, not wrapped.
        weights: tensors by name.
        name: where the weights come from, for the error.
        architecture: what the weights were made for, for the error.

    Raises:
        CheckpointError: the weights do not fit: the text counts and names the missing, left-over
            and differently shaped ones. The model is then unchanged.
    """
    own = model.state_dict()
    missing = [key for key in own if key not in weights]
    left_over = [key for key in weights if key not in own]
    shapes = [
        f"{key} {list(weights[key].shape)} in the file, {list(own[key].shape)} in the model"
        for key in own
        if key in weights and own[key].shape != weights[key].shape
    ]
    if missing or left_over or shapes:
        raise CheckpointError(
            f"{name}: weights of {architecture} do not fit this {type(model).__name__}: "
            f"{counted(missing, 'missing')}, {counted(left_over, 'left over')}, "
            f"{counted(shapes, 'of another shape')}; use the config that the weights came with"
        )
    model.load_state_dict(weights, strict=True)


def save_weights(model: nn.Module, path: str | os.PathLike[str], config_text: str) -> None:
    """Write the weights alone as safetensors, atomically, with the config in the metadata.

    Tensors that share memory are written each in full; loading ties them again by itself.

    Args:
        model: the model, not wrapped.
        path: a file ending in ``.safetensors``.
        config_text: the merged config as YAML.

    Raises:
        StorageError: the disk is full or the folder not writable.
    """
    tensors = {
        name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in model.state_dict().items()
    }
    metadata = {"format": "pt", "config": config_text, "format_version": str(FORMAT_VERSION)}
    with atomic_writer(path) as stream:
        stream.write(safetensors.torch.save(tensors, metadata))


class Checkpointer:
    """The checkpoints of one run: ``iter_00000500.pt`` and so on, in one folder.

    Args:
        folder: where they lie.
        keep: newest ones to keep, 0 for all.
    """

    def __init__(self, folder: str | os.PathLike[str], keep: int = 3) -> None:
        self.folder = Path(folder)
        self._keep = keep

    def paths(self) -> list[Path]:
        """Return the files of all checkpoints, oldest first, without opening them."""
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if _NAME.match(path.name))

    def save(self, state: dict[str, Any]) -> Path:
        """Save the checkpoint of ``state["iteration"]``, then drop those beyond `keep`.

        Raises:
            StorageError: it could not be written; all earlier ones are intact.
        """
        path = self.folder / f"iter_{state['iteration']:08d}.pt"
        self._remove_leftovers()
        save_checkpoint(path, state)
        if self._keep:
            others = [other for other in self.paths() if other != path]
            for old in others[: max(0, len(others) - self._keep + 1)]:
                try:
                    old.unlink()
                except OSError as error:
                    logger.warning("cannot remove old checkpoint %s: %s", old, error.strerror)
        return path

    def load_newest(self) -> tuple[Path, dict[str, Any]] | None:
        """Return the newest checkpoint that can be read, None if the folder has none at all.

        An unreadable newer one is named in a warning and put aside as ``….pt.damaged``.

        Raises:
            CheckpointError: there are checkpoints, but none can be read.
        """
        paths = self.paths()
        for path in reversed(paths):
            try:
                return path, load_checkpoint(path)
            except CheckpointError as error:
                logger.warning("skipped: %s", error)
                with contextlib.suppress(OSError):
                    path.rename(path.with_name(f"{path.name}.damaged"))
        if paths:
            raise CheckpointError(
                f"{self.folder}: none of {len(paths)} checkpoints can be read; start anew "
                "with another OUTPUT_DIR"
            )
        return None

    def _remove_leftovers(self) -> None:
        """Remove what saves that were killed left behind."""
        for path in self.folder.glob(".iter_*.pt.*.tmp"):
            with contextlib.suppress(OSError):
                path.unlink()


def _check_archive(file: Path) -> None:
    """Tell the ordinary ways for a file to be unusable apart, before anything is unpickled."""
    if not file.is_file():
        raise CheckpointError(f"{file}: no such checkpoint")
    try:
        with file.open("rb") as stream:
            start = stream.read(4)
        if start and start != b"PK\x03\x04":
            raise CheckpointError(f"{file}: not a checkpoint of this program")
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError) as error:
        raise CheckpointError(
            f"{file}: truncated checkpoint ({file.stat().st_size} bytes; {first_line(error)}); "
            "use an older one"
        ) from None
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror or error}") from None
    if damaged is not None:
        raise CheckpointError(
            f"{file}: damaged checkpoint (wrong checksum in {damaged}); use an older one"
        )
