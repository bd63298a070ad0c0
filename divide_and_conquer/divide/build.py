"""The registry of dividers and its builder."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from fvcore.common.config import CfgNode

from divide_and_conquer.divide.ncut import NormalizedCuts
from divide_and_conquer.superpixels import RegionGraph
from unsam.config.registry import Registry
from unsam.structures import MaskSet


class Divider(Protocol):
    """Anything that finds whole objects in a photo."""

    def __call__(self, photo: np.ndarray, graph: RegionGraph, features: np.ndarray) -> MaskSet:
        """Return objects of a photo ``uint8 [H, W, 3]``, source ``divide``.

        `graph` holds the photo's regions and `features` ``float [N, D]`` one row for each.
        """
        ...


DIVIDERS = Registry("DIVIDERS")


@DIVIDERS.register()
def ncut(cfg: CfgNode) -> NormalizedCuts:
    """Normalised cuts on the features that the regions merge by."""
    return NormalizedCuts.from_config(cfg)


def build_divider(cfg: CfgNode) -> Divider | None:
    """Build the divider that PSEUDO_MASKS.DIVIDE.NAME selects; "none" is no divider."""
    name = cfg.PSEUDO_MASKS.DIVIDE.NAME
    return None if name == "none" else DIVIDERS.get(name)(cfg)
