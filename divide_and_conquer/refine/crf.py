"""Dense conditional random field: labels follow colour, by mean field over all pairs of pixels.

Source: Krahenbuhl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge
Potentials" (2011), with the settings of MaskCut (CutLER, arXiv 2301.11320). Two labels, Potts
compatibility. Their probabilities sum to 1, so one channel per mask carries both, and the message
of a kernel K to the difference of both is ``K (2 q - 1)``.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from fvcore.common.config import CfgNode

from divide_and_conquer.refine.acceptance import Acceptance
from divide_and_conquer.refine.crops import CropRefiner, Window
from divide_and_conquer.refine.permutohedral import PermutohedralLattice
from unsam.errors import ConfigError

# Masks that are filtered together; numbers in between are filled up with empty ones.
_BLOCKS = (1, 4)
_MIN_MARGIN = 4


class DenseCrf:
    """The field of one photo; its lattices serve any number of masks."""

    def __init__(
        self,
        photo: np.ndarray,
        *,
        spatial_sigma: float = 3.0,
        spatial_weight: float = 7.0,
        bilateral_sigma: float = 50.0,
        color_sigma: float = 5.0,
        bilateral_weight: float = 10.0,
    ) -> None:
        """Build the lattices.

        Args:
            photo: ``uint8 [H, W, 3]``.
            spatial_sigma: deviation of the smoothness kernel, in pixels.
            spatial_weight: weight of the smoothness kernel.
            bilateral_sigma: spatial deviation of the appearance kernel, in pixels.
            color_sigma: its deviation in each colour channel, of 255.
            bilateral_weight: weight of the appearance kernel.

        Raises:
            ValueError: not a photo.
        """
        if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8 or not photo.size:
            raise ValueError(f"expected uint8 [H, W, 3], got {photo.dtype} {list(photo.shape)}")
        self.size = (photo.shape[0], photo.shape[1])
        color = photo.reshape(-1, 3).astype(np.float32) / np.float32(color_sigma)
        positions = np.concatenate([_grid(self.size) / np.float32(bilateral_sigma), color], axis=1)
        self._kernels = (
            _spatial_kernel(self.size, spatial_sigma, spatial_weight),
            _symmetric_kernel(positions, bilateral_weight),
        )
        # Twice the weight times K 1, halved: what the "- 1" of K (2 q - 1) sums to.
        ones = np.ones((len(color), 1), np.float32)
        self._offset = sum(kernel.filter(ones) for kernel in self._kernels) / 2

    def logits(self, probability: np.ndarray, iterations: int = 10) -> np.ndarray:
        """Return the log odds of foreground after the mean field, ``float32 [N, H, W]``.

        Args:
            probability: ``float [N, H, W]`` in [0, 1]; the unary term is minus the log of the
                softmax over (1 - m, m), so that even 0 and 1 leave room to be overruled.
            iterations: rounds of the mean field, 1 or more.

        Raises:
            ValueError: masks of another size.
        """
        if probability.ndim != 3 or probability.shape[1:] != self.size:
            raise ValueError(
                f"expected [N, {self.size[0]}, {self.size[1]}], got {list(probability.shape)}"
            )
        result = np.empty(probability.shape, np.float32)
        start = 0
        while start < len(probability):
            left = len(probability) - start
            block = next((size for size in _BLOCKS if size >= left), _BLOCKS[-1])
            chunk = probability[start : start + block]
            unary = np.zeros((self.size[0] * self.size[1], block), np.float32)
            unary[:, : len(chunk)] = 2 * chunk.reshape(len(chunk), -1).T - 1
            field = self._mean_field(unary, iterations)
            result[start : start + block] = field[:, : len(chunk)].T.reshape(chunk.shape)
            start += block
        return result

    def _mean_field(self, unary: np.ndarray, iterations: int) -> np.ndarray:
        grids = [kernel.grids(unary) for kernel in self._kernels]
        fixed = unary - self._offset
        logit, foreground = unary.copy(), np.empty_like(unary)
        for _ in range(iterations):
            _sigmoid(logit, foreground)
            logit[:] = fixed
            for kernel, memory in zip(self._kernels, grids, strict=True):
                kernel.add_filtered(foreground, logit, memory)
        return logit


def dense_crf(
    photo: np.ndarray,
    probability: np.ndarray,
    *,
    iterations: int = 10,
    spatial_sigma: float = 3.0,
    spatial_weight: float = 7.0,
    bilateral_sigma: float = 50.0,
    color_sigma: float = 5.0,
    bilateral_weight: float = 10.0,
) -> np.ndarray:
    """Return the more likely label of each pixel by the dense CRF, ``bool [N, H, W]``.

    Args:
        photo: ``uint8 [H, W, 3]``, RGB.
        probability: ``float [N, H, W]`` in [0, 1], one mask each.
        iterations: rounds of the mean field.
        spatial_sigma: see `DenseCrf`, as all that follow.
        spatial_weight: see there.
        bilateral_sigma: see there.
        color_sigma: see there.
        bilateral_weight: see there.

    Raises:
        ValueError: not a photo, or masks of another size.
    """
    field = DenseCrf(
        photo,
        spatial_sigma=spatial_sigma,
        spatial_weight=spatial_weight,
        bilateral_sigma=bilateral_sigma,
        color_sigma=color_sigma,
        bilateral_weight=bilateral_weight,
    )
    return field.logits(probability, iterations) > 0


class CrfRefiner(CropRefiner):
    """Refines each mask by the dense CRF on a crop of fixed size."""

    def __init__(self, *, input_size: int, iterations: int, acceptance: Acceptance) -> None:
        """Keep the settings.

        Args:
            input_size: longer side in pixels to which the crop is resized.
            iterations: rounds of the mean field.
            acceptance: when a refined mask is taken.

        Raises:
            ConfigError: a value is out of its range.
        """
        super().__init__(acceptance)
        if input_size < 8 or iterations < 1:
            raise ConfigError(
                "PSEUDO_MASKS.REFINE.CRF: INPUT_SIZE must be 8 or more and ITERATIONS 1 or more, "
                f"got {input_size} and {iterations}"
            )
        self.input_size = input_size
        self.iterations = iterations

    @classmethod
    def from_config(cls, cfg: CfgNode) -> CrfRefiner:
        """Build from PSEUDO_MASKS.REFINE."""
        node = cfg.PSEUDO_MASKS.REFINE
        return cls(
            input_size=node.CRF.INPUT_SIZE,
            iterations=node.CRF.ITERATIONS,
            acceptance=Acceptance(node.MIN_IOU, node.MAX_AREA_SHARE),
        )

    def window(self, box: np.ndarray, size: tuple[int, int]) -> Window:
        """Return the box and a quarter of its longer side around it, or a little more.

        Windows are cut on a grid as coarse as the mask allows, so that masks share lattices.
        """
        longer = max(int(box[2] - box[0]), int(box[3] - box[1]))
        margin = max(_MIN_MARGIN, longer // 4)
        return Window.around(box, margin, size, step=1 << (margin.bit_length() - 1))

    def refine(self, photo: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """Return refined masks ``bool [K, h, w]``; see `CropRefiner.refine`."""
        height, width = photo.shape[:2]
        factor = self.input_size / max(height, width)
        inner = (max(1, round(width * factor)), max(1, round(height * factor)))
        method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        small = np.stack(
            [cv2.resize(mask.astype(np.float32), inner, interpolation=method) for mask in masks]
        )
        field = DenseCrf(cv2.resize(photo, inner, interpolation=method))
        logits = field.logits(small, self.iterations)
        _sigmoid(logits, logits)
        back = cv2.INTER_LINEAR if factor < 1 else cv2.INTER_AREA
        return np.stack(
            [cv2.resize(mask, (width, height), interpolation=back) > 0.5 for mask in logits]
        )


def _sigmoid(logit: np.ndarray, out: np.ndarray) -> None:
    """Write ``1 / (1 + exp(-logit))`` into `out`, which may be `logit` itself."""
    np.negative(logit, out=out)
    # exp of 60 is far beyond where the result rounds to 0.
    np.minimum(out, 60, out=out)
    np.exp(out, out=out)
    out += 1
    np.reciprocal(out, out=out)


def _grid(size: tuple[int, int]) -> np.ndarray:
    """Return x and y of each pixel, ``float32 [H * W, 2]``."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    return np.stack([x.reshape(-1), y.reshape(-1)], axis=1)


@lru_cache(maxsize=4)
def _spatial_kernel(size: tuple[int, int], sigma: float, weight: float) -> PermutohedralLattice:
    """Return the smoothness kernel, which depends on the size of the photo alone."""
    return _symmetric_kernel(_grid(size) / np.float32(sigma), weight)


def _symmetric_kernel(positions: np.ndarray, weight: float) -> PermutohedralLattice:
    """Return ``2 weight N K N`` with N the inverse root of the row sums of the Gaussian K."""
    lattice = PermutohedralLattice.build(positions)
    row_sums = lattice.filter(np.ones((len(positions), 1), np.float32))[:, 0]
    return lattice.scaled(np.sqrt(2 * weight / np.maximum(row_sums, 1e-20)))
