"""SAM ViT-B on the weights, the photo and the answers of the golden pack."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from tests.golden_weights import recipe_state_dict
from unsam.checkpoint.conversion import require_complete, to_native
from unsam.checkpoint.layouts.sam import SAM
from unsam.config import get_cfg
from unsam.modeling import build_model
from unsam.modeling.prompts import BOX_FIRST, BOX_LAST, POSITIVE, Prompts
from unsam.modeling.sam import Sam, SamFeatures
from unsam.modeling.segmentation_model import InputFrame

PACK = "sam"
CLICKS = ("point0", "point1", "point2")
MAX_BFLOAT16_ERROR = 0.05


class Encoded(NamedTuple):
    model: Sam
    features: SamFeatures
    frame: InputFrame
    expected: dict[str, np.ndarray]
    folder: Path


@pytest.fixture(scope="module")
def encoded(golden_root) -> Encoded:
    folder = golden_root / PACK
    published = recipe_state_dict(folder)
    assert SAM.matches(published)
    assert SAM.recipe(published).config == "sam/sam_vit_b.yaml"
    cfg = get_cfg()
    cfg.INPUT.IMAGE_SIZE = 1024
    cfg.MODEL.META_ARCHITECTURE = "Sam"
    model = build_model(cfg)
    assert isinstance(model, Sam)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    native, report = to_native(published, SAM, shapes)
    require_complete(report, PACK)
    assert len(report.taken) == len(published) == 314
    model.load_state_dict(native, assign=True)
    model.eval()
    photo = np.asarray(Image.open(folder / "photo.png"))
    with torch.inference_mode():
        features = model.encode([model.prepare(photo)])
    frame = model.frame((photo.shape[0], photo.shape[1]))
    return Encoded(model, features, frame, dict(np.load(folder / "outputs.npz")), folder)


def _prompts(encoded: Encoded, name: str) -> Prompts:
    """Return a prompt of the pack by the name that its answer has."""
    expected = encoded.expected
    if name == "box":
        points, labels = expected["box_xyxy"].reshape(2, 2), [BOX_FIRST, BOX_LAST]
    elif name == "two_points":
        points, labels = expected["two_points_xy"], expected["two_points_labels"].tolist()
    else:
        points, labels = expected["points"][CLICKS.index(name), None], [POSITIVE]
    placed = encoded.model.place(points, np.array(labels) >= BOX_FIRST, encoded.frame)
    return Prompts(
        points=torch.from_numpy(placed)[None],
        labels=torch.tensor([labels]),
        granularity=None,
        image_of_prompt=torch.zeros(1, dtype=torch.int64),
    )


@torch.inference_mode()
def _answer(encoded: Encoded, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits ``[M, h, w]`` and quality ``[M]`` of an answer by its name in the pack."""
    model, features = encoded.model, encoded.features
    prompt = name.removesuffix("_multi").removesuffix("_second_pass")
    prompts = _prompts(encoded, prompt)
    if name.endswith("_multi"):
        logits, quality = model.decode_all(features, prompts)
        return logits[0], quality[0]
    logits, quality = model.decode(features, prompts)
    if name.endswith("_second_pass"):
        logits, quality = model.decode(features, replace(prompts, mask_logits=logits))
    return logits, quality


def _answers(encoded: Encoded) -> list[str]:
    return [key.removesuffix("_iou") for key in encoded.expected if key.endswith("_iou")]


@pytest.mark.parametrize("pack", [PACK])
def test_golden(encoded, pack, parity):
    parity.keys[pack] = 314
    embedding = encoded.features.embedding[0].numpy()
    mean, std, largest = encoded.expected["image_embed_stats"]
    assert np.abs(embedding).max() == pytest.approx(largest, rel=1e-4)
    assert embedding.mean() == pytest.approx(mean, abs=1e-4 * largest)
    assert embedding.std(ddof=1) == pytest.approx(std, abs=1e-4 * largest)
    subset = embedding[::8, ::4, ::4]
    assert np.abs(subset - encoded.expected["image_embed_sub"]).max() <= 1e-4 * largest
    parity.error(pack, "embedding", subset, encoded.expected["image_embed_sub"])

    masks = json.loads((encoded.folder / "masks.json").read_text())
    names = _answers(encoded)
    assert len(names) == 9
    for name in names:
        logits, quality = _answer(encoded, name)
        assert np.abs(logits.numpy() - encoded.expected[f"{name}_low_res"]).max() <= 0.02, name
        assert np.abs(quality.numpy() - encoded.expected[f"{name}_iou"]).max() <= 1e-3, name
        stored = encoded.expected[f"{name}_low_res"]
        assert parity.error(pack, "logits", logits, stored) <= 1e-4, name
        parity.error(pack, "quality", quality, encoded.expected[f"{name}_iou"])
        found = encoded.model.grow(logits, encoded.frame).numpy() > 0
        given = coco_mask.decode(masks[name]).transpose(2, 0, 1) > 0
        for ours, theirs in zip(found, given, strict=True):
            assert (ours & theirs).sum() >= 0.995 * (ours | theirs).sum(), name


@pytest.mark.parametrize("pack", [PACK])
def test_bfloat16_decoding_stays_near_golden(encoded, pack):
    for name in ("point0", "point1_multi", "box"):
        expected = encoded.expected[f"{name}_low_res"].astype(np.float32)
        with torch.autocast("cpu", torch.bfloat16):
            logits, quality = _answer(encoded, name)
        assert logits.dtype == quality.dtype == torch.float32
        error = np.abs(logits.numpy() - expected).max() / np.abs(expected).max()
        assert 0 < error <= MAX_BFLOAT16_ERROR, name
