"""Guided filter: a mask is made a local linear function of the photo's colour, then cut at half.

Source: He, Sun and Tang, "Guided Image Filtering" (2010), with a colour guide; for large masks the
coefficients are computed on a coarser grid ("Fast Guided Filter", He and Sun 2015).
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from fvcore.common.config import CfgNode

from divide_and_conquer.refine.acceptance import Acceptance
from divide_and_conquer.refine.crops import CropRefiner, Window
from unsam.errors import ConfigError

# The coefficients are smooth: a radius of four cells is enough to compute them.
_RADIUS_IN_CELLS = 4


class GuidedRefiner(CropRefiner):
    """Refines each mask by the guided filter, in a window around it."""

    def __init__(self, *, radius_share: float, epsilon: float, acceptance: Acceptance) -> None:
        """Keep the settings.

        Args:
            radius_share: radius of the filter as a share of the mask's longer side.
            epsilon: variance of the guide, in colours of [0, 1], below which it counts as flat.
            acceptance: when a refined mask is taken.

        Raises:
            ConfigError: a value is out of its range.
        """
        super().__init__(acceptance)
        if not 0 < radius_share <= 1 or epsilon <= 0:
            raise ConfigError(
                "PSEUDO_MASKS.REFINE.GUIDED: RADIUS_SHARE must be in (0, 1] and EPSILON over 0, "
                f"got {radius_share} and {epsilon}"
            )
        self.radius_share = radius_share
        self.epsilon = epsilon

    @classmethod
    def from_config(cls, cfg: CfgNode) -> GuidedRefiner:
        """Build from PSEUDO_MASKS.REFINE."""
        node = cfg.PSEUDO_MASKS.REFINE
        return cls(
            radius_share=node.GUIDED.RADIUS_SHARE,
            epsilon=node.GUIDED.EPSILON,
            acceptance=Acceptance(node.MIN_IOU, node.MAX_AREA_SHARE),
        )

    def window(self, box: np.ndarray, size: tuple[int, int]) -> Window:
        """Return the box and as much around it as the filter can reach, twice its radius."""
        radius = self._radius(int(box[2] - box[0]), int(box[3] - box[1]))
        return Window.around(box, 2 * radius, size)

    def refine(self, photo: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """Return refined masks ``bool [K, h, w]``; see `CropRefiner.refine`."""
        guide = photo.astype(np.float32) / np.float32(255)
        return np.stack([self._filtered(guide, mask) for mask in masks])

    def _filtered(self, guide: np.ndarray, mask: np.ndarray) -> np.ndarray:
        radius = self._radius(*cv2.boundingRect(mask.view(np.uint8))[2:])
        return guided_filter(guide, mask.astype(np.float32), radius, self.epsilon) > 0.5

    def _radius(self, width: int, height: int) -> int:
        return max(1, round(self.radius_share * max(width, height)))


def guided_filter(guide: np.ndarray, values: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
    """Return ``float32 [H, W]``: `values` smoothed, but not across edges of the guide.

    In each square window the values are fitted as a linear function of the three colours (ridge
    regression); each pixel takes the mean of the functions of all windows that hold it.

    Args:
        guide: ``float32 [H, W, 3]`` in [0, 1].
        values: ``float32 [H, W]``.
        radius: half of the window's side in pixels, 1 or more.
        epsilon: the ridge: squared colour differences below it count as flat.
    """
    height, width = values.shape
    step = max(1, radius // _RADIUS_IN_CELLS)
    cells = (math.ceil(width / step), math.ceil(height / step))
    coarse_guide, coarse_values = guide, values
    if step > 1:
        coarse_guide = cv2.resize(guide, cells, interpolation=cv2.INTER_AREA)
        coarse_values = cv2.resize(values, cells, interpolation=cv2.INTER_AREA)
    coefficients = _mean(_fit(coarse_guide, coarse_values, radius // step, epsilon), radius // step)
    if step > 1:
        coefficients = cv2.resize(coefficients, (width, height), interpolation=cv2.INTER_LINEAR)
    filtered = coefficients[..., 3].copy()
    for channel in range(3):
        filtered += coefficients[..., channel] * guide[..., channel]
    return filtered


def _fit(guide: np.ndarray, values: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
    """Return slopes and offset of the fit in the window around each pixel, ``float32 [H, W, 4]``.

    In float64, for variances are differences of means of squares.
    """
    color = guide.astype(np.float64)
    r, g, b = (color[..., channel] for channel in range(3))
    mean = _mean(color, radius)
    mean_value = _mean(values.astype(np.float64), radius)
    products = _mean(np.stack([r * r, g * g, b * b, r * g], axis=2), radius)
    mixed = _mean(np.stack([r * b, g * b], axis=2), radius)
    joint = _mean(color * values[..., None], radius) - mean * mean_value[..., None]
    mr, mg, mb = (mean[..., channel] for channel in range(3))
    rr = products[..., 0] - mr * mr + epsilon
    gg = products[..., 1] - mg * mg + epsilon
    bb = products[..., 2] - mb * mb + epsilon
    rg = products[..., 3] - mr * mg
    rb, gb = mixed[..., 0] - mr * mb, mixed[..., 1] - mg * mb
    # The inverse of the symmetric covariance by its cofactors.
    c0, c1, c2 = gg * bb - gb * gb, rb * gb - rg * bb, rg * gb - rb * gg
    c4, c5, c8 = rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg
    determinant = rr * c0 + rg * c1 + rb * c2
    j0, j1, j2 = (joint[..., channel] for channel in range(3))
    slope = np.stack(
        [c0 * j0 + c1 * j1 + c2 * j2, c1 * j0 + c4 * j1 + c5 * j2, c2 * j0 + c5 * j1 + c8 * j2],
        axis=2,
    )
    slope /= determinant[..., None]
    offset = mean_value - (slope * mean).sum(axis=2)
    return np.concatenate([slope, offset[..., None]], axis=2).astype(np.float32)


def _mean(values: np.ndarray, radius: int) -> np.ndarray:
    side = 2 * radius + 1
    return cv2.boxFilter(values, -1, (side, side), borderType=cv2.BORDER_REFLECT)
