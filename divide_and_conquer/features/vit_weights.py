"""Weights of the DINO family into timm's ViTs, every key accounted for.

Layouts: the DINO and DINOv2 backbones and DINO's full training checkpoints as Meta released them,
DINOv3's backbones, and timm's own files, ``.pth`` or ``.safetensors``.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from timm.models import eva, vision_transformer
from timm.models.eva import Eva
from torch import Tensor

from divide_and_conquer.features.vit_forward import TimmVit, is_supported
from unsam.checkpoint.download import fetch_weights
from unsam.checkpoint.foreign_weights import read_foreign_weights
from unsam.config.registry import nearest
from unsam.errors import CheckpointError, ConfigError

KEY = "PSEUDO_MASKS.FEATURES.VIT.WEIGHTS"
DINO_URL = "https://dl.fbaipublicfiles.com/dino/dino_vitbase8_pretrain/dino_vitbase8_pretrain.pth"
# Parts of published files that are no part of a backbone: heads and what only training needs.
_FOREIGN = ("head.", "fc.", "fc_norm.", "dino_head.", "ibot_head.", "mask_token", "local_cls_norm.")
# Where training checkpoints keep the backbone; DINO's teacher is the network that is published.
_WRAPPERS = ("teacher", "model", "state_dict")


def load_vit(architecture: str, source: str, sha256: str = "") -> TimmVit:
    """Build a ViT and load its weights.

    Args:
        architecture: timm's name, such as ``vit_base_patch8_224`` or ``vit_base_patch16_dinov3``.
        source: a file, a URL, ``hf://owner/name/file``, or ``timm:TAG`` for timm's own download.
        sha256: expected checksum of the file in hexadecimal, "" for none; timm checks its own.

    Returns:
        The model without classifier, for inputs of any size.

    Raises:
        ConfigError: no source, or an unknown architecture or tag.
        CheckpointError: the weights cannot be got or read, or do not fit the architecture.
    """
    if not source:
        raise ConfigError(
            f"{KEY} is empty: set it to the weights of {architecture}, a file, a URL, "
            f"hf://owner/name/file or timm:TAG, such as {DINO_URL}"
        )
    if architecture not in timm.list_models():
        names = timm.list_models(["*dino*", "vit_*_patch*_224"])
        raise ConfigError(
            f"PSEUDO_MASKS.FEATURES.VIT.ARCHITECTURE: timm has no '{architecture}'; "
            f"{nearest(architecture, names)}"
        )
    if source.startswith("timm:"):
        return _from_timm(architecture, source.removeprefix("timm:"))
    model = _create(architecture)
    try:
        file = fetch_weights(source, sha256)
        load_weights(model, read_foreign_weights(file), name=str(file), architecture=architecture)
    except CheckpointError as error:
        raise CheckpointError(f"{KEY}: {error}") from None
    return model


def load_weights(model: TimmVit, state: dict[str, Any], *, name: str, architecture: str) -> None:
    """Load a published state dict into `model`, all or nothing.

    Args:
        model: from timm.
        state: the contents of the file, in any of the layouts above.
        name: of the file, for the error.
        architecture: for the error.

    Raises:
        CheckpointError: weights are missing, left over or of another shape; the text names them.
    """
    expected = model.state_dict()
    weights = _unwrap(state)
    faults = _altered(weights, expected)
    if not faults:
        weights = _to_timm(weights, model, expected)
        faults = _differences(weights, expected)
    if faults:
        raise CheckpointError(
            f"{name}: does not fit {architecture} ({len(expected)} tensors): {'; '.join(faults)}"
        )
    model.load_state_dict(weights)


def _create(name: str, *, pretrained: bool = False) -> TimmVit:
    """Build a ViT that takes any input size; a model of another kind is a ConfigError."""
    try:
        model = timm.create_model(name, pretrained=pretrained, num_classes=0, dynamic_img_size=True)
    except TypeError:
        model = None
    if model is None or not is_supported(model):
        raise ConfigError(
            f"PSEUDO_MASKS.FEATURES.VIT.ARCHITECTURE: {name} is no ViT of the DINO family; "
            "use vit_*_patch*_224, vit_*_dinov2 or vit_*_dinov3"
        )
    return model


def _from_timm(architecture: str, tag: str) -> TimmVit:
    """Let timm download and load the weights of one of its tags."""
    tags = [
        full.partition(".")[2] for full in timm.list_models(f"{architecture}.*", pretrained=True)
    ]
    if tag not in tags:
        raise ConfigError(f"{KEY}: timm has no '{tag}' for {architecture}; {nearest(tag, tags)}")
    try:
        return _create(f"{architecture}.{tag}", pretrained=True)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"{KEY}: timm:{tag} cannot be downloaded ({_reason(error)}); fetch the weights of "
            f"{architecture} on a machine with a network and set the key to the file"
        ) from None


def _unwrap(state: dict[str, Any]) -> dict[str, Tensor]:
    """Return the backbone's tensors under their own names, heads dropped."""
    for wrapper in _WRAPPERS:
        if isinstance(state.get(wrapper), dict):
            state = state[wrapper]
            break
    state = {key.removeprefix("module."): value for key, value in state.items()}
    state = {key.removeprefix("backbone."): value for key, value in state.items()}
    return {key: value for key, value in state.items() if isinstance(value, Tensor)}


def _altered(weights: dict[str, Tensor], expected: dict[str, Tensor]) -> list[str]:
    """Name the tensors that timm's conversion would silently resample or leave out."""
    faults = []
    registers = "register_tokens" in weights
    for key in ("patch_embed.proj.weight", "pos_embed"):
        if key not in weights or key not in expected:
            continue
        theirs = list(weights[key].shape)
        if key == "pos_embed" and registers and len(theirs) == 3:
            # DINOv2's file has a row for the class token; timm adds it to the token itself.
            theirs[1] -= 1
        if list(expected[key].shape) != theirs:
            faults.append(_other_shape(key, weights[key], expected[key]))
    for key, value in weights.items():
        if _has_no_place(key, expected) and _without_keys(value).any():
            faults.append(f"{key} is not zero, but this architecture has no such bias (try _qkvb)")
            break
    return faults


def _to_timm(
    weights: dict[str, Tensor], model: TimmVit, expected: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Rename to timm's keys by timm's own conversion, and drop what is no backbone's."""
    if isinstance(model, Eva):
        # timm takes files with a mask token for those of another method.
        weights = {
            key: value
            for key, value in weights.items()
            if key != "mask_token" and not _has_no_place(key, expected)
        }
        weights = eva.checkpoint_filter_fn(weights, model)
    else:
        weights = vision_transformer.checkpoint_filter_fn(weights, model)
    return {key: value for key, value in weights.items() if not key.startswith(_FOREIGN)}


def _has_no_place(key: str, expected: dict[str, Tensor]) -> bool:
    """Whether `key` is DINOv3's joint bias, and the architecture one without biases."""
    known = (key, key.replace("qkv.bias", "q_bias"))
    return key.endswith("attn.qkv.bias") and not any(name in expected for name in known)


def _without_keys(bias: Tensor) -> Tensor:
    """Return the query and value thirds of a joint bias; DINOv3 masks the third of the keys."""
    query, _, value = bias.chunk(3)
    return torch.cat([query, value])


def _differences(weights: dict[str, Tensor], expected: dict[str, Tensor]) -> list[str]:
    """Return one clause for each kind of fault: missing, left over, of another shape."""
    missing = [key for key in expected if key not in weights]
    left_over = [key for key in weights if key not in expected]
    shapes = [
        _other_shape(key, weights[key], tensor)
        for key, tensor in expected.items()
        if key in weights and weights[key].shape != tensor.shape
    ]
    kinds = (("missing", missing), ("left over", left_over), ("of another shape", shapes))
    return [
        f"{len(items)} {what} ({', '.join(items[:3])}{', ...' if len(items) > 3 else ''})"
        for what, items in kinds
        if items
    ]


def _other_shape(key: str, found: Tensor, expected: Tensor) -> str:
    return f"{key} is {list(found.shape)}, expected {list(expected.shape)}"


def _reason(error: BaseException) -> str:
    """Return the first line of an error, at most 160 characters."""
    return str(error).strip().partition("\n")[0][:160] or type(error).__name__
