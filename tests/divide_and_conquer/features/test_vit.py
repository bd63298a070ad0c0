"""ViT patch features: parity with DINO's published code, any size, and no trace left behind."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer

from divide_and_conquer.features.build import build_features
from divide_and_conquer.features.patch_grid import input_size, resize_positions, to_pixels
from divide_and_conquer.features.vit import VitFeatures
from divide_and_conquer.features.vit_forward import apply_block, embed, patch_features
from divide_and_conquer.features.vit_weights import load_weights
from tests.golden_weights import recipe_state_dict
from unsam.config import get_cfg
from unsam.errors import ConfigError, DataError
from unsam.structures import read_photo

DINOS = [
    "vit_small_patch16_224",
    "vit_small_patch14_dinov2",
    "vit_small_patch14_reg4_dinov2",
    "vit_small_patch16_dinov3",
    "vit_small_patch16_dinov3_qkvb",
]


def small_vit(**options):
    """A ViT of two blocks, with random weights that are no longer tiny."""
    torch.manual_seed(0)
    options = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "num_heads": 3} | options
    model = VisionTransformer(depth=2, num_classes=0, dynamic_img_size=True, **options)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def photos(*sizes):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]


def architecture_of(weights):
    """timm's name of the DINO ViT that a published state dict is of."""
    width, _, patch, _ = weights["patch_embed.proj.weight"].shape
    return f"vit_{ {192: 'tiny', 384: 'small', 768: 'base'}[width] }_patch{patch}_224"


def grids_of(outputs):
    """The cases of a pack: name, rows of patches, columns of patches."""
    suffix = "_k_norms"
    for name in outputs.files:
        if name.endswith(suffix):
            yield name.removesuffix(suffix), *outputs[name].shape


@pytest.mark.parametrize("pack", ["dino"])
def test_golden(pack, golden_root):
    folder = golden_root / pack
    outputs = np.load(folder / "outputs.npz")
    weights = recipe_state_dict(folder)
    architecture = architecture_of(weights)
    model = timm.create_model(architecture, num_classes=0, dynamic_img_size=True).eval()
    load_weights(model, dict(weights), name=pack, architecture=architecture)
    crop = read_photo(next(folder.glob("*.png")))
    patch = model.patch_embed.patch_size[0]
    for case, rows, columns in grids_of(outputs):
        height, width = rows * patch, columns * patch
        top, left = (crop.shape[0] - height) // 2, (crop.shape[1] - width) // 2
        part = crop[top : top + height, left : left + width]
        check_stages(model, to_pixels(part, (height, width)), case, outputs)
        extractor = VitFeatures(model, output="keys", side=max(height, width), shape="longest")
        check_keys(extractor(part), case, outputs)


def check_stages(model, pixels, case, outputs):
    with torch.inference_mode():
        tokens, rope, _ = embed(model, pixels[None])
        close(tokens[0, ::7, ::16], outputs[f"{case}_tokens_sub"])
        for index, block in enumerate(model.blocks):
            tokens = apply_block(block, tokens, rope)
            if f"{case}_block{index}_sub" in outputs.files:
                close(tokens[0, ::7, ::16], outputs[f"{case}_block{index}_sub"])


def check_keys(keys, case, outputs):
    close(keys[::2, ::2, ::8].transpose(2, 0, 1), outputs[f"{case}_k_sub"])
    norms = np.linalg.norm(keys, axis=2)
    close(norms, outputs[f"{case}_k_norms"])
    cosine = (keys[:, 1:] * keys[:, :-1]).sum(axis=2) / (norms[:, 1:] * norms[:, :-1])
    assert np.abs(cosine - outputs[f"{case}_cos_right"]).max() < 1e-4
    stats = [keys.mean(dtype=np.float64), keys.std(dtype=np.float64, ddof=1), np.abs(keys).max()]
    close(np.array(stats), outputs[f"{case}_k_stats"])


def close(ours, expected):
    assert tuple(ours.shape) == expected.shape
    assert np.abs(np.asarray(ours) - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("architecture", DINOS)
def test_tokens_are_those_of_timm(architecture):
    torch.manual_seed(0)
    size = 112 if "patch14" in architecture else 96
    model = timm.create_model(
        architecture, num_classes=0, dynamic_img_size=True, img_size=size
    ).eval()
    pixels = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        ours = patch_features(model, pixels, "tokens")
        theirs = model.forward_features(pixels)[:, model.num_prefix_tokens :]
    assert torch.allclose(ours.flatten(1, 2), theirs, atol=1e-5)


@pytest.mark.parametrize("architecture", DINOS)
def test_keys_are_what_the_last_attention_takes(architecture):
    torch.manual_seed(0)
    model = timm.create_model(architecture, num_classes=0, dynamic_img_size=True).eval()
    patch = model.patch_embed.patch_size[0]
    pixels = torch.randn(1, 3, 3 * patch, 5 * patch)
    taken = {}
    attention = model.blocks[-1].attn
    hook = attention.register_forward_hook(lambda module, given, _: taken.update(x=given[0]))
    with torch.inference_mode():
        patch_features(model, pixels, "tokens")
        hook.remove()
        ours = patch_features(model, pixels, "keys")
        width = ours.shape[-1]
        joint = torch.nn.functional.linear(taken["x"], attention.qkv.weight, attention.qkv.bias)
    expected = joint[:, model.num_prefix_tokens :, width : 2 * width]
    assert ours.shape == (1, 3, 5, width)
    assert torch.allclose(ours.flatten(1, 2), expected, atol=1e-5)


def test_no_hook_and_no_graph_is_left():
    model = small_vit()
    extractor = VitFeatures(model.train(), output="keys", side=32)
    for _ in range(3):
        features = extractor(photos((20, 30))[0])
    assert isinstance(features, np.ndarray)
    assert features.dtype == np.float32
    for module in model.modules():
        assert not module.training
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("shape", ["square", "longest"])
def test_results_do_not_depend_on_the_batch(shape):
    crops = photos((20, 30), (64, 40), (40, 60), (9, 50), (20, 30), (33, 33), (60, 40))
    model = small_vit()
    alone = VitFeatures(model, output="tokens", side=48, shape=shape, batch_size=1)
    together = VitFeatures(model, output="tokens", side=48, shape=shape, batch_size=4)
    one_by_one = [alone(crop) for crop in crops]
    for ours, expected in zip(together.batch(crops), one_by_one):
        assert ours.shape == expected.shape
        assert np.abs(ours - expected).max() < 1e-5 * np.abs(expected).max()
    assert together.batch([]) == []


def test_crops_become_whole_patches():
    assert input_size(10, 99, side=256, shape="square", patch=8) == (256, 256)
    assert input_size(10, 99, side=256, shape="square", patch=14) == (266, 266)
    # UnSAMv2: longer side 768, the other in proportion, both rounded up.
    assert input_size(481, 321, side=768, shape="longest", patch=16) == (768, 528)
    assert input_size(1, 5000, side=768, shape="longest", patch=16) == (16, 768)
    with pytest.raises(ValueError, match="0x5"):
        input_size(0, 5, side=256, shape="square", patch=8)


@pytest.mark.parametrize("ratio", [False, True])
@pytest.mark.parametrize("grid", [(3, 9), (14, 6), (40, 40)])
def test_resized_positions_follow_the_grid(grid, ratio):
    """A ramp along the columns stays one: the same in all rows, rising along each."""
    ramp = torch.linspace(-1, 1, 8).expand(1, 8, 8).reshape(1, 64, 1)
    resized = resize_positions(ramp, (8, 8), grid, ratio=ratio).reshape(grid)
    assert torch.allclose(resized, resized[:1].expand(grid), atol=1e-5)
    assert (resized.diff(dim=1) > 0).all()
    assert torch.equal(resize_positions(ramp, (8, 8), (8, 8), ratio=ratio), ramp)


def test_grid_follows_the_shape_of_the_crop():
    extractor = VitFeatures(small_vit(), output="tokens", side=64, shape="longest")
    assert extractor(photos((100, 50))[0]).shape == (8, 4, 24)
    assert extractor.with_input(40, "square")(photos((100, 50))[0]).shape == (5, 5, 24)


def test_other_input_shares_the_weights():
    extractor = VitFeatures(small_vit(), output="keys", side=64)
    assert extractor.with_input(32, "square").model is extractor.model


@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 0.1), ("float16", 0.02)])
@pytest.mark.parametrize("rotary", [False, True])
def test_lower_precision_is_close(precision, tolerance, rotary):
    crop = photos((32, 32))[0]
    torch.manual_seed(0)
    options = {"num_classes": 0, "dynamic_img_size": True}
    model = timm.create_model("vit_small_patch16_dinov3", **options) if rotary else small_vit()
    exact = VitFeatures(model, output="keys", side=32, precision="float32")(crop)
    lower = VitFeatures(model, output="keys", side=32, precision=precision)(crop)
    assert lower.dtype == np.float32
    assert 0 < np.abs(exact - lower).max() < tolerance * np.abs(exact).max()


def test_features_that_overflow_are_one_line_that_says_what_to_set():
    model = small_vit()
    with torch.no_grad():
        model.blocks[-1].attn.qkv.weight.mul_(1e6)
    crop = photos((32, 32))[0]
    assert np.isfinite(VitFeatures(model, output="keys", side=32)(crop)).all()
    half = VitFeatures(model, output="keys", side=32, precision="float16")
    with pytest.raises(DataError, match=r"FEATURES\.VIT\.PRECISION to bfloat16 or float32"):
        half(crop)
    model.blocks[0].norm1.weight[0] = float("nan")
    with pytest.raises(DataError, match="weights are damaged"):
        VitFeatures(model, output="keys", side=32)(crop)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("output", "key"),
        ("shape", "tall"),
        ("precision", "half"),
        ("side", 0),
        ("batch_size", 0),
    ],
)
def test_wrong_settings_name_their_key(key, value):
    settings = {"output": "keys", "side": 32, key: value}
    with pytest.raises(ConfigError, match=r"PSEUDO_MASKS\.FEATURES\.VIT\."):
        VitFeatures(small_vit(), **settings)


def test_from_config(tmp_path):
    weights = timm.create_model("vit_small_patch16_224", num_classes=0).state_dict()
    torch.save(weights, tmp_path / "dino.pth")
    cfg = get_cfg()
    cfg.DEVICE = "cpu"
    cfg.PSEUDO_MASKS.FEATURES.NAME = "vit"
    node = cfg.PSEUDO_MASKS.FEATURES.VIT
    node.ARCHITECTURE = "vit_small_patch16_224"
    node.WEIGHTS = str(tmp_path / "dino.pth")
    node.INPUT_SIZE = 64
    extractor = build_features(cfg)
    assert extractor(photos((50, 30))[0]).shape == (4, 4, 384)
    loaded = extractor.model.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in weights.items())
    cfg.DEVICE = "cuda:7"
    with pytest.raises(ConfigError, match="DEVICE"):
        VitFeatures.from_config(cfg)
