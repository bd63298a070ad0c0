"""Published weight files of the DINO family load whole, or say what does not fit."""

from __future__ import annotations

import argparse
import hashlib

import pytest
import safetensors.torch
import timm
import torch

from divide_and_conquer.features import vit_weights
from divide_and_conquer.features.vit_weights import load_vit, load_weights
from unsam.errors import CheckpointError, ConfigError

DINO = "vit_small_patch16_224"
REGISTERS = "vit_small_patch14_reg4_dinov2"
DINOV3 = "vit_small_patch16_dinov3"


def fresh(architecture):
    return timm.create_model(architecture, num_classes=0, dynamic_img_size=True)


def random_state(architecture, seed=0):
    """Random weights by timm's names."""
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.randn(value.shape, generator=generator)
        for key, value in fresh(architecture).state_dict().items()
    }


def training_checkpoint(weights):
    """DINO's full checkpoint: two networks with heads, optimiser and command line."""
    heads = {"head.mlp.0.weight": torch.ones(4, 4), "head.last_layer.weight_g": torch.ones(4)}
    teacher = {f"backbone.{key}": value for key, value in weights.items()} | heads
    student = {f"module.{key}": torch.zeros_like(value) for key, value in teacher.items()}
    return {
        "student": student,
        "teacher": teacher,
        "optimizer": {"state": {}, "param_groups": []},
        "epoch": 3,
        "args": argparse.Namespace(arch="vit_small", patch_size=16),
    }


def parallel_checkpoint(weights):
    named = {f"module.backbone.{key}": value for key, value in weights.items()}
    return {"teacher": named}


def dinov2_file(weights):
    """Meta's layout of DINOv2 with registers: one position more, another name, a mask token."""
    weights = dict(weights)
    positions = weights.pop("pos_embed")
    first = torch.full_like(positions[:, :1], 0.5)
    weights["pos_embed"] = torch.cat([first, positions], dim=1)
    weights["cls_token"] = weights["cls_token"] - 0.5
    weights["register_tokens"] = weights.pop("reg_token")
    weights["mask_token"] = torch.zeros(1, 384)
    return weights


def dinov3_file(weights):
    """Meta's layout of DINOv3: joint biases with a mask, storage tokens, rotary periods."""
    result = {"mask_token": torch.zeros(1, 384), "rope_embed.periods": torch.ones(16)}
    for key, value in weights.items():
        name = key.replace("reg_token", "storage_tokens")
        name = name.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma")
        if key.endswith("q_bias"):
            joint = torch.cat([value, torch.full_like(value, 7.0), weights[key[:-6] + "v_bias"]])
            result[key[:-6] + "qkv.bias"] = joint
        elif not key.endswith("v_bias"):
            result[name] = value
        if key.endswith("attn.qkv.weight"):
            result[key[:-10] + "qkv.bias_mask"] = torch.ones(3 * 384)
            result.setdefault(key[:-10] + "qkv.bias", torch.zeros(3 * 384))
    return result


LAYOUTS = {
    "dino": (DINO, dict),
    "dino_training": (DINO, training_checkpoint),
    "dino_parallel": (DINO, parallel_checkpoint),
    "timm_with_classifier": (
        DINO,
        lambda weights: weights | {"head.weight": torch.ones(9, 384), "head.bias": torch.ones(9)},
    ),
    "dinov2": (
        "vit_small_patch14_dinov2",
        lambda weights: weights | {"mask_token": torch.ones(1, 384)},
    ),
    "dinov2_registers": (REGISTERS, dinov2_file),
    "dinov3": (f"{DINOV3}_qkvb", dinov3_file),
    "dinov3_without_bias": (DINOV3, dinov3_file),
    "dinov3_timm": (f"{DINOV3}_qkvb", dict),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, tmp_path):
    architecture, wrap = LAYOUTS[layout]
    weights = random_state(architecture)
    torch.save(wrap(weights), tmp_path / "weights.pth")
    loaded = load_vit(architecture, str(tmp_path / "weights.pth")).state_dict()
    assert loaded.keys() == weights.keys()
    for key, value in weights.items():
        assert torch.allclose(loaded[key], value, atol=1e-6), key


def test_safetensors_and_checksum(tmp_path):
    weights = random_state(DINO)
    file = tmp_path / "model.safetensors"
    safetensors.torch.save_file(weights, file)
    checksum = hashlib.sha256(file.read_bytes()).hexdigest()
    loaded = load_vit(DINO, file.as_uri(), checksum).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in weights.items())
    with pytest.raises(CheckpointError, match="SHA-256"):
        load_vit(DINO, str(file), "0" * 64)


def refusal(architecture, state):
    """The error of a state dict that does not fit; the model stays as it was."""
    model = fresh(architecture)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_weights(model, state, name="file.pth", architecture=architecture)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    text = str(caught.value)
    assert "\n" not in text
    assert architecture in text
    return text


def test_missing_left_over_and_misshapen_weights_are_named():
    weights = random_state(DINO)
    lacking = {key: value for key, value in weights.items() if key != "norm.weight"}
    assert "1 missing (norm.weight)" in refusal(DINO, lacking)
    assert "1 left over (spare.weight)" in refusal(DINO, weights | {"spare.weight": torch.ones(1)})
    cut = weights | {"norm.bias": torch.zeros(3)}
    assert "norm.bias is [3], expected [384]" in refusal(DINO, cut)


def test_weights_of_another_patch_size_are_not_resampled():
    """timm would interpolate the patch projection without a word."""
    text = refusal("vit_small_patch8_224", random_state(DINO))
    assert "patch_embed.proj.weight is [384, 3, 16, 16], expected [384, 3, 8, 8]" in text
    assert "pos_embed is [1, 197, 384], expected [1, 785, 384]" in text


def test_biases_are_not_lost():
    text = refusal(DINOV3, dinov3_file(random_state(f"{DINOV3}_qkvb")))
    assert "blocks.0.attn.qkv.bias is not zero" in text
    assert "_qkvb" in text


def test_unknown_names_get_a_suggestion():
    with pytest.raises(ConfigError, match=r"ARCHITECTURE.*did you mean 'vit_base_patch8_224'"):
        load_vit("vit_base_patch8_225", "weights.pth")
    with pytest.raises(ConfigError, match="no ViT of the DINO family"):
        load_vit("resnet18", "weights.pth")
    with pytest.raises(ConfigError, match="did you mean 'dino'"):
        load_vit(DINO, "timm:dinno")


def test_no_weights_says_how_to_set_them():
    with pytest.raises(ConfigError) as caught:
        load_vit("vit_base_patch8_224", "")
    assert "PSEUDO_MASKS.FEATURES.VIT.WEIGHTS" in str(caught.value)
    assert vit_weights.DINO_URL in str(caught.value)


def test_timm_without_network_is_one_line(monkeypatch):
    def unreachable(*_, pretrained, **__):
        assert pretrained
        raise ConnectionError("no route to host\nsecond line")

    monkeypatch.setattr(vit_weights.timm, "create_model", unreachable)
    with pytest.raises(CheckpointError, match="no route to host") as caught:
        load_vit(DINO, "timm:dino")
    assert "\n" not in str(caught.value)
    assert "PSEUDO_MASKS.FEATURES.VIT.WEIGHTS" in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"absent\.pth"):
        load_vit(DINO, str(tmp_path / "absent.pth"))
