"""Parity of the dense CRF with MaskCut's on stored inputs (golden pack ``crf``)."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from divide_and_conquer.refine.crf import dense_crf
from unsam.structures import MaskSet, read_photo

# What the pack's README states.
MIN_IOU = 0.97


@pytest.mark.parametrize("pack", ["crf"])
def test_golden(pack, golden_root):
    folder = golden_root / pack
    outputs = np.load(folder / "outputs.npz")
    (photo_path,) = folder.glob("*.png")
    photo = read_photo(photo_path)
    height, width = photo.shape[:2]
    names = [key.removesuffix("_out") for key in outputs if key.endswith("_out")]
    assert names
    for name in names:
        (key,) = [key for key in outputs if key.startswith(f"{name}_mask")]
        cells = outputs[key].astype(np.float32)
        factors = height // cells.shape[0], width // cells.shape[1]
        enlarged = cells.repeat(factors[0], axis=0).repeat(factors[1], axis=1)
        smooth = cv2.resize(cells, (width, height), interpolation=cv2.INTER_LINEAR)
        found = MaskSet.from_masks(dense_crf(photo, np.stack([enlarged, smooth])))
        plain, lowres = found.filter([0]), found.filter([1])
        results = {
            "out": plain,
            "out_filled": plain.fill_holes(height * width),
            "out_lowres_input": lowres,
        }
        for suffix, ours in results.items():
            theirs = MaskSet.from_masks(outputs[f"{name}_{suffix}"][None])
            assert ours.iou(theirs)[0, 0] >= MIN_IOU, (name, suffix)
