"""The adapter hands CascadePSP what UnSAM does, and says what is missing."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest

from divide_and_conquer.refine.acceptance import RefineReport
from divide_and_conquer.refine.build import build_refiner
from unsam.config import get_cfg
from unsam.errors import CheckpointError, ConfigError
from unsam.structures import MaskSet

WEIGHTS = b"weights of people"


class FakeRefiner:
    """Records what it gets; answers with the mask in grey levels around the threshold."""

    def __init__(self, device, model_folder, download_and_check_model):
        assert not download_and_check_model
        content = (Path(model_folder) / "model").read_bytes()
        if content != WEIGHTS:
            raise RuntimeError("invalid load key,\n'x'.")
        self.device = device
        self.calls = []

    def refine(self, image, mask, fast=False, L=900):
        self.calls.append((image, mask, fast, L))
        if mask.sum() == 255 * 36:
            raise RuntimeError("does not like squares of 6")
        return np.where(mask > 0, 129, 128).astype(np.uint8)


@pytest.fixture
def package(monkeypatch):
    module = types.ModuleType("segmentation_refinement")
    module.Refiner = FakeRefiner
    monkeypatch.setitem(sys.modules, "segmentation_refinement", module)


def config(weights):
    cfg = get_cfg()
    cfg.DEVICE = "cpu"
    cfg.PSEUDO_MASKS.REFINE.NAME = "cascadepsp"
    cfg.PSEUDO_MASKS.REFINE.CASCADEPSP.WEIGHTS = str(weights)
    return cfg


@pytest.fixture
def cfg(tmp_path, package):
    path = tmp_path / "cascade.pth"
    path.write_bytes(WEIGHTS)
    return config(path)


@pytest.fixture
def photo():
    return np.random.default_rng(0).integers(0, 255, (300, 2400, 3), np.uint8)


def boxes(size, *corners):
    dense = np.zeros((len(corners), *size), bool)
    for mask, (left, top, right, bottom) in zip(dense, corners, strict=True):
        mask[top:bottom, left:right] = True
    return MaskSet.from_masks(dense)


def test_crops_sizes_and_channels(cfg, photo):
    refiner = build_refiner(cfg)
    assert refiner.supervised is True
    masks = boxes(
        photo.shape[:2],
        (101, 50, 131, 70),
        (0, 280, 21, 300),
        (100, 100, 1800, 200),
        (9, 9, 15, 15),
    )
    out, report = refiner(photo, masks)
    assert report == RefineReport(refined=3, failed=1)
    assert out == masks
    expected = [
        # Twice the longer side around the centre (116, 60), which is 60: enlarged to 100.
        (np.s_[30:90, 86:146], 100),
        # Centre (10.5, 290), half side 21, cut at the photo's corner.
        (np.s_[269:300, 0:31], 100),
        # Half side 1700 around (950, 150): cut; the longer side of 2400 is reduced to 900.
        (np.s_[0:300, 0:2400], 900),
    ]
    for (place, size), call, index in zip(expected, refiner.network.calls, range(3), strict=False):
        image, mask, fast, longer = call
        assert np.array_equal(image, photo[place])
        assert np.array_equal(mask, masks.mask(index)[place] * np.uint8(255))
        assert mask.dtype == np.uint8
        assert fast is True
        assert longer == size


def test_published_mode_exchanges_the_channels(cfg, photo):
    cfg.PSEUDO_MASKS.COMPAT = "published"
    refiner = build_refiner(cfg)
    refiner(photo, boxes(photo.shape[:2], (100, 100, 200, 200)))
    image = refiner.network.calls[0][0]
    assert np.array_equal(image, photo[50:250, 50:250, ::-1])


def test_missing_package_and_weights_say_what_to_do(monkeypatch, package, tmp_path):
    for name in ("", str(tmp_path / "none.pth"), str(tmp_path)):
        with pytest.raises(ConfigError, match=r"WEIGHTS: no file.*trained on human masks"):
            build_refiner(config(name))
    monkeypatch.setitem(sys.modules, "segmentation_refinement", None)
    with pytest.raises(ConfigError, match=r"pip install segmentation-refinement.*human masks"):
        build_refiner(config(tmp_path / "any.pth"))


def test_wrong_weights_name_the_file_in_one_line(cfg, tmp_path):
    (tmp_path / "cascade.pth").write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match=r"cascade\.pth: no weights of CascadePSP") as caught:
        build_refiner(cfg)
    assert "\n" not in str(caught.value)


def test_bounds_are_checked(cfg):
    cfg.PSEUDO_MASKS.REFINE.CASCADEPSP.MIN_SIZE = 1000
    with pytest.raises(ConfigError, match="MIN_SIZE <= MAX_SIZE"):
        build_refiner(cfg)
