"""Sam against segment-anything itself, with the same random weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor
from torch import Tensor

from tests.modeling.sam.tiny import IMAGE_SIZE, library_sam, tiny_sam
from unsam.modeling.prompts import BOX_FIRST, BOX_LAST, NEGATIVE, POSITIVE, Prompts
from unsam.modeling.sam import Sam

PHOTO_SIZE = (123, 301)
CLICKS = np.array([[60.0, 31.0], [200.25, 100.5]])
LABELS = np.array([POSITIVE, NEGATIVE])
BOX = np.array([20.0, 10.0, 250.5, 99.0])
PROMPTS: dict[str, dict[str, Any]] = {
    "point": {"point_coords": CLICKS[:1], "point_labels": LABELS[:1]},
    "two_points": {"point_coords": CLICKS, "point_labels": LABELS},
    "box": {"box": BOX},
    "box_and_points": {"box": BOX, "point_coords": CLICKS, "point_labels": LABELS},
    "mask": {"mask_input": True},
    "mask_and_point": {
        "mask_input": True,
        "point_coords": CLICKS[:1],
        "point_labels": LABELS[:1],
    },
}
Same = Callable[[Tensor, Tensor], bool]


def equal(ours: Tensor, theirs: Tensor) -> bool:
    return torch.equal(ours, theirs)


def close(ours: Tensor, theirs: Tensor) -> bool:
    return bool((ours - theirs).abs().max() <= 1e-5 * theirs.abs().max())


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*PHOTO_SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module", params=[False, True], ids=["explicit", "fused"])
def pair(request, photo) -> tuple[Sam, SamPredictor, Same]:
    model = tiny_sam(fused=request.param)
    predictor = SamPredictor(library_sam(model))
    predictor.set_image(photo)
    return model, predictor, close if request.param else equal


def ours_of(model: Sam, given: dict[str, Any]) -> Prompts:
    """Return what `Segmenter` makes of a prompt of `SamPredictor.predict`."""
    points, labels = np.zeros((0, 2)), np.zeros(0, np.int64)
    if "point_coords" in given:
        points, labels = given["point_coords"], given["point_labels"]
    if "box" in given:
        points = np.concatenate((given["box"].reshape(2, 2), points))
        labels = np.concatenate((np.array([BOX_FIRST, BOX_LAST]), labels))
    placed = model.place(points, labels >= BOX_FIRST, model.frame(PHOTO_SIZE))
    return Prompts(
        points=torch.from_numpy(placed)[None],
        labels=torch.from_numpy(labels)[None],
        granularity=None,
        image_of_prompt=torch.zeros(1, dtype=torch.int64),
        mask_logits=_mask_prompt() if "mask_input" in given else None,
    )


def _mask_prompt() -> Tensor:
    side = IMAGE_SIZE // 4
    return torch.randn(1, side, side, generator=torch.Generator().manual_seed(1)) * 5


@torch.no_grad()
def test_the_photo_and_its_embedding_are_the_librarys(pair, photo):
    model, predictor, same = pair
    prepared = model.prepare(photo)
    assert torch.equal(
        prepared, torch.from_numpy(predictor.transform.apply_image(photo)).permute(2, 0, 1)
    )
    assert tuple(prepared.shape[1:]) == model.resized_size(PHOTO_SIZE)
    features = model.encode([prepared])
    assert same(features.embedding, predictor.features)
    assert same(features.position[None], predictor.model.prompt_encoder.get_dense_pe())


@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize("prompt", PROMPTS)
@torch.no_grad()
def test_answers_are_the_librarys(pair, photo, prompt, multimask):
    model, predictor, same = pair
    given = dict(PROMPTS[prompt])
    ours = ours_of(model, given)
    features = model.encode([model.prepare(photo)])
    if "mask_input" in given:
        given["mask_input"] = _mask_prompt().numpy()
    grown, quality, logits = predictor.predict(
        **given, multimask_output=multimask, return_logits=True
    )
    if multimask:
        own_logits, own_quality = (x[0] for x in model.decode_all(features, ours))
    else:
        own_logits, own_quality = model.decode(features, ours)
    assert same(own_logits, torch.from_numpy(logits))
    assert same(own_quality, torch.from_numpy(quality))
    at_photo = model.grow(own_logits, model.frame(PHOTO_SIZE))
    assert same(at_photo, torch.from_numpy(grown))


@torch.no_grad()
def test_a_batch_of_prompts_is_answered_as_the_library_does(pair, photo):
    model, predictor, same = pair
    frame = model.frame(PHOTO_SIZE)
    points = np.random.default_rng(1).uniform(0, 120, (5, 2, 2))
    labels = np.array([[1, 0], [1, 1], [0, 1], [0, 0], [1, 0]])
    scaled = predictor.transform.apply_coords(points, PHOTO_SIZE)
    _, quality, logits = predictor.predict_torch(
        torch.from_numpy(scaled).float(), torch.from_numpy(labels), multimask_output=True
    )
    prompts = Prompts(
        points=torch.from_numpy(model.place(points, labels >= BOX_FIRST, frame)),
        labels=torch.from_numpy(labels),
        granularity=None,
        image_of_prompt=torch.zeros(5, dtype=torch.int64),
    )
    own_logits, own_quality = model.decode_all(model.encode([model.prepare(photo)]), prompts)
    assert same(own_logits, logits)
    assert same(own_quality, quality)


@pytest.mark.parametrize("fused", [False, True])
@torch.no_grad()
def test_without_granularity_a_granular_sam_is_the_plain_one_bit_for_bit(photo, fused):
    plain, granular = tiny_sam(fused=fused), tiny_sam(fused=fused, granular=True)
    missing = granular.load_state_dict(plain.state_dict(), strict=False)
    assert not missing.unexpected_keys
    features = plain.encode([plain.prepare(photo)])
    prompts = ours_of(plain, PROMPTS["two_points"])
    asked = dataclasses.replace(prompts, granularity=torch.tensor([0.5]))
    before = granular.decode(features, asked)
    for decode in ("decode", "decode_all"):
        answers = zip(
            getattr(plain, decode)(features, prompts),
            getattr(granular, decode)(features, prompts),
            strict=True,
        )
        assert all(torch.equal(a, b) for a, b in answers)
    after = granular.decode(features, asked)
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[0], plain.decode(features, prompts)[0])
