"""``unsam convert-checkpoint``: any checkpoint of the family in, ours or the published form out."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import safetensors.torch
from torch import Tensor

from unsam.checkpoint.atomic import atomic_writer
from unsam.checkpoint.checkpointer import save_weights, write_torch_file
from unsam.checkpoint.conversion import to_published
from unsam.checkpoint.hub import WEIGHTS_FILE, new_folder, require_free, save_pretrained
from unsam.checkpoint.layouts import HUB_LAYOUTS, PUBLISHED_LAYOUTS, Layout
from unsam.config import config_text
from unsam.errors import CheckpointError
from unsam.modeling.lora import LoraLinear, merge_lora
from unsam.modeling.pretrained import Pretrained, open_pretrained
from unsam.modeling.transformers_config import transformers_config, transformers_processor

_TORCH_SUFFIXES = (".pth", ".pt", ".bin")


def convert_as_asked(arguments: argparse.Namespace) -> str:
    """Convert, and return what became of each tensor and what was written."""
    target = require_free(arguments.output)
    write = _WRITERS[arguments.to]
    # Before hundreds of megabytes are read for nothing.
    _check_suffix(target, arguments.to)
    loaded = open_pretrained(
        arguments.input,
        config_file=arguments.config_file,
        overrides=arguments.overrides,
        allow_partial=arguments.allow_partial,
    )
    if arguments.merge_lora:
        loaded = _with_merged_updates(loaded)
    count = write(loaded, target)
    return f"{loaded.report.table()}\n{target}: {count} tensors, {arguments.to}"


def _with_merged_updates(loaded: Pretrained) -> Pretrained:
    if not any(isinstance(module, LoraLinear) for module in loaded.model.modules()):
        raise CheckpointError("--merge-lora: the model has no low-rank updates; leave it out")
    merge_lora(loaded.model)
    cfg = loaded.cfg.clone()
    cfg.defrost()
    cfg.MODEL.GRANULARITY.LORA_RANK = 0
    cfg.freeze()
    return replace(loaded, cfg=cfg)


def _check_suffix(target: Path, form: str) -> None:
    if form == "published" and target.suffix not in _TORCH_SUFFIXES:
        raise CheckpointError(
            f"{target}: published checkpoints are torch files; end its name in .pth or .pt"
        )
    if form == "huggingface" and target.suffix in (*_TORCH_SUFFIXES, ".safetensors"):
        raise CheckpointError(f"{target}: --to huggingface writes a folder; name one")
    if form == "native" and target.suffix in _TORCH_SUFFIXES:
        raise CheckpointError(f"{target}: --to native writes a folder or a .safetensors file")


def _write_native(loaded: Pretrained, target: Path) -> int:
    if target.suffix == ".safetensors":
        save_weights(loaded.model, target, config_text(loaded.cfg))
    else:
        save_pretrained(loaded.model, loaded.cfg, target)
    return len(loaded.model.state_dict())


def _write_published(loaded: Pretrained, target: Path) -> int:
    layout, tensors = _expressed(loaded, PUBLISHED_LAYOUTS, "published")
    content = {layout.wrapper: tensors} if layout.wrapper else tensors
    write_torch_file(target, content)
    return len(tensors)


def _write_huggingface(loaded: Pretrained, target: Path) -> int:
    _, tensors = _expressed(loaded, HUB_LAYOUTS, "transformers")
    config = transformers_config(loaded.cfg)
    with new_folder(target) as folder:
        config.save_pretrained(folder)
        transformers_processor(loaded.cfg).save_pretrained(folder)
        with atomic_writer(folder / WEIGHTS_FILE) as stream:
            stream.write(safetensors.torch.save(tensors, {"format": "pt"}))
    return len(tensors)


_WRITERS: dict[str, Callable[[Pretrained, Path], int]] = {
    "native": _write_native,
    "published": _write_published,
    "huggingface": _write_huggingface,
}


def _expressed(
    loaded: Pretrained, families: Mapping[str, tuple[Layout, ...]], whose: str
) -> tuple[Layout, dict[str, Tensor]]:
    """Return the first layout of a family that can hold the model, and the tensors in it."""
    architecture = str(loaded.cfg.MODEL.META_ARCHITECTURE)
    layouts = families.get(architecture, ())
    native = {name: tensor.detach() for name, tensor in loaded.model.state_dict().items()}
    failure = CheckpointError(f"there is no {whose} form of {architecture}; convert to native")
    for layout in layouts:
        try:
            return layout, to_published(native, layout, architecture)
        except CheckpointError as error:
            failure = error
    raise failure
