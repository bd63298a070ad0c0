"""The whole chain against the published implementation, through the published weights' names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.golden_weights import recipe_state_dict
from tests.modeling.mask2former.published_inference import grown_logits
from tests.modeling.mask2former.transformers_decoder import TransformersDecoder
from unsam.checkpoint.conversion import to_native
from unsam.checkpoint.layouts.unsam_whole import UNSAM_WHOLE
from unsam.config import get_cfg
from unsam.modeling.build import build_model
from unsam.modeling.mask2former import Mask2Former
from unsam.structures import MaskSet


def _model(pack: Path) -> Mask2Former:
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = "Mask2Former"
    cfg.INPUT.SHORTER_SIDE = 256
    cfg.INFERENCE.QUALITY_THRESHOLD = 0.0
    cfg.INFERENCE.PRECISION = "float32"
    model = build_model(cfg).eval()
    expected = {name: value.shape for name, value in model.state_dict().items()}
    native, report = to_native(recipe_state_dict(pack), UNSAM_WHOLE, expected)
    assert report.is_complete
    assert len(report.taken) + len(report.computed) == 558
    model.load_state_dict(native)
    assert isinstance(model, Mask2Former)
    return model


def _relative(found: torch.Tensor, expected: np.ndarray) -> np.ndarray:
    """Return the differences as shares of the largest value that is expected."""
    return np.abs(found.double().numpy() - expected) / np.abs(expected).max()


def _mostly_equal(found: torch.Tensor, expected: np.ndarray) -> bool:
    """Whether 99 % of the numbers are within the pack's tolerance, 1e-2."""
    return bool((_relative(found, expected) < 1e-2).mean() >= 0.99)


@torch.inference_mode()
@pytest.mark.parametrize("pack", ["unsam_whole"])
def test_golden(golden_root, pack, parity):
    folder = golden_root / pack
    model, expected = _model(folder), np.load(folder / "outputs.npz")
    parity.keys[pack] = 558
    photo = np.asarray(Image.open(folder / "photo.png").convert("RGB"))
    frame = model.frame((photo.shape[0], photo.shape[1]))
    assert frame.padded_size == tuple(expected["padded_hw"])

    features = model.encode([model.prepare(photo)])
    for index, step in enumerate((1, 1, 2)):
        level = features.levels[index][0, ::16, ::step, ::step]
        wanted = expected[f"pixel_decoder{index}_sub"]
        assert parity.error(pack, "pixel decoder", level, wanted) < 1e-4
    mask_features = features.mask_features[0]
    coarse = mask_features[::16, ::4, ::4]
    assert parity.error(pack, "mask features", coarse, expected["mask_features_sub"]) < 1e-4

    outputs = model.query_decoder(features, every_layer=True)
    for index in (0, 4, 8):
        found = outputs[index].class_logits[0, ::20]
        assert _mostly_equal(found, expected[f"aux{index}_pred_logits_sub"])
    assert _mostly_equal(outputs[-1].class_logits[0], expected["pred_logits"])
    queries = torch.from_numpy(expected["queries"])
    embeddings = outputs[-1].mask_embeddings[0, queries]
    masks = torch.einsum("qc,chw->qhw", embeddings, mask_features[:, ::2, ::2])
    assert _mostly_equal(masks, expected["pred_masks_sub"])
    parity.error(pack, "class logits", outputs[-1].class_logits[0], expected["pred_logits"])
    parity.error(pack, "mask logits", masks, expected["pred_masks_sub"])

    found = model.segment(features, frame)
    scores = np.sort(found.score)[::-1][:50]
    np.testing.assert_allclose(scores, np.sort(expected["top50_scores"])[::-1], atol=1e-3)
    rles = json.loads((folder / "masks.json").read_text())["top50"]
    best_iou = MaskSet.from_rles(found.size, rles).iou(found).max(axis=1)
    assert best_iou.mean() >= 0.99


@torch.inference_mode()
@pytest.mark.parametrize("pack", ["unsam_whole"])
def test_golden_in_float64(golden_root, pack, parity):
    """In float64 no rounding flips an attention mask: another implementation says the same.

    All outputs are those of transformers' decoder with the same weights, and the instances those
    of the published inference, mask by mask and in the same order.
    """
    model = _model(golden_root / pack).double()
    photo = np.asarray(Image.open(golden_root / pack / "photo.png").convert("RGB"))
    frame = model.frame((photo.shape[0], photo.shape[1]))
    features = model.encode([model.prepare(photo)])
    outputs = model.query_decoder(features, every_layer=True)
    class_logits, mask_logits = TransformersDecoder(model.query_decoder)(features)
    for ours, classes, masks in zip(outputs, class_logits, mask_logits, strict=True):
        found = torch.einsum("qc,chw->qhw", ours.mask_embeddings[0], features.mask_features[0])
        kinds = (("class logits, float64", ours.class_logits, classes),)
        for kind, mine, theirs in (*kinds, ("mask logits, float64", found, masks[0])):
            assert parity.error(pack, kind, mine, theirs) < 1e-12

    probability = class_logits[-1][0].softmax(-1)[:, 0]
    best = probability.topk(1000, sorted=False).indices
    dense, scores = [], []
    for some in best.split(50):
        grown = grown_logits(mask_logits[-1][0][some], frame)
        inside = grown > 0
        sureness = (grown.sigmoid() * inside).sum((1, 2)) / (inside.sum((1, 2)) + 1e-6)
        scores.append(probability[some] * sureness)
        dense.append(inside.numpy())
    score = torch.cat(scores)
    order = score.argsort(descending=True).numpy()
    found = model.segment(features, frame)
    assert found == MaskSet.from_masks(np.concatenate(dense)[order]).replace(
        score=score[order].numpy(), parent=found.parent
    )
