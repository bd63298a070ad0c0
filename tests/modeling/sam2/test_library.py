"""Without granularity the answers are those of the library's image model, to the last bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import Sam2Config, Sam2Model

from tests.modeling.sam2.tiny import SIZE, clicks, photos, tiny_model
from unsam.modeling.prompts import BOX_FIRST, BOX_LAST, NEGATIVE, POSITIVE, Prompts
from unsam.modeling.sam2 import Sam2

# Input pixels: the library counts clicks from the centre of a pixel, `Prompts` from its edge.
HALF = 0.5
POINTS = torch.tensor([[[10.0, 20.0]], [[40.25, 3.5]], [[63.0, 60.0]]])
BOX = torch.tensor([[4.0, 8.0], [50.0, 40.0]])


def library_model(model: Sam2) -> Sam2Model:
    config = model.network.config
    library = Sam2Model(
        Sam2Config(
            vision_config=config.vision_config,
            prompt_encoder_config=config.prompt_encoder_config.to_dict(),
            mask_decoder_config=config.mask_decoder_config.to_dict(),
        )
    )
    weights = model.network.state_dict()
    own = {name: weights[name] for name in library.state_dict()}
    library.load_state_dict(own)
    return library.eval()


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "granular"])
def model(request) -> Sam2:
    return tiny_model(granular=request.param)


@pytest.fixture(scope="module")
def library(model) -> Sam2Model:
    return library_model(model)


def assert_same(model, library, prompts: Prompts, several: bool) -> None:
    image = photos(1)
    pixels = ((image[0] - model.pixel_mean) / model.pixel_std)[None]
    one_photo_each = prompts.mask_logits is not None
    with torch.inference_mode():
        found = model.answer(model.encode(image), prompts, several=several)
        embeddings = library.get_image_embeddings(pixels)
        points, labels = prompts.points - HALF, prompts.labels
        if one_photo_each:
            embeddings = [feature.expand(len(prompts), -1, -1, -1) for feature in embeddings]
        expected = library(
            image_embeddings=embeddings,
            input_points=points[:, None] if one_photo_each else points[None],
            input_labels=labels[:, None] if one_photo_each else labels[None],
            input_masks=prompts.mask_logits[:, None] if one_photo_each else None,
            multimask_output=several,
        )
    logits = expected.pred_masks.flatten(0, 1)
    assert logits.std() > 0.01
    assert torch.equal(found.logits, logits if model.training else logits.clamp(-32, 32))
    assert torch.equal(found.quality, expected.iou_scores.flatten(0, 1))
    assert torch.equal(found.object_score, expected.object_score_logits.flatten())


def test_both_use_fused_attention(model, library):
    for part in (model.network, library):
        assert part.mask_decoder.config._attn_implementation == "sdpa"
        assert part.config.vision_config.backbone_config._attn_implementation == "sdpa"


@pytest.mark.parametrize("count", [1, 2])
def test_image_embeddings(model, library, count):
    images = photos(count)
    pixels = torch.stack([(image - model.pixel_mean) / model.pixel_std for image in images])
    with torch.inference_mode():
        found = model.encode(images)
        fine, middle, embedding = library.get_image_embeddings(pixels)
        position = library.get_image_wide_positional_embeddings()
    assert torch.equal(found.fine, fine)
    assert torch.equal(found.middle, middle)
    assert torch.equal(found.embedding, embedding)
    assert torch.equal(found.position, position)


@pytest.mark.parametrize("several", [False, True])
class TestAnswers:
    def test_one_click(self, model, library, several):
        assert_same(model, library, clicks(POINTS[:1] + HALF), several)

    def test_several_prompts(self, model, library, several):
        assert_same(model, library, clicks(POINTS + HALF), several)

    def test_several_points(self, model, library, several):
        points = POINTS.reshape(1, 3, 2) + HALF
        labels = torch.tensor([[POSITIVE, NEGATIVE, POSITIVE]])
        assert_same(model, library, replace(clicks(points), labels=labels), several)

    def test_box(self, model, library, several):
        labels = torch.tensor([[BOX_FIRST, BOX_LAST]])
        assert_same(model, library, replace(clicks(BOX[None] + HALF), labels=labels), several)

    def test_box_with_a_click(self, model, library, several):
        points = torch.cat((BOX[None], POINTS[:1]), dim=1) + HALF
        labels = torch.tensor([[BOX_FIRST, BOX_LAST, NEGATIVE]])
        assert_same(model, library, replace(clicks(points), labels=labels), several)

    @pytest.mark.parametrize("count", [1, 3])
    def test_mask_prompt(self, model, library, several, count):
        generator = torch.Generator().manual_seed(1)
        masks = torch.randn(count, SIZE // 4, SIZE // 4, generator=generator) * 5
        prompts = replace(clicks(POINTS[:count] + HALF), mask_logits=masks)
        assert_same(model, library, prompts, several)


def test_boxes_equal_the_librarys_box_prompt(model, library):
    labels = torch.tensor([[BOX_FIRST, BOX_LAST]])
    with torch.inference_mode():
        features = model.encode(photos(1))
        found = model.answer(features, replace(clicks(BOX[None] + HALF), labels=labels))
        expected = library(
            image_embeddings=[features.fine, features.middle, features.embedding],
            input_boxes=BOX.reshape(1, 1, 4),
            multimask_output=False,
        )
    assert torch.equal(found.logits, expected.pred_masks[0].clamp(-32, 32))


def test_training_mode_answers_without_the_fallback(model, library):
    model.train()
    library.train()
    try:
        assert_same(model, library, clicks(POINTS + HALF), several=False)
    finally:
        model.eval()
        library.eval()
