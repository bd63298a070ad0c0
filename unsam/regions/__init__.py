"""Regions of a photo: their graph, merging them from the bottom up, and which of them are good."""

from unsam.regions.conquer import MergeResult, merge_regions
from unsam.regions.ranking import region_scores
from unsam.regions.region_graph import RegionGraph
from unsam.regions.spectral import spectral_embedding

__all__ = ["MergeResult", "RegionGraph", "merge_regions", "region_scores", "spectral_embedding"]
