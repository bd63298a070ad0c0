"""Parity with what the published code gave on stored inputs (the golden packs)."""

from __future__ import annotations

import numpy as np
import pytest

from divide_and_conquer.conquer import grid_edges, merge_regions
from divide_and_conquer.divide.ncut import affinity, maskcut, second_eigenvector
from divide_and_conquer.granularity import granularity

MIN_PATCHES = 4


def emitted_levels(features, thresholds):
    """The masks that UnSAM emits per threshold: clusters of 4 patches that have a neighbour."""
    height, width, dims = features.shape
    edges = grid_edges(height, width)
    result = merge_regions(features.reshape(-1, dims), None, edges, thresholds)
    levels = []
    for count in result.counts:
        labels = result.labels(count)
        ends = labels[edges]
        touching = np.unique(ends[ends[:, 0] != ends[:, 1]])
        masks = {
            (labels == node).tobytes() for node in touching if (labels == node).sum() >= MIN_PATCHES
        }
        if masks:
            levels.append(masks)
    return levels


def check_conquer(folder):
    inputs, outputs = np.load(folder / "inputs.npz"), np.load(folder / "outputs.npz")
    for case in ("unsam_a", "unsam_b", "unsamv2_a", "unsamv2_b"):
        features = inputs[f"{case}_features"].astype(np.float32)
        levels = emitted_levels(features, inputs[f"{case}_thresholds"])
        assert len(levels) == int(outputs[f"{case}_levels"])
        for index, masks in enumerate(levels):
            expected = outputs[f"{case}_level{index}"].astype(bool)
            assert masks == {mask.reshape(-1).tobytes() for mask in expected}
    assert len(emitted_levels(np.ones((8, 8, 64)), [0.9, 0.5])) == int(outputs["constant_levels"])
    halves = np.ones((8, 8, 64), np.float32)
    halves[:, 4:, 32:] = -1
    levels = emitted_levels(halves, [0.9, 0.5, -0.5])
    assert [len(masks) for masks in levels] == outputs["halves_level_counts"].tolist()
    expected = outputs["halves_level0"].astype(bool)
    assert levels[0] == {mask.reshape(-1).tobytes() for mask in expected}


def check_maskcut(folder):
    inputs, outputs = np.load(folder / "inputs.npz"), np.load(folder / "outputs.npz")
    for case in ("plain", "corner", "noisy", "plain2"):
        features = inputs[f"{case}_features"].astype(np.float32)
        height, width, dims = features.shape
        flat = features.reshape(-1, dims)
        corners = np.array([0, width - 1, (height - 1) * width, height * width - 1])
        tau = float(inputs[f"{case}_tau"])
        found = maskcut(flat, grid_edges(height, width), corners, tau=tau, rounds=3)
        expected = outputs[f"{case}_masks"].astype(bool)
        assert np.array_equal(found.reshape(expected.shape), expected), case
        matrix = affinity(flat / np.linalg.norm(flat, axis=1, keepdims=True), tau)
        per_row = outputs[f"{case}_affinity_ones_per_row"]
        assert np.array_equal((matrix == 1).sum(axis=1), per_row)
        ours, theirs = second_eigenvector(matrix), outputs[f"{case}_eigenvectors"][0]
        theirs = theirs * np.sign(theirs[np.abs(theirs).argmax()])
        ours = ours / np.sqrt((ours**2) @ matrix.sum(axis=1))
        assert np.abs(ours - theirs).max() < 1e-5 * np.abs(theirs).max()


def check_granularity(folder):
    """The published formula, where no two masks share the smallest area."""
    outputs = np.load(folder / "outputs.npz")
    for index in range(7):
        areas, expected = outputs[f"gran{index}_areas"], outputs[f"gran{index}_scores"]
        unique_smallest = (areas == areas.min()).sum() == 1 or areas.min() == areas.max()
        if areas.min() > 0 and unique_smallest:
            ours = granularity(areas, fine_share=1.0)
            assert np.allclose(ours, expected, atol=1e-5), (areas, ours, expected)


CHECKS = {
    "conquer": ("conquer", check_conquer),
    "maskcut": ("maskcut", check_maskcut),
    "granularity": ("conquer", check_granularity),
}


@pytest.mark.parametrize("pack", CHECKS)
def test_golden(pack, golden_root):
    folder, check = CHECKS[pack]
    check(golden_root / folder)
