"""The layouts of SAM 2 and UnSAMv2: every tensor of every published form, there and back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import Sam2VideoModel

from tests.golden_weights import recipe_state_dict
from tests.modeling.sam2.tiny import TINY, tiny_model
from unsam.checkpoint.conversion import require_complete, to_native, to_published
from unsam.checkpoint.layouts.base import Layout
from unsam.checkpoint.layouts.sam2 import SAM2, SAM2_HUB, sam2_name
from unsam.checkpoint.layouts.unsamv2 import UNSAMV2, UNSAMV2_MERGED
from unsam.config import get_cfg
from unsam.modeling.lora import merge_lora
from unsam.modeling.sam2 import SIZES, Sam2, video_config

FAMILY = (SAM2, SAM2_HUB, UNSAMV2, UNSAMV2_MERGED)


def only_match(weights: dict[str, Tensor]) -> Layout:
    (layout,) = [layout for layout in FAMILY if layout.matches(weights)]
    return layout


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def published_shapes(granular: bool) -> dict[str, torch.Size]:
    """Of SAM 2.1 small at full size."""
    cfg = get_cfg()
    cfg.INPUT.IMAGE_SIZE = 1024
    cfg.MODEL.GRANULARITY.ENABLED = granular
    with torch.device("meta"):
        return shapes(Sam2(**Sam2.from_config(cfg)))


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def there_and_back(weights: dict[str, Tensor], own: dict[str, torch.Size]) -> None:
    layout = only_match(weights)
    native, report = to_native(weights, layout, own)
    require_complete(report, layout.name)
    assert native.keys() == own.keys()
    assert_same(to_published(native, layout, layout.name), weights)


@pytest.mark.parametrize(
    ("pack", "layout", "config", "tensors"),
    [
        ("sam2", SAM2, "sam2/sam2.1_hiera_small.yaml", 519),
        ("unsamv2", UNSAMV2, "unsamv2/sam2_hiera_small.yaml", 589),
    ],
)
def test_published_files_there_and_back(golden_root: Path, pack, layout, config, tensors):
    weights = recipe_state_dict(golden_root / pack)
    assert len(weights) == tensors
    assert only_match(weights) is layout
    recipe = layout.recipe(weights)
    assert (recipe.config, recipe.overrides) == (config, ())
    there_and_back(weights, published_shapes(granular=pack == "unsamv2"))


def test_merged_file_there_and_back():
    model = tiny_model(granular=True)
    merge_lora(model)
    weights = to_published(model.state_dict(), UNSAMV2_MERGED, "tiny")
    assert not any("original_layer" in name or "lora" in name for name in weights)
    assert only_match(weights) is UNSAMV2_MERGED
    overrides = UNSAMV2_MERGED.recipe(weights).overrides
    assert overrides[-2:] == ("MODEL.GRANULARITY.LORA_RANK", 0)
    there_and_back(weights, shapes(model))


@pytest.mark.parametrize("with_repeat", [True, False])
def test_hub_files_there_and_back(with_repeat):
    model = tiny_model()
    whole = model.network.state_dict()
    weights = dict(whole)
    if not with_repeat:
        del weights["prompt_encoder.shared_embedding.positional_embedding"]
    assert only_match(weights) is SAM2_HUB
    native, report = to_native(weights, SAM2_HUB, shapes(model))
    require_complete(report, "hub")
    assert len(report.repeats) == with_repeat
    back = to_published(native, SAM2_HUB, "hub")
    assert back.keys() == whole.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize("layout", [SAM2, SAM2_HUB])
def test_plain_files_load_below_granularity(layout):
    plain, granular = tiny_model(), tiny_model(granular=True, seed=1)
    weights = to_published(plain.state_dict(), layout, "plain")
    native, report = to_native(weights, layout, shapes(granular))
    require_complete(report, "plain")
    assert len(report.fresh) == 56 + 14
    assert set(native) == set(plain.state_dict())


@pytest.mark.parametrize("layout", [SAM2, SAM2_HUB])
def test_granularity_does_not_fit_plain_layouts(layout):
    names = tiny_model(granular=True).state_dict()
    added = [name for name in names if not layout.published(name)]
    assert len([name for name in added if name.startswith("granularity.")]) == 14


@pytest.mark.parametrize("version", ["2", "2.1"])
@pytest.mark.parametrize("size", SIZES)
def test_size_and_version_are_read_off_the_tensors(size, version):
    with torch.device("meta"):
        hub = Sam2VideoModel(video_config(SIZES[size], version, 1024)).state_dict()
    published = {
        theirs: tensor for name, tensor in hub.items() for theirs in sam2_name(f"network.{name}")
    }
    recipe = f"sam2/sam2{'.1' if version == '2.1' else ''}_hiera_{size}.yaml"
    for layout, weights in ((SAM2, published), (SAM2_HUB, hub)):
        assert only_match(weights) is layout
        assert layout.recipe(weights).config == recipe


def test_other_settings_of_unsamv2_are_read_off_the_tensors():
    model = tiny_model(granular=True)
    weights = to_published(model.state_dict(), UNSAMV2, "tiny")
    prefix = "sam_mask_decoder.transformer.final_attn_token_to_image.q_proj"
    assert weights[f"{prefix}.lora_A"].shape == (8, 256)
    del weights["no_obj_embed_spatial"]
    weights["sam_prompt_encoder.fourier_embedder.mlp.mlp.0.weight"] = torch.zeros(160, 64)
    overrides = UNSAMV2.recipe(weights).overrides
    assert overrides[:2] == ("MODEL.SAM2.VERSION", "2")
    assert overrides[2:] == ("MODEL.GRANULARITY.FOURIER_DIM", 64)
    assert TINY.width == len(weights["image_encoder.trunk.patch_embed.proj.weight"])
