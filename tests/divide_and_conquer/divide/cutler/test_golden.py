"""Parity with the published detector on the stored photo, stage by stage, by random weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from divide_and_conquer.divide.cutler.boxes import clip
from divide_and_conquer.divide.cutler.divider import (
    CutlerDivider,
    boxes_in_photo,
    in_photo,
    resized,
)
from tests.divide_and_conquer.divide.cutler.conftest import recipe_net
from unsam.structures import MaskSet, read_photo

# What the pack's README states.
MAP_TOLERANCE = 1e-4
BOX_TOLERANCE = 0.05
LOGIT_TOLERANCE = 1e-3
SCORE_TOLERANCE = 1e-4
MASK_IOU = 0.99
MISSING_SHARE = 0.01
SCORE_THRESHOLD = 0.1
MAP_STEPS = dict(res2=16, res3=16, res4=4, res5=4, p2=8, p3=4, p4=2, p5=1, p6=1)
# The stored probabilities are float16, of boxes that may be off by BOX_TOLERANCE.
PROBABILITY_TOLERANCE = 5e-3


def check_map(name, ours, outputs):
    """One feature map ``[1, C, H, W]`` against its statistics and its strided slice."""
    ours, step = ours[0].numpy().astype(np.float64), MAP_STEPS[name]
    stats, expected = outputs[f"{name}_stats"], outputs[f"{name}_sub"]
    tolerance = MAP_TOLERANCE * stats[2]
    found = [ours.mean(), ours.std(ddof=1), np.abs(ours).max()]
    assert np.allclose(found, stats, rtol=0, atol=tolerance), name
    part = ours[:: len(ours) // len(expected), ::step, ::step]
    assert part.shape == expected.shape, name
    assert np.abs(part - expected).max() <= tolerance, name


def check_matched(name, boxes, values, expected_boxes, expected_values, tolerance):
    """Match by box and value; return which of ours each expected one is, and which agree."""
    box_distance = torch.cdist(
        torch.from_numpy(expected_boxes).double(), torch.from_numpy(boxes).double(), p=torch.inf
    ).numpy()
    value_distance = np.abs(expected_values[:, None] - values[None, :])
    match = (box_distance / BOX_TOLERANCE + value_distance / tolerance).argmin(axis=1)
    row = np.arange(len(match))
    agree = (box_distance[row, match] <= BOX_TOLERANCE) & (value_distance[row, match] <= tolerance)
    missing = int((~agree).sum())
    assert missing <= np.ceil(MISSING_SHARE * len(agree)), f"{name}: {missing} of {len(agree)}"
    return match, agree


def run(divider, image):
    """Return the detections, and what passed between the parts of the net on the way."""
    seen = {}
    net = divider.net
    parts = {"stages": net.backbone.bottom_up, "proposals": net.proposal_generator}
    hooks = [
        part.register_forward_hook(
            lambda _, inputs, output, name=name: seen.update({name: (inputs, output)})
        )
        for name, part in parts.items()
    ]
    detections = divider.detect([image])[0]
    for hook in hooks:
        hook.remove()
    (batch,), stages = seen["stages"]
    (levels, _), proposals = seen["proposals"]
    return detections, batch, stages, levels, proposals[0]


@pytest.mark.parametrize("pack", ["cutler"])
def test_golden(pack, golden_root):
    folder = golden_root / pack
    outputs = np.load(folder / "outputs.npz")
    photo = read_photo(folder / "photo.png")
    limit = len(outputs["scores"])
    net = recipe_net(folder)
    divider = CutlerDivider(
        net, device="cpu", score_threshold=SCORE_THRESHOLD, max_detections=max(limit, 100)
    )

    image = resized(photo, 800, 1333)
    size = image.shape[:2]
    assert size == tuple(outputs["net_hw"])
    assert np.array_equal(image[::16, ::16], outputs["net_input_uint8_sub"])
    assert np.allclose(image.mean(axis=(0, 1)), outputs["net_input_mean"], rtol=0, atol=1e-6)

    detections, batch, stages, levels, (boxes, logits) = run(divider, image)
    assert batch.shape[2:] == tuple(outputs["padded_hw"])
    maps = stages | {f"p{index}": level for index, level in enumerate(levels, start=2)}
    for name in MAP_STEPS:
        check_map(name, maps[name], outputs)

    with torch.inference_mode():
        count = int(outputs["n_proposals"])
        assert abs(len(boxes) - count) <= np.ceil(MISSING_SHARE * count)
        first = outputs["proposal_boxes"], outputs["proposal_logits"]
        check_matched("proposals", boxes.numpy(), logits.numpy(), *first, LOGIT_TOLERANCE)

        # Each stage starts from the stored boxes, so that one stage's rounding stays its own.
        start = torch.from_numpy(outputs["proposal_boxes"])
        for index in range(3):
            logits, mended = net.roi_heads.stage(index, levels, [start])
            expected = outputs[f"stage{index}_boxes"]
            stored = outputs[f"stage{index}_class_logits"]
            assert np.abs(logits.numpy() - stored).max() <= LOGIT_TOLERANCE, index
            assert np.abs(mended.numpy() - expected).max() <= BOX_TOLERANCE, index
            start = clip(torch.from_numpy(expected), size)

    boxes, kept = boxes_in_photo(detections.boxes, size, photo.shape[:2])
    scores, expected = detections.scores[kept].numpy(), (outputs["boxes"], outputs["scores"])
    assert abs(len(boxes) - limit) <= np.ceil(MISSING_SHARE * limit)
    match, agree = check_matched("final", boxes.numpy(), scores, *expected, SCORE_TOLERANCE)

    probabilities = detections.masks[kept].numpy()
    for index, stored in enumerate(outputs["masks28"].astype(np.float32)):
        if agree[index]:
            difference = np.abs(probabilities[match[index]] - stored).max()
            assert difference <= PROBABILITY_TOLERANCE, index
    masks = in_photo(detections, size, photo.shape[:2])
    rles = json.loads((folder / "masks.json").read_text())["masks"]
    stored = MaskSet.from_rles(photo.shape[:2], rles)
    iou = stored.iou(masks)[np.arange(len(stored)), match]
    both_empty = (stored.areas == 0) & (masks.areas[match] == 0)
    assert ((iou >= MASK_IOU) | both_empty)[agree].all()
