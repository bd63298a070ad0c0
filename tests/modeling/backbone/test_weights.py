"""Published files of backbones, fabricated: our tensors under the names of others."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor

from tests.modeling.backbone.conftest import BACKBONES, random_backbone
from unsam.checkpoint.layouts.resnet_names import detectron2_resnet_name
from unsam.checkpoint.layouts.swin_names import published_swin_name
from unsam.errors import CheckpointError
from unsam.modeling.backbone import Backbone, ResNet50, load_backbone_weights

Tensors = dict[str, Tensor]


def torchvision_file(weights: Tensors) -> Tensors:
    norms = {name.rpartition(".")[0] for name in weights if name.endswith("running_var")}
    counted = {f"{norm}.num_batches_tracked": torch.tensor(7) for norm in norms}
    return {**weights, **counted, "fc.weight": torch.ones(10, 2048), "fc.bias": torch.ones(10)}


def dino_training_file(weights: Tensors) -> dict[str, Any]:
    teacher = {f"module.backbone.{name}": tensor for name, tensor in weights.items()}
    teacher["module.head.mlp.0.weight"] = torch.ones(2, 2)
    return {"student": {}, "teacher": teacher, "epoch": 100}


def detectron2_file(weights: Tensors) -> dict[str, Any]:
    arrays = {detectron2_resnet_name(name): tensor.numpy() for name, tensor in weights.items()}
    arrays["stem.fc.weight"] = np.ones((10, 2048), np.float32)
    return {"model": arrays, "__author__": "DINO", "matching_heuristics": True}


def swin_file(weights: Tensors) -> dict[str, Any]:
    tensors = {
        published_swin_name(name): tensor
        for name, tensor in weights.items()
        if not name.startswith("norms.")
    }
    tensors["norm.weight"] = tensors["head.bias"] = torch.ones(3)
    tensors["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    tensors["layers.0.blocks.1.attn.relative_position_index"] = torch.zeros(49, 49).long()
    return {"model": tensors}


def moby_file(weights: Tensors) -> dict[str, Any]:
    online = swin_file(weights)["model"]
    tensors = {f"encoder.{name}": tensor for name, tensor in online.items()}
    # The running mean of the network: its tensors are others.
    tensors |= {f"encoder_k.{name}": tensor + 1 for name, tensor in online.items()}
    return {"model": {**tensors, "projector.linear1.weight": torch.ones(2, 2)}, "epoch": 299}


def detection_swin_file(weights: Tensors) -> dict[str, Any]:
    return {
        "state_dict": {
            f"model.backbone.{published_swin_name(name)}": tensor
            for name, tensor in weights.items()
        }
    }


def sam_file(weights: Tensors) -> Tensors:
    tensors = {
        name.replace("encoder.", "image_encoder."): tensor
        for name, tensor in weights.items()
        if name.startswith("encoder.")
    }
    tensors["image_encoder.neck.0.weight"] = torch.ones(2, 2)
    return {**tensors, "mask_decoder.iou_token.weight": torch.ones(1, 2)}


FILES: dict[str, tuple[str, Callable[[Tensors], dict[str, Any]]]] = {
    "resnet50.pth": ("ResNet50", torchvision_file),
    "dino_resnet50_full_checkpoint.pth": ("ResNet50", dino_training_file),
    "dino_RN50_pretrain_d2_format.pkl": ("ResNet50", detectron2_file),
    "swin_tiny_patch4_window7_224.pth": ("SwinTransformer", swin_file),
    "moby_swin_t_300ep_pretrained.pth": ("SwinTransformer", moby_file),
    "promptable.pth": ("SwinTransformer", detection_swin_file),
    "sam_vit_b_01ec64.pth": ("SamVit", sam_file),
}


def save(content: Any, path: Path) -> Path:
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    return path


@pytest.mark.parametrize("name", list(FILES))
def test_every_published_kind_of_file_loads(name: str, tmp_path: Path, small_sizes: None) -> None:
    kind, publish = FILES[name]
    source, backbone = random_backbone(BACKBONES[kind]), random_backbone(BACKBONES[kind])
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    given = source.state_dict()
    load_backbone_weights(backbone, save(publish(given), tmp_path / name))
    for key, value in backbone.state_dict().items():
        is_own = key.startswith(("norms.", "pyramid.")) and name != "promptable.pth"
        assert torch.equal(value, before[key] if is_own else given[key]), key


def test_torchvisions_own_state_dict_loads(tmp_path: Path) -> None:
    theirs, backbone = torchvision.models.resnet50(), ResNet50()
    load_backbone_weights(backbone, save(theirs.state_dict(), tmp_path / "resnet50.pth"))
    assert torch.equal(backbone.layer4[2].conv3.weight, theirs.layer4[2].conv3.weight)


@pytest.fixture
def swin(small_sizes: None) -> Backbone:
    torch.manual_seed(0)
    return random_backbone(BACKBONES["SwinTransformer"])


def lose_a_tensor(tensors: Tensors) -> None:
    del tensors["layers.0.blocks.0.attn.qkv.weight"]


def add_a_tensor(tensors: Tensors) -> None:
    tensors["layers.0.blocks.7.norm1.weight"] = torch.ones(16)


def reshape_a_tensor(tensors: Tensors) -> None:
    tensors["patch_embed.norm.weight"] = torch.ones(32)


def break_a_tensor(tensors: Tensors) -> None:
    tensors["patch_embed.norm.weight"] = torch.full((16,), torch.nan)


def lose_a_stage_norm(tensors: Tensors) -> None:
    tensors["norm0.weight"] = torch.ones(16)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lose_a_tensor, r"1 missing \(layers.0.blocks.0.attn.qkv.weight\)"),
        (add_a_tensor, r"1 left over \(layers.0.blocks.7.norm1.weight\)"),
        (
            reshape_a_tensor,
            r"1 of another shape \(patch_embed.norm.weight \[32\], expected \[16",
        ),
        (break_a_tensor, r"1 with NaN or infinity \(patch_embed.norm.weight\)"),
        (lose_a_stage_norm, r"7 missing \(norm0.bias, "),
    ],
)
def test_a_file_that_does_not_fit_changes_nothing(
    swin: Backbone, damage: Callable[[Tensors], None], message: str, tmp_path: Path
) -> None:
    before = {key: value.clone() for key, value in swin.state_dict().items()}
    content = swin_file({key: value + 1 for key, value in before.items()})
    damage(content["model"])
    with pytest.raises(CheckpointError, match=message) as raised:
        load_backbone_weights(swin, save(content, tmp_path / "swin.pth"))
    assert "\n" not in str(raised.value)
    assert all(torch.equal(before[key], value) for key, value in swin.state_dict().items())


def test_another_backbones_file_is_refused_in_one_line(swin: Backbone, tmp_path: Path) -> None:
    path = save(torchvision_file(dict(ResNet50().state_dict())), tmp_path / "resnet50.pth")
    with pytest.raises(CheckpointError, match="not the weights of this SwinTransformer") as raised:
        load_backbone_weights(swin, path)
    assert "check MODEL.BACKBONE.NAME" in str(raised.value)
    assert "\n" not in str(raised.value)
