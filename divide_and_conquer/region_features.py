"""A photo's starting regions, and what each of them merges by."""

from __future__ import annotations

import cv2
import numpy as np
from fvcore.common.config import CfgNode

from divide_and_conquer.features.build import FeatureExtractor
from divide_and_conquer.features.classical import edge_strength
from divide_and_conquer.superpixels import felzenszwalb_regions
from unsam.errors import ConfigError
from unsam.regions.hierarchy import soft_cut_embedding
from unsam.regions.region_graph import RegionGraph


class RegionFeatures:
    """Callable: photo to region graphs, fine to coarse, each with one feature row per region."""

    def __init__(
        self,
        *,
        features: FeatureExtractor,
        scales: tuple[float, ...],
        sigma: float,
        min_size: int,
        embedding: str,
        dims: int,
        edge_scale: float,
        feature_scale: float,
    ) -> None:
        """Keep the settings: REGIONS and EMBEDDING of unsam/config/pseudo_mask_defaults.py.

        Raises:
            ConfigError: an unknown embedding, or no scale.
        """
        if embedding not in ("spectral", "none"):
            raise ConfigError(f"PSEUDO_MASKS.EMBEDDING.NAME: '{embedding}' is not spectral or none")
        if not scales:
            raise ConfigError("PSEUDO_MASKS.REGIONS.SCALES needs at least one scale")
        self.features = features
        self.scales = scales
        self.sigma = sigma
        self.min_size = min_size
        self.embedding = embedding
        self.dims = dims
        self.edge_scale = edge_scale
        self.feature_scale = feature_scale

    @classmethod
    def from_config(cls, cfg: CfgNode, features: FeatureExtractor) -> RegionFeatures:
        """Build from PSEUDO_MASKS; `features` is what `build_features` made of the config."""
        regions, embedding = cfg.PSEUDO_MASKS.REGIONS, cfg.PSEUDO_MASKS.EMBEDDING
        return cls(
            features=features,
            scales=tuple(regions.SCALES),
            sigma=regions.SIGMA,
            min_size=regions.MIN_SIZE,
            embedding=embedding.NAME,
            dims=embedding.DIMS,
            edge_scale=embedding.EDGE_SCALE,
            feature_scale=embedding.FEATURE_SCALE,
        )

    def __call__(self, photo: np.ndarray) -> list[tuple[RegionGraph, np.ndarray]]:
        """Return, per scale, the graph and ``float64 [N, D]``.

        Args:
            photo: ``uint8 [H, W, 3]`` (RGB), at working size.
        """
        return self._at_scales(photo, self.scales)

    def coarsest(self, photo: np.ndarray) -> tuple[RegionGraph, np.ndarray]:
        """Return graph and features of the last scale alone: enough for whole objects."""
        return self._at_scales(photo, self.scales[-1:])[0]

    def _at_scales(
        self, photo: np.ndarray, scales: tuple[float, ...]
    ) -> list[tuple[RegionGraph, np.ndarray]]:
        # Grain is no edge: smoothed where it does not cross one.
        smooth = cv2.bilateralFilter(photo, 5, 20, 3)
        edge_map, features = edge_strength(smooth), self.features(smooth)
        result = []
        for scale in scales:
            labels = felzenszwalb_regions(
                photo, scale=scale, sigma=self.sigma, min_size=self.min_size
            )
            graph = RegionGraph.from_labels(labels, edge_map)
            result.append((graph, self._embed(graph, graph.pool(features))))
        return result

    def _embed(self, graph: RegionGraph, features: np.ndarray) -> np.ndarray:
        if self.embedding == "none":
            return features
        return soft_cut_embedding(
            graph,
            features,
            dims=self.dims,
            edge_scale=self.edge_scale,
            feature_scale=self.feature_scale,
        )


def reduce_photo(photo: np.ndarray, longest: int) -> np.ndarray:
    """Return the photo with its longer side reduced to `longest`; smaller ones unchanged."""
    height, width = photo.shape[:2]
    if max(height, width) <= longest:
        return np.ascontiguousarray(photo)
    factor = longest / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
