from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests.modeling.conftest import draw_blobs, make_sample
from unsam.modeling.automatic_masks import masks_at_photo_size, suppress, upsample
from unsam.modeling.segmentation_model import InputFrame
from unsam.structures import MaskSet

FRAME = InputFrame((96, 128), (48, 64), (48, 64))


def _greedy(masks: np.ndarray, threshold: float) -> list[int]:
    kept: list[int] = []
    for index, mask in enumerate(masks):
        overlaps = [(mask & masks[k]).sum() / max((mask | masks[k]).sum(), 1) for k in kept]
        if all(value <= threshold for value in overlaps):
            kept.append(index)
    return kept


@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_suppression_is_exact_over_all_pairs(threshold):
    generator = np.random.default_rng(0)
    corners = generator.integers(0, 12, (700, 2))
    sizes = generator.integers(2, 9, (700, 2))
    masks = np.zeros((700, 20, 20), bool)
    for mask, (y, x), (h, w) in zip(masks, corners, sizes, strict=True):
        mask[y : y + h, x : x + w] = True
    kept = suppress(torch.from_numpy(masks), threshold, max_masks=1000)
    assert kept.tolist() == _greedy(masks, threshold)
    assert suppress(torch.from_numpy(masks), threshold, 5).tolist() == kept.tolist()[:5]


def test_suppression_of_nothing():
    assert suppress(torch.zeros(0, 4, 4, dtype=torch.bool), 0.5, 10).numel() == 0


@pytest.mark.parametrize(("photo", "seen"), [((321, 481), (171, 256)), ((1, 1), (256, 256))])
def test_upsampling_keeps_positions(photo, seen):
    """A ramp in the resized photo's pixels is the same ramp in the photo's pixels."""
    stride = 4
    h, w = -(-seen[0] // stride), -(-seen[1] // stride)
    x = (torch.arange(w) + 0.5) * stride / seen[1]
    y = (torch.arange(h) + 0.5) * stride / seen[0]
    ramp = x[None, :] + 3 * y[:, None]
    grown = upsample(ramp[None], stride, seen, photo)[0]
    assert grown.shape == photo
    expected = (torch.arange(photo[1]) + 0.5) / photo[1] + 3 * (
        (torch.arange(photo[0]) + 0.5)[:, None] / photo[0]
    )
    cut = slice(4, -8) if photo[0] > 1 else slice(None)
    torch.testing.assert_close(grown[cut, cut], expected[cut, cut], atol=0.01, rtol=0)


def test_masks_of_large_photos_are_those_of_the_small_ones_enlarged():
    logits = torch.randn(3, 12, 16, generator=torch.Generator().manual_seed(0))

    def at_size(some, photo):
        frame = InputFrame(photo, (48, 64), (48, 64))
        return masks_at_photo_size(some, grow, frame, 128)

    def grow(some, frame):
        return upsample(some, 4, frame.input_size, frame.photo_size)

    small, large = at_size(logits, (96, 128)), at_size(logits, (960, 1280))
    assert large.size == (960, 1280)
    assert large == small.resize((960, 1280))
    assert np.array_equal(small.masks(), (upsample(logits, 4, (48, 64), (96, 128)) > 0).numpy())
    assert at_size(logits[:0], (9, 9)) == MaskSet.empty((9, 9))


@pytest.fixture
def blobs(model):
    draw_blobs(model)
    return model.eval()


@torch.no_grad()
def test_results_are_ranked_filtered_and_linked(blobs):
    model = blobs
    image = make_sample(0)["image"]
    images = model.encode([image])

    def run(**changes):
        automatic = dataclasses.replace(model.automatic, **changes)
        return automatic(model, images, FRAME, (0.2, 1.0))

    masks = run(nms_threshold=1.0)
    assert 0 < len(masks) <= 32
    assert (np.diff(masks.score) <= 0).all()
    assert set(np.unique(masks.granularity)) <= {np.float32(0.2), np.float32(1.0)}
    assert (masks.areas > 0).all()
    areas = masks.areas
    for child, parent in enumerate(masks.parent):
        if parent >= 0:
            assert areas[parent] >= areas[child]
            assert masks.containment()[child, parent] >= 0.9
    assert len(run(max_masks=3)) <= 3
    assert len(run(quality_threshold=1.01)) == 0
    least = float(np.median(masks.score))
    assert (run(quality_threshold=least).score >= least).all()
    # Other batches round otherwise in the last bits; the masks are the same.
    small = run(prompts_per_batch=5, nms_threshold=1.0)
    assert (masks.iou(small).max(axis=1) > 0.95).all()
    np.testing.assert_allclose(masks.score, small.score, atol=1e-5)


@torch.no_grad()
def test_unstable_masks_are_dropped(blobs):
    model = blobs
    images = model.encode([make_sample(0)["image"]])
    strict = dataclasses.replace(
        model.automatic, stability_threshold=1.0, stability_offset=1e3, min_cells=0
    )
    # No logit of this model is beyond a thousand: nothing is sure, everything is possible.
    assert len(strict(model, images, FRAME)) == 0


@torch.no_grad()
def test_bfloat16_gives_nearly_the_same_masks(blobs):
    model = blobs
    images = model.encode([make_sample(0)["image"]])
    results = []
    for precision in ("float32", "bfloat16"):
        automatic = dataclasses.replace(model.automatic, precision=precision, nms_threshold=1.0)
        results.append(automatic(model, images, FRAME))
    best = results[0].iou(results[1]).max(axis=1)
    assert np.median(best) > 0.9
    with pytest.raises(ValueError, match="unknown 'half'"):
        dataclasses.replace(model.automatic, precision="half")
