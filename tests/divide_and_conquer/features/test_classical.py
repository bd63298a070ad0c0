"""The weight-free features are histograms of colour and texture."""

from __future__ import annotations

import numpy as np
import pytest

from divide_and_conquer.features.build import FEATURES, build_features
from divide_and_conquer.features.classical import ClassicalFeatures, edge_strength
from unsam.config import get_cfg
from unsam.errors import ConfigError


def features(**changes):
    return ClassicalFeatures(
        **{"color_bins": 8, "texture_bins": 4, "texture_weight": 1.0} | changes
    )


def test_shape_and_type():
    photo = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    out = features()(photo)
    assert out.shape == (20, 30, 3 * 8 + 12 * 4)
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    assert features(texture_weight=0.0)(photo).shape == (20, 30, 24)


def test_nearer_colours_have_larger_cosines():
    colours = np.array([[[200, 30, 30], [190, 40, 35], [30, 60, 200]]], np.uint8)
    red, reddish, blue = features(texture_weight=0.0)(colours)[0]
    assert red @ reddish > red @ blue


def test_texture_tells_stripes_apart():
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[::4] = stripes[1::4] = 255
    down, across = (
        features()(image)[16, 16, 24:] for image in (stripes, stripes.transpose(1, 0, 2))
    )
    cosine = down @ across / np.linalg.norm(down) / np.linalg.norm(across)
    assert cosine < 0.9


def test_edges_are_where_colour_changes():
    photo = np.zeros((20, 20, 3), np.uint8)
    photo[:, 10:] = (0, 120, 0)
    strength = edge_strength(photo)
    assert strength[:, 9:11].min() > 10 * strength[:, :4].max()
    assert edge_strength(np.full((5, 5, 3), 90, np.uint8)).max() < 1e-3


def test_registry():
    assert isinstance(build_features(get_cfg()), ClassicalFeatures)
    with pytest.raises(ConfigError, match="classical"):
        FEATURES.get("classicall")
    with pytest.raises(ValueError, match="2 or more"):
        features(color_bins=1)
