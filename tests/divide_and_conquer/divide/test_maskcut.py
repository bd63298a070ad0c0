"""MaskCut on patch grids: parity with the published core, and the divider around it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import timm
import torch

from divide_and_conquer.divide.build import build_divider
from divide_and_conquer.divide.eigenvector import second_eigenpair
from divide_and_conquer.divide.links import build_links, cosine_above
from divide_and_conquer.divide.maskcut import MaskCutDivider, enlarge, sharpen
from divide_and_conquer.divide.ncut import cut_object, maskcut
from divide_and_conquer.features.build import build_features
from unsam.config import get_cfg
from unsam.errors import ConfigError
from unsam.regions.conquer import grid_edges
from unsam.structures import read_photo

DEVICES = [None, "cpu"]


def cases_of(folder):
    """(name, features float32 [N, D], (rows, columns), tau, published arrays) of each case."""
    inputs, outputs = np.load(folder / "inputs.npz"), np.load(folder / "outputs.npz")
    for key in inputs.files:
        if key.endswith("_features"):
            name = key.removesuffix("_features")
            features = inputs[key].astype(np.float32)
            prefix = f"{name}_"
            expected = {
                entry.removeprefix(prefix): outputs[entry]
                for entry in outputs.files
                if entry.startswith(prefix)
            }
            flat = features.reshape(-1, features.shape[2])
            yield name, flat, features.shape[:2], float(inputs[f"{name}_tau"]), expected


def corners_of(height, width):
    return np.array([0, width - 1, (height - 1) * width, height * width - 1])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("pack", ["maskcut"])
def test_golden(pack, device, golden_root):
    for name, features, grid, tau, expected in cases_of(golden_root / pack):
        corners, edges = corners_of(*grid), grid_edges(*grid)
        masks = expected["masks"].astype(bool).reshape(-1, len(features))
        linked = cosine_above(features, tau, device)
        assert np.array_equal(linked.sum(axis=1), expected["affinity_ones_per_row"])
        painted, sign_matters = np.zeros(len(features), bool), False
        for index, theirs in enumerate(expected["eigenvectors"]):
            linked[painted] = linked[:, painted] = tau < 0
            value, ours = second_eigenpair(build_links(linked, device))
            if index == 0:
                assert abs(value - expected["eigenvalues0to2"][1]) < 1e-8
            oriented = ours * np.sign(ours @ theirs)
            assert np.abs(oriented - theirs).max() < 1e-5 * np.abs(theirs).max(), (name, index)
            found = cut_object(oriented, edges, corners)
            if masks[index].any():
                assert np.array_equal(found & ~painted, masks[index]), (name, index)
                painted |= found
            sign_matters |= not np.array_equal(cut_object(ours, edges, corners), found)
        # Where both signs give the same cut, and only there, the solver's free choice is moot.
        if not sign_matters:
            result = maskcut(features, edges, corners, tau=tau, rounds=len(masks), device=device)
            assert np.array_equal(result, masks), name


@pytest.mark.parametrize("pack", ["maskcut"])
def test_more_objects_leave_the_first_unchanged(pack, golden_root):
    for _, features, grid, tau, _ in cases_of(golden_root / pack):
        graph = (features, grid_edges(*grid), corners_of(*grid))
        many = maskcut(*graph, tau=tau, rounds=8)
        assert (many.sum(axis=0) <= 1).all()
        for rounds in (1, 2, 5):
            assert np.array_equal(maskcut(*graph, tau=tau, rounds=rounds), many[:rounds])


class MeanColours:
    """Centred mean colours of cells, in place of a ViT."""

    def __init__(self, cells=30):
        self.cells = cells

    def __call__(self, photo):
        small = cv2.resize(photo, (self.cells, self.cells), interpolation=cv2.INTER_AREA)
        lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float32)
        return lab - lab.mean(axis=(0, 1))

    def batch(self, photos):
        return [self(photo) for photo in photos]


def divider(**options):
    settings = {"input_size": 240, "tau": 0.2, "max_objects": 3, "crf": False} | options
    return MaskCutDivider(MeanColours(), **settings)


def two_disks(height=90, width=150):
    """A photo of two disks on grey, and their masks."""
    y, x = np.mgrid[:height, :width]
    first = (y - 35) ** 2 + (x - 40) ** 2 < 22**2
    second = (y - 50) ** 2 + (x - 110) ** 2 < 18**2
    photo = np.full((height, width, 3), 110, np.uint8)
    photo[first], photo[second] = (200, 40, 30), (20, 60, 220)
    noise = np.random.default_rng(0).integers(-6, 7, photo.shape)
    return (photo + noise).astype(np.uint8), (first, second)


def best_iou(mask, masks):
    return max((mask & other).sum() / (mask | other).sum() for other in masks)


@pytest.mark.parametrize("crf", [False, True])
def test_objects_of_a_photo(crf):
    photo, disks = two_disks()
    found = divider(crf=crf)(photo)
    assert found.size == photo.shape[:2]
    assert set(found.source) == {"divide"}
    assert (found.score > 0).all()
    dense = found.masks().astype(bool)
    assert (dense.sum(axis=0) <= 1).all()
    assert all(best_iou(disk, dense) > (0.9 if crf else 0.7) for disk in disks)


def test_the_crf_only_sharpens_what_it_keeps(data_root):
    photo = read_photo(data_root / "bsds500" / "images" / "val" / "3096.jpg")
    plain = divider(input_size=120, max_objects=2)(photo)
    sharp = divider(input_size=120, max_objects=2, crf=True)(photo)
    assert 1 <= len(sharp) <= len(plain)
    assert (sharp.iou(plain).max(axis=1) > 0.4).all()


def test_sharpening_drops_what_the_crf_carries_away():
    photo, (disk, _) = two_disks()
    thin = np.zeros_like(disk)
    thin[5, 5:100] = True
    kept = sharpen(photo, np.stack([thin, disk]))
    assert len(kept) == 1
    assert best_iou(disk, kept) > 0.9


def test_nothing_to_cut():
    flat = np.full((40, 60, 3), 128, np.uint8)
    found = divider(crf=True, input_size=60)(flat)
    assert found.size == (40, 60)
    assert len(found) <= 3


def test_enlarging_repeats_cells():
    masks = np.random.default_rng(0).random((2, 6, 6)) > 0.5
    assert np.array_equal(enlarge(masks, 24), masks.repeat(4, axis=1).repeat(4, axis=2))
    assert enlarge(masks, 25).shape == (2, 25, 25)


def test_from_config(tmp_path):
    weights = timm.create_model("vit_small_patch16_224", num_classes=0).state_dict()
    torch.save(weights, tmp_path / "dino.pth")
    cfg = get_cfg()
    cfg.DEVICE = "cpu"
    node = cfg.PSEUDO_MASKS
    node.DIVIDE.NAME = "maskcut"
    node.DIVIDE.MAX_OBJECTS, node.DIVIDE.MASKCUT.INPUT_SIZE = 2, 96
    node.DIVIDE.MASKCUT.CRF = False
    node.FEATURES.VIT.ARCHITECTURE = "vit_small_patch16_224"
    with pytest.raises(ConfigError, match=r"FEATURES\.VIT\.WEIGHTS"):
        build_divider(cfg, build_features(cfg))
    node.FEATURES.VIT.WEIGHTS = str(tmp_path / "dino.pth")
    built = build_divider(cfg, build_features(cfg))
    photo, _ = two_disks()
    assert built.features(photo).shape == (6, 6, 384)
    assert len(built(photo)) <= 2
    assert MaskCutDivider.from_config(cfg, built.features).features.model is built.features.model
