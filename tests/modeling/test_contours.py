"""A model that learns contours, and whole photos segmented by them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from unsam.config import get_cfg
from unsam.errors import ConfigError
from unsam.inference import Segmenter
from unsam.modeling import GranularSam, build_model


@pytest.fixture(scope="module")
def model() -> GranularSam:
    cfg = get_cfg()
    cfg.INPUT.IMAGE_SIZE = 64
    cfg.MODEL.EMBED_DIM = 16
    cfg.MODEL.IMAGE_ENCODER.STEM_DIM = 8
    cfg.MODEL.IMAGE_ENCODER.STAGE_DIMS = (8, 12, 15)
    cfg.MODEL.IMAGE_ENCODER.STAGE_DEPTHS = (1, 1, 1)
    cfg.MODEL.MASK_DECODER.UPSCALE_DIMS = (8, 4)
    cfg.MODEL.CONTOURS.ENABLED = True
    cfg.MODEL.CONTOURS.DIMS = (4, 6, 8, 8)
    cfg.MODEL.CONTOURS.IMAGE_SIZE = 64
    torch.manual_seed(0)
    built = build_model(cfg)
    assert isinstance(built, GranularSam)
    return built


def sample(size: tuple[int, int] = (48, 64), bright: float = 200.0) -> dict[str, Any]:
    """A bright square on a dark ground, with its contour."""
    square = torch.zeros(size, dtype=torch.bool)
    square[12:36, 16:48] = True
    edge = torch.zeros(size, dtype=torch.uint8)
    edge[11:37, 15:49] = 255
    edge[13:35, 17:47] = 0
    image = (20 + (bright - 20) * square).to(torch.uint8).expand(3, -1, -1)
    return {
        "image": image,
        "masks": square[None],
        "granularity": torch.ones(1),
        "contours": edge,
        "seed": 3,
    }


def test_contours_are_learnt_and_give_the_region(model: GranularSam) -> None:
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    losses = []
    for step in range(60):
        loss = model([sample(bright=120.0 + step)])["loss_contour"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    photo = sample()["image"].permute(1, 2, 0).numpy()
    segmenter = Segmenter(model, "cpu")
    masks = segmenter.generate(photo)
    truth = sample()["masks"][0].numpy()
    overlap = [(mask & truth).sum() / (mask | truth).sum() for mask in masks.masks()]
    assert max(overlap) > 0.85
    assert np.all(np.diff(masks.score) <= 0)
    segmenter.set_image(photo)
    assert segmenter.generate() == masks
    model.snap_iou = 1e-6
    (snapped,) = segmenter.predict([[30, 20]], granularity=1.0).masks
    assert any(np.array_equal(snapped, mask) for mask in masks.masks())
    model.snap_iou = 0.0
    (plain,) = segmenter.predict([[30, 20]], granularity=1.0).masks
    assert not np.array_equal(snapped, plain)
    some = segmenter.generate(photo, 0.5)
    assert np.all(np.abs(some.granularity - 0.5) <= 0.1 + 1e-6)


def test_masks_come_at_the_size_of_the_photo(model: GranularSam) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (30, 100, 3), dtype=np.uint8)
    assert Segmenter(model, "cpu").generate(photo).size == (30, 100)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("SCALES", ()),
        ("SCALES", (1.0, math.nan)),
        ("IMAGE_SIZE", 0),
        ("DIMS", (8, 8)),
        ("BASINS", ((1.0,),)),
        ("GAIN", 0.0),
        ("FEATURE_SCALE", math.nan),
    ],
)
def test_bad_settings_are_named(key: str, value: Any) -> None:
    cfg = get_cfg()
    cfg.MODEL.CONTOURS.ENABLED = True
    cfg.MODEL.CONTOURS[key] = value
    with pytest.raises(ConfigError, match=rf"\b{key}\b"):
        build_model(cfg)
