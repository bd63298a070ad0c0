"""Normalised cuts find objects; parity with the published code is in test_maskcut.py."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from divide_and_conquer.divide import eigenvector
from divide_and_conquer.divide.eigenvector import second_eigenpair
from divide_and_conquer.divide.links import (
    WEAK_LINK,
    PackedLinks,
    SparseLinks,
    TorchLinks,
    build_links,
    cosine_above,
)
from divide_and_conquer.divide.ncut import cut_object, maskcut
from unsam.regions.conquer import grid_edges

FORMS = [PackedLinks, SparseLinks, lambda linked: TorchLinks(linked, "cpu")]


def scene(side=24):
    """Two squares of their own feature on a background."""
    rng = np.random.default_rng(0)
    kinds = np.zeros((side, side), int)
    kinds[4:12, 4:12] = 1
    kinds[15:20, 14:20] = 2
    features = np.eye(3)[kinds] + 0.05 * rng.standard_normal((side, side, 3))
    return kinds, features.reshape(-1, 3)


def corners_of(side):
    return np.array([0, side - 1, side * (side - 1), side * side - 1])


def random_links(count, share, seed=0):
    """A symmetric ``bool [count, count]`` with ones on its diagonal."""
    draws = np.random.default_rng(seed).random((count, count))
    return (np.minimum(draws, draws.T) < share / 2) | np.eye(count, dtype=bool)


def test_objects_are_found_one_by_one():
    kinds, features = scene()
    side = len(kinds)
    found = maskcut(features, grid_edges(side, side), corners_of(side), tau=0.3, rounds=3)
    masks = [set(np.flatnonzero(mask)) for mask in found if mask.any()]
    assert set(np.flatnonzero(kinds == 1)) in masks
    assert set(np.flatnonzero(kinds == 2)) in masks
    assert (found.sum(axis=0) <= 1).all()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_regions(count):
    edges = grid_edges(1, count)
    found = maskcut(np.ones((count, 2)), edges, np.zeros(4, int), tau=0.2, rounds=2)
    assert found.shape == (2, count)


def test_regions_count_by_their_size():
    """One region in a hundred is an object only if it covers over 1 % of the photo."""
    features = np.zeros((100, 3))
    features[:, 0] = 1
    features[44], features[[66, 67, 76, 77]] = (0, 1, 0), (0, 0, 1)
    grid = (grid_edges(10, 10), corners_of(10))
    cut = lambda sizes: maskcut(features, *grid, tau=0.3, rounds=2, sizes=sizes)  # noqa: E731
    sizes = np.ones(100)
    assert not cut(sizes)[1].any() or cut(sizes)[1].sum() > 1
    sizes[44] = 30
    assert any(np.array_equal(np.flatnonzero(mask), [44]) for mask in cut(sizes))


@pytest.mark.parametrize("count", [2, 7, 8, 33, 260])
@pytest.mark.parametrize("share", [0.01, 0.4, 1.0])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_multiplies_alike(form, count, share):
    linked = random_links(count, share)
    links = form(linked)
    vector = np.random.default_rng(1).standard_normal(count)
    expected = np.where(linked, 1.0, WEAK_LINK) @ vector
    assert np.allclose(links.times(vector), expected, rtol=0, atol=1e-12 * count)
    assert np.array_equal(links.linked(), linked)


@pytest.mark.parametrize("share", [0.004, 0.02, 0.2, 0.7])
@pytest.mark.parametrize("count", [50, 420])
def test_eigenpair_is_lapacks(count, share):
    linked = random_links(count, share)
    value, vector = second_eigenpair(build_links(linked))
    matrix = np.where(linked, 1.0, WEAK_LINK)
    degrees = np.diag(matrix.sum(axis=1))
    values, vectors = scipy.linalg.eigh(degrees - matrix, degrees, subset_by_index=[1, 2])
    assert abs(value - values[0]) < 1e-8
    assert abs(vector @ degrees @ vector - 1) < 1e-9
    if values[1] - values[0] > 1e-6:
        expected = vectors[:, 0] * np.sign(vectors[:, 0] @ vector)
        assert np.abs(vector - expected).max() < 1e-5 * np.abs(expected).max()


def test_blanked_regions_and_whole_objects_do_not_stop_the_solver():
    """Twins (blanked, or of one object) make eigenvalues of high multiplicity."""
    linked = np.zeros((300, 300), bool)
    linked[:120, :120] = True
    linked[120:150, 120:150] = True
    value, vector = second_eigenpair(build_links(linked))
    matrix = np.where(linked, 1.0, WEAK_LINK)
    degrees = np.diag(matrix.sum(axis=1))
    expected = scipy.linalg.eigh(degrees - matrix, degrees, subset_by_index=[1, 1])[0][0]
    assert abs(value - expected) < 1e-8
    for part in (vector[:120], vector[120:150], vector[150:]):
        assert np.ptp(part) < 1e-8


def test_without_convergence_lapack_takes_over(monkeypatch):
    links = build_links(random_links(300, 0.05))
    expected = second_eigenpair(links)
    monkeypatch.setattr(eigenvector, "RESTARTS", 1)
    value, vector = second_eigenpair(links)
    assert abs(value - expected[0]) < 1e-8
    assert np.allclose(vector, expected[1], atol=1e-8)


def test_all_is_one_object():
    features = np.ones((400, 4))
    found = maskcut(features, grid_edges(20, 20), corners_of(20), tau=0.2, rounds=3)
    assert found.shape == (3, 400)
    assert (found.sum(axis=0) <= 1).all()


def test_zero_features_have_no_links():
    features = np.zeros((4, 3))
    features[0] = 1
    assert np.array_equal(cosine_above(features, 0.5), np.diag([True, False, False, False]))
    assert cosine_above(features, -0.5).all()


def test_object_does_not_hold_the_corners():
    """The side with three corners or more is background, whatever the sign."""
    kinds = np.zeros((10, 10), bool)
    kinds[3:7, 3:8] = True
    vector = np.where(kinds, 2.0, -1.0).reshape(-1)
    vector[44] = 2.5
    for sign in (1, -1):
        found = cut_object(sign * vector, grid_edges(10, 10), corners_of(10))
        assert np.array_equal(found.reshape(10, 10), kinds)
