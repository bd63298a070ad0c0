from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from divide_and_conquer.divide.build import build_divider
from divide_and_conquer.divide.cutler.detector import CascadeMaskRcnn
from divide_and_conquer.divide.cutler.divider import CutlerDivider, input_size, resized
from divide_and_conquer.features.build import build_features
from unsam.config import get_cfg
from unsam.errors import CheckpointError, ConfigError


@pytest.fixture
def small(net):
    """The detector on small images, for speed."""
    return CutlerDivider(net, device="cpu", score_threshold=0.1, short_side=128, long_side=224)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((481, 321), (1199, 800)),
        ((321, 481), (800, 1199)),
        ((800, 1600), (667, 1333)),
        ((2000, 2000), (800, 800)),
        ((1, 1), (800, 800)),
        ((1, 5000), (1, 1333)),
    ],
)
def test_input_size(size, expected):
    assert input_size(size, 800, 1333) == expected


def test_resize_keeps_plain_colours():
    photo = np.full((30, 50, 3), (10, 200, 77), np.uint8)
    assert (resized(photo, 64, 100) == (10, 200, 77)).all()


def test_detections_are_masks_of_the_photo(small, photos):
    masks = small(photos[0])
    assert masks.size == photos[0].shape[:2]
    assert 0 < len(masks) <= 100
    assert (masks.areas > 0).all()
    assert (masks.score > 0.1).all()
    assert (masks.score[:-1] >= masks.score[1:]).all()
    assert set(masks.source) == {"divide"}
    assert small(photos[0]) == masks


def test_a_photo_finds_the_same_in_any_company(small, photos):
    """Also beside photos of other sizes, for each padded size goes through the net by itself."""
    photos = [photos[0], photos[0][:, ::-1].copy(), photos[0][:, :200]]
    for masks, photo in zip(small.batch(photos), photos, strict=True):
        alone = small(photo)
        assert masks.size == photo.shape[:2]
        assert abs(len(masks) - len(alone)) <= 1
        best = alone.iou(masks)
        match = best.argmax(axis=1)
        agree = best.max(axis=1) >= 0.99
        agree &= np.abs(alone.score - masks.score[match]) <= 1e-4
        assert (~agree).sum() <= 1


def test_further_padding_would_change_what_is_found(small, photos):
    """Why photos of different padded sizes are not put into one batch."""
    image = resized(photos[0], 128, 224)
    padded_more = np.zeros((288, 288, 3), np.uint8)
    alone = small.detect([image])[0]
    beside = small.detect([image, padded_more])[0]
    same = len(alone.scores) == len(beside.scores)
    assert not (same and torch.allclose(alone.scores, beside.scores, atol=1e-6))


def test_no_box_repeats_a_better_one(small, photos):
    found = small.detect([resized(photos[0], 128, 224)])[0]
    assert len(found.boxes) > 1
    assert box_iou(found.boxes, found.boxes).fill_diagonal_(0).max() <= 0.5
    assert found.masks.shape == (len(found.boxes), 28, 28)


def test_limits_hold(net, small, photos):
    scores = small(photos[0]).score
    limit = float(scores[3])
    fewer = CutlerDivider(
        net, device="cpu", score_threshold=limit, max_detections=2, short_side=128, long_side=224
    )
    assert np.array_equal(fewer(photos[0]).score, scores[:2])
    fewer.max_detections = 100
    assert np.array_equal(fewer(photos[0]).score, scores[scores > limit])
    fewer.score_threshold = 1.0
    assert len(fewer(photos[0])) == 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 2), (7, 5)])
def test_odd_photos(small, shape):
    photo = np.random.default_rng(0).integers(0, 255, (*shape, 3), np.uint8)
    assert small(photo).size == shape


def test_batch_of_none(small):
    assert small.batch([]) == []


def file_of_constant(value, path):
    """Weights that are all one number, in a small file."""
    with torch.device("meta"):
        own = CascadeMaskRcnn().state_dict()
    state = {
        key: torch.tensor(value if tensor.is_floating_point() else 0, dtype=tensor.dtype).expand(
            tensor.shape
        )
        for key, tensor in own.items()
    }
    torch.save({"model": state}, path)


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_from_config(value, tmp_path, photos):
    cfg = get_cfg()
    cfg.DEVICE = "cpu"
    cfg.PSEUDO_MASKS.DIVIDE.NAME = "cutler"
    node = cfg.PSEUDO_MASKS.DIVIDE.CUTLER
    node.WEIGHTS, node.SHORT_SIDE, node.LONG_SIDE = str(tmp_path / "cutler.pth"), 64, 100
    node.SCORE_THRESHOLD, node.MAX_DETECTIONS = 0.4, 7
    file_of_constant(value, node.WEIGHTS)
    divider = build_divider(cfg, build_features(cfg))
    assert divider is not None
    masks = divider(photos[0])
    # Without any knowledge all boxes are as good as background; broken weights find nothing.
    assert masks.score.tolist() == pytest.approx([0.5] * 7 if value == 0 else [])


def test_errors_name_the_key(tmp_path):
    cfg = get_cfg()
    cfg.PSEUDO_MASKS.DIVIDE.CUTLER.WEIGHTS = str(tmp_path / "nothing.pth")
    with pytest.raises(CheckpointError, match=r"^PSEUDO_MASKS.DIVIDE.CUTLER.WEIGHTS: .*nothing"):
        CutlerDivider.from_config(cfg)
    cfg.PSEUDO_MASKS.DIVIDE.CUTLER.SHORT_SIDE = 0
    with pytest.raises(ConfigError, match=r"CUTLER.SHORT_SIDE: 0"):
        CutlerDivider.from_config(cfg)
    cfg.PSEUDO_MASKS.DIVIDE.CUTLER.SHORT_SIDE = 800
    cfg.PSEUDO_MASKS.DIVIDE.CUTLER.SCORE_THRESHOLD = 1.5
    with pytest.raises(ConfigError, match=r"CUTLER.SCORE_THRESHOLD: 1.5"):
        CutlerDivider.from_config(cfg)


def test_unknown_device(net):
    with pytest.raises(ConfigError, match="unknown device 'gpu'"):
        CutlerDivider(net, device="gpu")
