"""What is random in a sample beside its view: which masks it holds, and its colour."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from unsam.structures.granularity_bands import granularity_bands

_GREY_WEIGHTS = np.array([[0.299, 0.587, 0.114]], np.float32)


def draw_order(
    generator: np.random.Generator, granularity: np.ndarray, *, balanced: bool
) -> np.ndarray:
    """Return a random order of the masks, ``int64 [N]``.

    Fine masks outnumber coarse ones by far in a hierarchy. With `balanced` each band of granularity
    gets the same weight, so that a prefix of the order holds about as many masks of each band
    (weighted sampling without replacement by Efraimidis and Spirakis, 2006).

    Args:
        generator: the sample's own generator.
        granularity: ``float32 [N]`` in [0.1, 1].
        balanced: False draws every mask with the same chance.
    """
    keys = generator.random(granularity.size)
    if balanced:
        band = granularity_bands(granularity)
        # Key u^(1/w) with w = 1 / (masks in the band), compared by its logarithm.
        keys = np.log(np.maximum(keys, 1e-300)) * np.bincount(band)[band]
    return np.argsort(-keys, kind="stable")


def jitter_colour(
    generator: np.random.Generator,
    photo: np.ndarray,
    strength: float | Sequence[float],
    grey_probability: float = 0.0,
) -> np.ndarray:
    """Change brightness, contrast and saturation of ``photo uint8 [h, w, 3]`` (RGB) at random.

    Args:
        generator: the sample's own generator.
        photo: 0 to 255.
        strength: each factor is drawn from ``[1 - strength, 1 + strength]``; one number for all
            three or one for each; 0 changes nothing.
        grey_probability: chance that no colour is left.
    """
    spread = np.broadcast_to(np.asarray(strength, np.float64), 3)
    brightness, contrast, saturation = generator.uniform(1 - spread, 1 + spread)
    if generator.random() < grey_probability:
        saturation = 0.0
    if brightness == contrast == saturation == 1:
        return photo
    grey = cv2.transform(photo, _GREY_WEIGHTS)
    mean = float(grey.mean())
    levels = (np.arange(256, dtype=np.float32) - mean) * contrast + mean
    table = np.clip(np.round(levels * brightness), 0, 255).astype(np.uint8)
    grey_rgb = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
    return cv2.LUT(cv2.addWeighted(photo, saturation, grey_rgb, 1 - saturation, 0), table)
