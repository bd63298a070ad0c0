"""Encoders and decoders of all published models: one graph each, and near in half precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from unsam.config import load_config
from unsam.modeling import PromptableModel, Prompts, build_model
from unsam.modeling.semantic_sam import SemanticSam

TINY = {
    "sam/sam_vit_b.yaml": ["INPUT.IMAGE_SIZE", "64"],
    "unsamv2/sam_vit_b.yaml": ["INPUT.IMAGE_SIZE", "64"],
    "sam2/sam2.1_hiera_tiny.yaml": ["INPUT.IMAGE_SIZE", "64"],
    "unsamv2/sam2_hiera_small.yaml": ["INPUT.IMAGE_SIZE", "64", "MODEL.SAM2.SIZE", "tiny"],
    "unsam/whole_image_R50.yaml": [
        *("MODEL.QUERY_DECODER.NUM_QUERIES", "8", "MODEL.QUERY_DECODER.NUM_LAYERS", "1"),
        *("MODEL.PIXEL_DECODER.NUM_LAYERS", "1"),
    ],
    "unsam/promptable_SwinT.yaml": [
        *("MODEL.PROMPTED_DECODER.NUM_LAYERS", "2", "MODEL.PIXEL_DECODER.NUM_LAYERS", "1"),
    ],
}


def _model_and_stages(recipe: str) -> tuple[Callable[[], Any], Callable[[Any], Tensor]]:
    """Return functions that encode a fixed photo, and that answer fixed questions about it."""
    torch.manual_seed(0)
    model = build_model(load_config(recipe, TINY[recipe])).eval()
    image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    granular = recipe.startswith("unsamv2")
    prompts = Prompts(
        points=torch.tensor([[[20.5, 30.5]], [[50.5, 10.5]]]),
        labels=torch.ones(2, 1, dtype=torch.int64),
        granularity=torch.tensor([0.2, 0.9]) if granular else None,
        image_of_prompt=torch.zeros(2, dtype=torch.int64),
    )

    def answer(features: Any) -> Tensor:
        if not isinstance(model, PromptableModel):
            predictions = model.query_decoder(features)[-1]
            return predictions.mask_embeddings @ features.mask_features.flatten(2)
        if isinstance(model, SemanticSam):
            # By token: two masks of nearly one size may change places.
            return model.answer_tokens(features, prompts)[0]
        if granular:
            return model.decode(features, prompts)[0]
        return model.decode_all(features, prompts)[0]

    return lambda: model.encode([image]), answer


@pytest.mark.parametrize("recipe", list(TINY))
@torch.inference_mode()
def test_each_stage_is_one_graph_with_the_same_answers(recipe: str) -> None:
    encode, answer = _model_and_stages(recipe)
    expected = answer(encode())
    torch.compiler.reset()
    compiled = [torch.compile(stage, fullgraph=True, backend="eager") for stage in (encode, answer)]
    found = compiled[1](compiled[0]())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("recipe", list(TINY))
@torch.inference_mode()
def test_autocast_is_near_float32(recipe: str, dtype: torch.dtype) -> None:
    """Stated tolerance: the mean error of the logits is at most 3 % of their spread, or 0.5 %."""
    encode, answer = _model_and_stages(recipe)
    expected = answer(encode())
    with torch.autocast("cpu", dtype):
        found = answer(encode())
    error = (found.to(torch.float32) - expected).abs().mean() / expected.std()
    assert 0 < error < (0.03 if dtype is torch.bfloat16 else 0.005)
