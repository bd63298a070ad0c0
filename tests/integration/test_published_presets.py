"""The published recipes from photo to masks, with weights by recipe in the published layouts."""

from __future__ import annotations

import json

import numpy as np
import pytest
import timm
import torch

from divide_and_conquer.pipeline import build_masker
from tests.golden_weights import recipe_state_dict
from unsam.cli import main
from unsam.config import load_preset
from unsam.structures import MaskSet, read_photo

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def weights(golden_root, tmp_path_factory):
    """Files as they were published: CutLER's, DINO ViT-B/8's, and a small DINOv3's."""
    folder = tmp_path_factory.mktemp("weights")
    torch.save({"model": recipe_state_dict(golden_root / "cutler")}, folder / "cutler.pth")
    torch.save(recipe_state_dict(golden_root / "dino"), folder / "dino.pth")
    torch.manual_seed(0)
    small = timm.create_model("vit_small_patch16_dinov3", num_classes=0)
    torch.save(small.state_dict(), folder / "dinov3.pth")
    return folder


def overrides_for(weights, preset):
    prefix = "PSEUDO_MASKS.FEATURES.VIT."
    if preset == "unsamv2":
        vit = [f"{prefix}WEIGHTS", str(weights / "dinov3.pth"), f"{prefix}INPUT_SIZE", "256",
               f"{prefix}ARCHITECTURE", "vit_small_patch16_dinov3"]  # fmt: skip
    else:
        vit = [f"{prefix}WEIGHTS", str(weights / "dino.pth")]
    cutler = "PSEUDO_MASKS.DIVIDE.CUTLER."
    return [
        *vit,
        *("DEVICE", "cpu"),
        *(f"{cutler}WEIGHTS", str(weights / "cutler.pth")),
        *(f"{cutler}SHORT_SIDE", "320", f"{cutler}MAX_DETECTIONS", "2"),
        *("PSEUDO_MASKS.DIVIDE.MASKCUT.INPUT_SIZE", "160"),
    ]


@pytest.fixture(scope="module")
def photo(data_root):
    return read_photo(data_root / "bsds500/images/val/101085.jpg")[:160, :200]


@pytest.mark.parametrize("compat", ["none", "published"])
@pytest.mark.parametrize("preset", ["unsam", "unsamv2", "maskcut", "vit_regions"])
def test_a_preset_from_photo_to_masks(preset, compat, weights, photo):
    overrides = [*overrides_for(weights, preset), "PSEUDO_MASKS.COMPAT", compat]
    masks = build_masker(load_preset(preset, overrides))(photo, name="photo.jpg")
    assert len(masks) > 0
    assert masks.size == photo.shape[:2]
    assert masks.granularity.min() >= 0.1
    assert masks.granularity.max() == 1
    child = np.flatnonzero(masks.parent >= 0)
    if len(child) and compat == "none":
        assert masks.containment()[child, masks.parent[child]].min() >= 0.9
    if preset in ("unsam", "unsamv2"):
        objects = masks.filter(masks.source == "divide")
        clusters = masks.filter(masks.source == "conquer")
        assert len(objects)
        assert (clusters.containment(objects).max(axis=1) > 0.9).all()


def test_the_command_with_refinement(weights, data_root, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    source = data_root / "bsds500/images/val/101085.jpg"
    (photos / "a.jpg").write_bytes(source.read_bytes())
    words = [
        *("pseudo-masks", "--input", str(photos), "--output", str(tmp_path / "masks")),
        *("--preset", "unsam", "--workers", "1", *overrides_for(weights, "unsam")),
        *("PSEUDO_MASKS.REFINE.NAME", "guided"),
    ]
    assert main(words) == 0
    manifest = json.loads((tmp_path / "masks/manifest.json").read_text())
    assert manifest["failures"] == {}
    assert manifest["supervised"] is False
    assert sum(manifest["refinement"].values()) > 0
    record = json.loads((tmp_path / "masks/a.jpg.json").read_text())
    assert len(MaskSet.from_sa1b(record)) == manifest["images"]["a.jpg"]["masks"] > 0
