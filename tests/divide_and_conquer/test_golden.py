"""Parity of conquer with what the published code gave on stored inputs (golden pack)."""

from __future__ import annotations

import json

import numpy as np
import pytest

from divide_and_conquer.bicubic_masks import upscale_grids
from divide_and_conquer.granularity import granularity
from divide_and_conquer.grid_conquer import (
    clusters,
    conquer_instance,
    instance_box,
    protected_nms,
)
from unsam.structures import MaskSet

# The settings of every case of the pack `conquer`.
MIN_PATCHES = 4
MIN_COVERAGE = 0.9


def cases_of(inputs):
    """The cases of a pack with their NMS threshold: each system has its own."""
    names = [key.removesuffix("_features") for key in inputs.files if key.endswith("_features")]
    return [(name, 0.8 if name.startswith("unsamv2") else 0.9) for name in names]


def emitted_levels(features, thresholds):
    """The clusters of each threshold that leaves any, in the order of the released code."""
    grids, emitted = clusters(features, thresholds, MIN_PATCHES, published=True)
    return [grids[level] for level in emitted if len(level)]


def check_levels(folder):
    inputs, outputs = np.load(folder / "inputs.npz"), np.load(folder / "outputs.npz")
    for case, _ in cases_of(inputs):
        features = inputs[f"{case}_features"].astype(np.float32)
        thresholds = inputs[f"{case}_thresholds"]
        levels = emitted_levels(features, thresholds)
        assert len(levels) == int(outputs[f"{case}_levels"])
        assert [len(level) for level in levels] == outputs[f"{case}_level_counts"].tolist()
        for index, grids in enumerate(levels):
            assert np.array_equal(grids, outputs[f"{case}_level{index}"].astype(bool))
        if f"{case}_levels_after_threshold" in outputs:
            after = [
                len(emitted_levels(features, thresholds[: done + 1]))
                for done in range(len(thresholds))
            ]
            assert after == outputs[f"{case}_levels_after_threshold"].tolist()
    assert len(emitted_levels(np.ones((8, 8, 64)), [0.9, 0.5])) == int(outputs["constant_levels"])
    halves = np.ones((8, 8, 64), np.float32)
    halves[:, 4:, 32:] = -1
    levels = emitted_levels(halves, [0.9, 0.5, -0.5])
    assert [len(grids) for grids in levels] == outputs["halves_level_counts"].tolist()
    expected = {grid.tobytes() for grid in outputs["halves_level0"].astype(bool)}
    assert {grid.tobytes() for grid in levels[0]} == expected


def check_masks(folder):
    """Crop, resize, coverage and both suppressions, mask by mask and in order."""
    inputs, outputs = np.load(folder / "inputs.npz"), np.load(folder / "outputs.npz")
    masks = json.loads((folder / "masks.json").read_text())
    instance = MaskSet.from_masks(inputs["instance"][None])
    for case, nms_iou in cases_of(inputs):
        x0, y0, x1, y1 = box = instance_box(instance, published=True)
        assert [y0, y1, x0, x1] == outputs[f"{case}_bbox"].tolist()
        features = inputs[f"{case}_features"].astype(np.float32)
        thresholds = inputs[f"{case}_thresholds"]
        grids, emitted = clusters(features, thresholds, MIN_PATCHES, published=True)
        raw = np.concatenate(emitted)
        coverage = upscale_grids(grids, box, instance, MIN_COVERAGE).coverage[raw]
        assert np.allclose(coverage, outputs[f"{case}_coverage"], rtol=0, atol=1e-9)
        assert (coverage > MIN_COVERAGE).sum() == int(outputs[f"{case}_n_covered"])
        crop = MaskSet.from_masks(np.ones((1, y1 - y0, x1 - x0), bool))
        stored = [index for index in range(2) if f"{case}_resized{index}" in masks]
        assert len(stored) == min(len(raw), 2)
        for index in stored:
            found = upscale_grids(grids[raw[[index]]], (0, 0, x1 - x0, y1 - y0), crop, 0.0).masks
            expected = masks_of(masks[f"{case}_resized{index}"], crop.size)
            assert np.array_equal(found.runs, expected.runs)

        def conquer(threshold, features=features, thresholds=thresholds):
            return conquer_instance(
                features,
                instance,
                thresholds=thresholds,
                min_patches=MIN_PATCHES,
                min_coverage=MIN_COVERAGE,
                nms_iou=threshold,
                published=True,
            )

        expected = masks_of(masks[f"{case}_kept"], instance.size)
        assert same_masks(conquer(nms_iou), expected)
        if f"{case}_protected" in masks:
            # The pack protects among all covered masks, not among those kept before.
            inner = protected_nms(instance, conquer(1.0), nms_iou=nms_iou, published=True)
            expected = masks_of(masks[f"{case}_protected"], instance.size)
            assert same_masks(MaskSet.cat([instance, inner]), expected)
            scores = granularity(expected.areas, published=True)
            assert np.allclose(scores, outputs[f"{case}_granularity"], rtol=0, atol=1e-6)


def masks_of(rles, size):
    return MaskSet.from_rles(size, rles if isinstance(rles, list) else [rles])


def same_masks(found, expected):
    return np.array_equal(found.offsets, expected.offsets) and np.array_equal(
        found.runs, expected.runs
    )


def check_granularity(folder):
    outputs = np.load(folder / "outputs.npz")
    cases = [key for key in outputs.files if key.startswith("gran") and key.endswith("_areas")]
    assert cases
    for case in cases:
        areas, expected = outputs[case], outputs[case.replace("_areas", "_scores")]
        ours = granularity(areas, published=True)
        assert np.allclose(ours, expected, rtol=0, atol=1e-6), (areas, ours, expected)
        # Where nothing is degenerate, the published scalar is our formula without its cap.
        if areas.min() > 0:
            assert np.allclose(granularity(areas, fine_share=1.0), expected, rtol=0, atol=1e-5)


CHECKS = [check_levels, check_masks, check_granularity]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("pack", ["conquer"])
def test_golden(pack, check, golden_root):
    check(golden_root / pack)
