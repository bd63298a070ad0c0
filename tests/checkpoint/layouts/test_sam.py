from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import transformers

from tests.modeling.sam.tiny import click_prompts, images, tiny_sam
from unsam.checkpoint.conversion import require_complete, to_native, to_published
from unsam.checkpoint.layouts.base import Recipe
from unsam.checkpoint.layouts.sam import SAM, SAM_HUB
from unsam.errors import CheckpointError
from unsam.modeling.sam.image_encoder import ENCODERS

WIDTHS = {"b": 768, "l": 1024, "h": 1280}
# No config is for the tiny model.
TINY = [
    pytest.param(replace(layout, recipe=lambda weights: Recipe("tiny.yaml")), id=layout.name)
    for layout in (SAM, SAM_HUB)
]


def shapes_of(model: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("layout", TINY)
def test_weights_survive_the_way_out_and_back(layout):
    model = tiny_sam()
    native, report = to_native(
        to_published(model.state_dict(), layout, "tiny"), layout, shapes_of(model)
    )
    require_complete(report, "tiny")
    assert all(torch.equal(native[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("letter", WIDTHS)
def test_files_are_told_by_their_tensors(letter):
    token = {"mask_decoder.iou_token.weight": torch.zeros(1, 256)}
    patches = torch.zeros(WIDTHS[letter], 1)
    released = token | {"image_encoder.patch_embed.proj.weight": patches}
    hub = token | {"vision_encoder.patch_embed.projection.weight": patches}
    for layout, weights, other in ((SAM, released, SAM_HUB), (SAM_HUB, hub, SAM)):
        assert layout.matches(weights)
        assert not other.matches(weights)
        assert layout.recipe(weights).config == f"sam/sam_vit_{letter}.yaml"
    assert sorted(WIDTHS.values()) == sorted(size["embed_dim"] for size in ENCODERS.values())


@pytest.mark.parametrize("layout", TINY)
def test_granularity_starts_fresh_and_has_no_published_names(layout):
    plain, granular = tiny_sam(), tiny_sam(granular=True)
    published = to_published(plain.state_dict(), layout, "tiny")
    native, report = to_native(published, layout, shapes_of(granular))
    require_complete(report, "tiny")
    added = set(granular.state_dict()) - set(plain.state_dict())
    assert set(report.fresh) == added
    assert native.keys() == plain.state_dict().keys()
    with pytest.raises(CheckpointError, match=f"layout {layout.name} cannot hold this model"):
        to_published(granular.state_dict(), layout, "tiny")


@torch.no_grad()
def test_a_model_of_transformers_loads_and_answers_alike():
    vision = transformers.SamVisionConfig(
        hidden_size=24,
        output_channels=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=288,
        global_attn_indexes=[1],
        mlp_dim=96,
        num_pos_feats=16,
    )
    prompt = transformers.SamPromptEncoderConfig(hidden_size=32, image_size=288)
    decoder = transformers.SamMaskDecoderConfig(
        hidden_size=32, mlp_dim=64, num_attention_heads=4, iou_head_hidden_dim=32
    )
    torch.manual_seed(0)
    theirs = transformers.SamModel(
        transformers.SamConfig(
            vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder
        )
    ).eval()
    for parameter in theirs.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.1)
    model = tiny_sam()
    layout = replace(SAM_HUB, recipe=lambda weights: Recipe("tiny.yaml"))
    native, report = to_native(theirs.state_dict(), layout, shapes_of(model))
    require_complete(report, "transformers")
    assert report.repeats == ("prompt_encoder.shared_embedding.positional_embedding",)
    model.load_state_dict(native)
    photo = images()[0]
    pixels = torch.zeros(1, 3, 288, 288)
    pixels[0, :, : photo.shape[1]] = (photo - model.pixel_mean) / model.pixel_std
    prompts = click_prompts()
    answer = theirs(
        pixel_values=pixels,
        input_points=prompts.points[None] - 0.5,
        input_labels=prompts.labels[None],
        multimask_output=True,
    )
    logits, quality = model.decode_all(model.encode([photo]), prompts)
    torch.testing.assert_close(logits, answer.pred_masks[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(quality, answer.iou_scores[0], rtol=1e-4, atol=1e-4)
