"""The published network on recipe weights: the reference's numbers, loaded from its own layout."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from torch import Tensor

from tests.golden_weights import recipe_state_dict
from tests.parity import Parity
from unsam.checkpoint.conversion import to_native
from unsam.checkpoint.layouts.unsam_promptable import UNSAM_PROMPTABLE
from unsam.config import get_cfg
from unsam.modeling import InputFrame, Prompts, build_model
from unsam.modeling.prompts import POSITIVE
from unsam.modeling.semantic_sam import SemanticSam

KINDS = {"masks_sub": "logits", "pred_iou": "quality", "boxes_cxcywh": "boxes"}


@dataclass(frozen=True)
class Golden:
    """A pack, the model with its weights, and what the model says about the pack's clicks."""

    outputs: dict[str, np.ndarray]
    masks: dict
    frame: InputFrame
    features: dict[str, Tensor]
    together: tuple[Tensor, Tensor, Tensor]
    alone: list[tuple[Tensor, Tensor, Tensor]]
    model: SemanticSam


def load(pack: Path) -> SemanticSam:
    cfg = get_cfg()
    cfg.INPUT.SHORTER_SIDE = 320
    cfg.MODEL.META_ARCHITECTURE = "SemanticSam"
    cfg.MODEL.BACKBONE.NAME = "SwinTransformer"
    cfg.MODEL.PIXEL_DECODER.NUM_LEVELS = 4
    cfg.MODEL.PIXEL_DECODER.FFN_DIM = 2048
    model = build_model(cfg).eval()
    assert isinstance(model, SemanticSam)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    native, report = to_native(recipe_state_dict(pack), UNSAM_PROMPTABLE, shapes)
    assert report.is_complete
    model.load_state_dict(native)
    return model


@pytest.fixture(scope="module")
def answer(golden_root: Path) -> Callable[[str], Golden]:
    """Ask the model of a pack about its clicks, once for all tests."""
    return functools.cache(lambda name: run(golden_root / name))


def run(pack: Path) -> Golden:
    model = load(pack)
    outputs = dict(np.load(pack / "outputs.npz"))
    photo = np.array(Image.open(pack / "photo.png").convert("RGB"))
    height, width = photo.shape[:2]
    kept: dict[str, Tensor] = {}
    hooks = [
        model.backbone.register_forward_hook(lambda *call: kept.update(call[-1])),
        model.pixel_decoder.register_forward_hook(
            lambda *call: kept.update(
                mask_features=call[-1].mask_features,
                **{f"multi_scale{i}": level for i, level in enumerate(call[-1].levels[::-1])},
            )
        ),
    ]
    with torch.inference_mode():
        features = model.encode([model.prepare(photo)])
        for hook in hooks:
            hook.remove()
        xy = outputs["clicks_xy_normalised"] * (width, height)
        points = torch.from_numpy(xy.astype(np.float32))[:, None]

        def ask(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            labels = torch.full(points.shape[:2], POSITIVE)
            prompts = Prompts(points, labels, None, torch.zeros(len(points), dtype=torch.int64))
            return model.answer_tokens(features, prompts)

        return Golden(
            outputs=outputs,
            masks=json.loads((pack / "masks.json").read_text()),
            frame=model.frame((height, width)),
            features=kept,
            together=ask(points),
            alone=[ask(points[i : i + 1]) for i in range(len(points))],
            model=model,
        )


def check_answers(golden: Golden, click: int, answers: tuple[Tensor, Tensor, Tensor]) -> None:
    """Compare logits ``[6, h, w]``, quality ``[6]`` and boxes ``[6, 4]`` of one click."""
    logits, quality, boxes = answers
    outputs = {
        name.removeprefix(f"click{click}_"): array
        for name, array in golden.outputs.items()
        if name.startswith(f"click{click}_")
    }
    low_res = outputs["low_res_masks"].astype(np.float32)
    np.testing.assert_allclose(logits.numpy(), low_res, atol=0.03, rtol=0)
    np.testing.assert_allclose(quality.numpy(), outputs["pred_iou"], atol=1e-3, rtol=0)
    np.testing.assert_allclose(boxes.numpy(), outputs["boxes_cxcywh"], atol=1e-4, rtol=0)
    grown = golden.model.grow(logits, golden.frame)
    found = grown[:, ::4, ::4].numpy()
    np.testing.assert_allclose(found, outputs["masks_sub"], atol=5e-3, rtol=0)
    dense = np.asfortranarray((grown > 0).permute(1, 2, 0).numpy().astype(np.uint8))
    ours = coco_mask.encode(dense)
    for mine, reference in zip(ours, golden.masks[f"click{click}"], strict=True):
        assert coco_mask.iou([mine], [reference], [0])[0, 0] >= 0.995


@pytest.mark.parametrize("pack", ["unsam_promptable"])
def test_golden(answer: Callable[[str], Golden], pack: str, parity: Parity) -> None:
    golden = answer(pack)
    parity.keys[pack] = 648
    for click, (logits, quality, boxes) in enumerate(golden.alone):
        wanted = {name: golden.outputs[f"click{click}_{name}"] for name in KINDS}
        grown = golden.model.grow(logits[0], golden.frame)[:, ::4, ::4]
        found = {"masks_sub": grown, "pred_iou": quality[0], "boxes_cxcywh": boxes[0]}
        for name, kind in KINDS.items():
            parity.error(pack, kind, found[name], wanted[name])
    for click in range(len(golden.alone)):
        check_answers(golden, click, tuple(part[0] for part in golden.alone[click]))
        check_answers(golden, click, tuple(part[click] for part in golden.together))


@pytest.mark.parametrize("pack", ["unsam_promptable"])
def test_golden_features(answer: Callable[[str], Golden], pack: str, parity: Parity) -> None:
    golden = answer(pack)
    steps = {"res2": 8, "res3": 4, "res4": 2, "res5": 1, "mask_features": 4}
    steps |= {f"multi_scale{level}": 2 for level in range(4)}
    assert set(golden.features) == set(steps)
    for name, step in steps.items():
        found = golden.features[name][0]
        mean, deviation, largest = golden.outputs[f"{name}_stats"]
        assert abs(float(found.mean()) - mean) < 1e-4 * largest
        assert abs(float(found.std()) - deviation) < 1e-4 * largest
        some = found[:: len(found) // 16, ::step, ::step].numpy()
        np.testing.assert_allclose(some, golden.outputs[f"{name}_sub"], atol=1e-4 * largest, rtol=0)
        parity.error(pack, "features", some, golden.outputs[f"{name}_sub"])


@pytest.mark.parametrize("pack", ["unsam_promptable"])
def test_golden_in_other_precisions(answer: Callable[[str], Golden], pack: str) -> None:
    model = answer(pack).model
    photo = torch.randint(0, 256, (3, 96, 128), generator=torch.Generator().manual_seed(0))
    click = Prompts(
        torch.tensor([[[40.0, 30.0]]]), torch.tensor([[POSITIVE]]), None, torch.tensor([0])
    )
    with torch.inference_mode():
        exact = copy.deepcopy(model).double()
        right = exact.answer_tokens(exact.encode([photo]), click)
        single = model.answer_tokens(model.encode([photo]), click)
        with torch.autocast("cpu", torch.bfloat16):
            half = model.answer_tokens(model.encode([photo]), click)
    for one, other, third in zip(right, single, half, strict=True):
        assert one.dtype == torch.float64
        assert (one - other).abs().max() < 1e-4 * one.abs().max()
        assert third.dtype == torch.float32
        assert (one - third).abs().max() < 0.05 * one.abs().max()
