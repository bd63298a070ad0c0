"""The lattice is a Gaussian filter: linear, symmetric, and near the exact sum."""

from __future__ import annotations

import numpy as np
import pytest

from divide_and_conquer.refine.permutohedral import PermutohedralLattice


def pixels(height, width, sigma):
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([x.reshape(-1), y.reshape(-1)], axis=1) / sigma


def exact(positions, values):
    distance = ((positions[:, None] - positions[None]) ** 2).sum(axis=2)
    return np.exp(-distance / 2) @ values


@pytest.mark.parametrize("dims", [1, 2, 3, 5])
def test_weights_are_barycentric(dims):
    positions = np.random.default_rng(dims).normal(0, 3, (500, dims))
    lattice = PermutohedralLattice.build(positions)
    assert lattice.vertices.shape == lattice.weights.shape == (500, dims + 1)
    assert np.allclose(lattice.weights.sum(axis=1), 1, atol=1e-5)
    assert lattice.weights.min() > -1e-5
    assert lattice.vertices.min() >= 1
    assert lattice.vertices.max() == lattice.neighbours.shape[1] - 1
    # All corners of a simplex are different vertices.
    ordered = np.sort(lattice.vertices, axis=1)
    assert (ordered[:, 1:] != ordered[:, :-1]).all()


@pytest.mark.parametrize("dims", [2, 5])
def test_neighbours_point_at_each_other(dims):
    positions = np.random.default_rng(0).normal(0, 2, (400, dims))
    neighbours = PermutohedralLattice.build(positions).neighbours
    for axis in range(dims + 1):
        for side in (0, 1):
            near = neighbours[axis, :, side]
            there = np.flatnonzero(near)
            assert (neighbours[axis, near[there], 1 - side] == there).all()
    assert neighbours[:, 1:].any(axis=(0, 2)).any()
    assert not neighbours[:, 0].any()


def test_a_point_makes_a_gaussian_bump_of_unit_deviation():
    positions = pixels(61, 61, 6.0)
    impulse = np.zeros((61 * 61, 1), np.float32)
    impulse[30 * 61 + 30] = 1
    bump = PermutohedralLattice.build(positions).filter(impulse)[:, 0]
    center = (bump[:, None] * positions).sum(axis=0) / bump.sum()
    spread = (bump[:, None] * (positions - center) ** 2).sum(axis=0) / bump.sum()
    assert np.allclose(center, 5, atol=0.1)
    assert np.allclose(spread, 1, atol=0.1)


def test_averages_are_near_the_exact_gaussian():
    rng = np.random.default_rng(0)
    color = np.cumsum(rng.normal(0, 0.15, (900, 1)), axis=0)
    positions = np.concatenate([pixels(30, 30, 4.0), color], axis=1)
    values = np.stack([rng.random(900), np.ones(900)], axis=1).astype(np.float32)
    ours = PermutohedralLattice.build(positions).filter(values)
    theirs = exact(positions, values)
    error = ours[:, 0] / ours[:, 1] - theirs[:, 0] / theirs[:, 1]
    assert np.abs(error).mean() < 0.02


def test_filter_is_linear_and_channels_are_independent():
    rng = np.random.default_rng(0)
    lattice = PermutohedralLattice.build(rng.normal(0, 1, (300, 3)))
    values = rng.random((300, 4)).astype(np.float32)
    together = lattice.filter(values)
    for channel in range(4):
        alone = lattice.filter(values[:, channel : channel + 1])
        assert np.array_equal(alone[:, 0], together[:, channel])
    assert np.allclose(lattice.filter(2 * values[:, :1]), 2 * together[:, :1], rtol=1e-5)


def test_scaled_weighs_input_and_output():
    rng = np.random.default_rng(0)
    lattice = PermutohedralLattice.build(rng.normal(0, 1, (200, 2)))
    factor = rng.random(200)
    values = rng.random((200, 1)).astype(np.float32)
    expected = factor[:, None] * lattice.filter((factor[:, None] * values).astype(np.float32))
    assert np.allclose(lattice.scaled(factor).filter(values), expected, rtol=1e-4)


def test_the_table_grows_with_the_vertices():
    # Far apart, each point has corners of its own: far more than the table starts with.
    positions = np.arange(30_000, dtype=np.float32)[:, None] * np.array([[10.0, 3.0, 1.0]])
    lattice = PermutohedralLattice.build(positions)
    assert lattice.neighbours.shape[1] - 1 == 30_000 * 4
    values = np.ones((30_000, 1), np.float32)
    blurred = lattice.filter(values)
    assert blurred.min() > 0


@pytest.mark.parametrize("positions", [np.zeros((0, 2)), np.zeros(5), np.zeros((3, 0))])
def test_nothing_to_filter_is_a_programming_error(positions):
    with pytest.raises(ValueError, match="positions must be"):
        PermutohedralLattice.build(positions)


def test_positions_that_cannot_be_numbered_are_refused():
    wide = np.array([[0.0] * 5, [1e5] * 5])
    with pytest.raises(ValueError, match="spread too far"):
        PermutohedralLattice.build(wide)
