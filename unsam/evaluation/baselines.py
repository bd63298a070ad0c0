"""Classical segmenters that learn nothing, behind the interface of the trained ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import cv2
import numpy as np
from fvcore.common.config import CfgNode
from skimage.filters import rank, threshold_multiotsu, threshold_otsu
from skimage.measure import label
from skimage.segmentation import felzenszwalb, slic

from unsam.evaluation.build import SEGMENTERS
from unsam.structures import MaskSet


class ClassicalSegmenter(ABC):
    """A method that cuts a photo into regions at one or more levels, from fine to coarse.

    `generate` gives the union of the levels, equal masks once. The score of a mask is its share
    of the photo: the methods have no confidence, and when more masks are made than allowed the
    large ones cover more of what people mark than the small ones do. Granularities are spread
    evenly over the levels, 0.1 for the finest and 1 for the coarsest.
    """

    def __init__(self, num_levels: int, max_masks: int = 1000) -> None:
        if num_levels < 1 or max_masks < 1:
            raise ValueError("a segmenter needs at least one level and max_masks of at least 1")
        self.num_levels = num_levels
        self.max_masks = max_masks

    @abstractmethod
    def partition(self, image: np.ndarray, level: int) -> np.ndarray:
        """Return the regions ``int [H, W]`` of a photo at one level, 0 the finest."""

    def generate(
        self, image: np.ndarray, granularity: float | Sequence[float] | None = None
    ) -> MaskSet:
        """Return the regions of a photo, largest first, at most `max_masks`.

        Args:
            image: ``uint8 [H, W, 3]``, RGB.
            granularity: None for the union of all levels, else one or several values in
                [0.1, 1], each of which takes the nearest level.

        Raises:
            ValueError: not a photo, or a granularity outside [0.1, 1].
        """
        check_photo(image)
        chosen = self._levels(granularity)
        parts = [self._level_masks(image, level) for level in chosen]
        merged = MaskSet.cat(parts)
        # Coarse levels repeat regions of fine ones; the coarser copy stays.
        seen: dict[bytes, int] = {}
        for index in range(len(merged)):
            seen[merged.runs_of(index).tobytes()] = index
        unique = merged.filter(sorted(seen.values())).sort(by="area")
        return unique.filter(np.arange(min(len(unique), self.max_masks)))

    def _levels(self, granularity: float | Sequence[float] | None) -> list[int]:
        if granularity is None:
            return list(range(self.num_levels))
        values = check_granularities(granularity)
        nearest = np.rint((values - 0.1) / 0.9 * (self.num_levels - 1))
        return sorted({int(level) for level in nearest})

    def _level_masks(self, image: np.ndarray, level: int) -> MaskSet:
        regions = MaskSet.from_label_map(self.partition(image, level))
        share = level / (self.num_levels - 1) if self.num_levels > 1 else 1.0
        return regions.replace(
            score=regions.areas / (image.shape[0] * image.shape[1]),
            granularity=np.full(len(regions), 0.1 + 0.9 * share),
        )


def check_photo(image: np.ndarray) -> None:
    """Raise ValueError for what is no ``uint8 [H, W, 3]``."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"image must be uint8 [H, W, 3], got {image.dtype} {image.shape}")


def check_granularities(granularity: float | Sequence[float]) -> np.ndarray:
    """Return one or several granularities as ``float64 [K]``.

    Raises:
        ValueError: none, or one outside [0.1, 1].
    """
    values = np.atleast_1d(np.asarray(granularity, np.float64))
    if values.size == 0 or not ((values >= 0.1 - 1e-9) & (values <= 1.0 + 1e-9)).all():
        raise ValueError(f"granularity must lie in [0.1, 1] (1 the whole), got {granularity}")
    return values.clip(0.1, 1.0)


@SEGMENTERS.register()
class Otsu(ClassicalSegmenter):
    """Otsu's global threshold on luma; the masks are the 4-connected pieces of both sides.

    Otsu, "A threshold selection method from gray-level histograms", 1979.
    """

    def __init__(self, *, max_masks: int = 1000) -> None:
        super().__init__(num_levels=1, max_masks=max_masks)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Otsu:
        """Build from ``EVALUATION.BASELINES``."""
        return cls(max_masks=cfg.EVALUATION.BASELINES.MAX_MASKS)

    def partition(self, image: np.ndarray, level: int) -> np.ndarray:
        """Return the pieces of the bright and of the dark side, numbered from 0."""
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        return _pieces(grey > threshold_otsu(grey))


@SEGMENTERS.register()
class AdaptiveOtsu(ClassicalSegmenter):
    """Otsu's threshold of the square around each pixel, the union of several sizes of it.

    The masks are the 4-connected pieces of both sides. Scikit-image's rank filter, on luma.
    """

    def __init__(self, *, windows: Sequence[int] = (25, 75, 225), max_masks: int = 1000) -> None:
        if not windows or min(windows) < 1:
            raise ValueError(f"windows must be at least 1 pixel wide, got {tuple(windows)}")
        super().__init__(num_levels=len(windows), max_masks=max_masks)
        self.windows = sorted(int(width) for width in windows)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> AdaptiveOtsu:
        """Build from ``EVALUATION.BASELINES``."""
        node = cfg.EVALUATION.BASELINES
        return cls(windows=node.ADAPTIVE_OTSU_WINDOWS, max_masks=node.MAX_MASKS)

    def partition(self, image: np.ndarray, level: int) -> np.ndarray:
        """Return the pieces above and below the thresholds of one size of the square."""
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        window = np.ones((self.windows[level], self.windows[level]), np.uint8)
        return _pieces(grey > rank.otsu(grey, window))


@SEGMENTERS.register()
class MultiOtsu(ClassicalSegmenter):
    """Otsu's criterion with several thresholds, the union of several numbers of classes.

    Liao, Chen, Chung, "A fast algorithm for multilevel thresholding", 2001; scikit-image's
    implementation, on luma. The masks are the 4-connected pieces of each class.
    """

    def __init__(self, *, classes: Sequence[int] = (2, 3, 4), max_masks: int = 1000) -> None:
        if not classes or min(classes) < 2:
            raise ValueError(f"classes must be at least 2, got {tuple(classes)}")
        super().__init__(num_levels=len(classes), max_masks=max_masks)
        self.classes = sorted((int(count) for count in classes), reverse=True)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> MultiOtsu:
        """Build from ``EVALUATION.BASELINES``."""
        node = cfg.EVALUATION.BASELINES
        return cls(classes=node.MULTI_OTSU_CLASSES, max_masks=node.MAX_MASKS)

    def partition(self, image: np.ndarray, level: int) -> np.ndarray:
        """Return the pieces of one number of classes; of fewer where there are fewer greys."""
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        classes = min(self.classes[level], np.unique(grey).size)
        if classes < 2:
            return np.zeros(grey.shape, np.int64)
        return _pieces(np.digitize(grey, threshold_multiotsu(grey, classes), right=True))


def _pieces(classes: np.ndarray) -> np.ndarray:
    """Return the 4-connected pieces of ``[H, W]`` that are of one class, numbered."""
    return label(classes.astype(np.int64), background=-1, connectivity=1)


@SEGMENTERS.register()
class Felzenszwalb(ClassicalSegmenter):
    """Felzenszwalb and Huttenlocher's graph-based segmentation, the union of several scales.

    "Efficient graph-based image segmentation", IJCV 2004; scikit-image's implementation.
    """

    def __init__(
        self,
        *,
        scales: Sequence[float] = (30, 60, 120, 250, 500, 1000, 2000, 4000),
        sigma: float = 0.8,
        min_size: int = 50,
        max_masks: int = 1000,
    ) -> None:
        super().__init__(num_levels=len(scales), max_masks=max_masks)
        self.scales = sorted(float(scale) for scale in scales)
        self.sigma = sigma
        self.min_size = min_size

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Felzenszwalb:
        """Build from ``EVALUATION.BASELINES``."""
        node = cfg.EVALUATION.BASELINES
        return cls(
            scales=node.FELZENSZWALB_SCALES,
            sigma=node.FELZENSZWALB_SIGMA,
            min_size=node.FELZENSZWALB_MIN_SIZE,
            max_masks=node.MAX_MASKS,
        )

    def partition(self, image: np.ndarray, level: int) -> np.ndarray:
        """Return the regions at one scale."""
        return felzenszwalb(
            image, scale=self.scales[level], sigma=self.sigma, min_size=self.min_size
        )


@SEGMENTERS.register()
class Slic(ClassicalSegmenter):
    """SLIC superpixels, the union of several numbers of segments.

    Achanta et al., "SLIC superpixels compared to state-of-the-art superpixel methods", PAMI 2012;
    scikit-image's implementation.
    """

    def __init__(
        self,
        *,
        segments: Sequence[int] = (5, 10, 20, 40, 80, 160, 320),
        compactness: float = 10.0,
        max_masks: int = 1000,
    ) -> None:
        super().__init__(num_levels=len(segments), max_masks=max_masks)
        self.segments = sorted((int(count) for count in segments), reverse=True)
        self.compactness = compactness

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Slic:
        """Build from ``EVALUATION.BASELINES``."""
        node = cfg.EVALUATION.BASELINES
        return cls(
            segments=node.SLIC_SEGMENTS,
            compactness=node.SLIC_COMPACTNESS,
            max_masks=node.MAX_MASKS,
        )

    def partition(self, image: np.ndarray, level: int) -> np.ndarray:
        """Return the superpixels for one number of segments."""
        return slic(
            image, n_segments=self.segments[level], compactness=self.compactness, start_label=0
        )
