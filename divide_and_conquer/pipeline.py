"""Divide and conquer on one photo: a `MaskSet` of masks that nest, from fine to coarse."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from fvcore.common.config import CfgNode

from divide_and_conquer.config_checks import check_pseudo_masks
from divide_and_conquer.granularity import absolute_granularity, granularity_of_trees
from divide_and_conquer.instance_hierarchy import InstanceHierarchy
from divide_and_conquer.refine.build import RefineReport
from divide_and_conquer.region_hierarchy import RegionHierarchy
from unsam.annotations.index import AnnotationIndex
from unsam.errors import ConfigError, DataError
from unsam.structures import MaskSet


class Hierarchy(Protocol):
    """Anything that makes masks of every size of one photo."""

    # Whether human masks were used to make it.
    supervised: bool

    def __call__(self, photo: np.ndarray, given: MaskSet) -> tuple[MaskSet, RefineReport]:
        """Return the masks of a photo ``uint8 [H, W, 3]``, `given` among them."""
        ...


class PseudoMasker:
    """Makes the pseudo masks of photos.

    Example:
        ``build_masker(get_cfg())(read_photo("a.jpg"))``
    """

    def __init__(
        self,
        *,
        hierarchy: Hierarchy,
        given: AnnotationIndex | None = None,
        containment: float = 0.9,
        granularity: str = "relative",
        fine_share: float = 0.01,
        published: bool = False,
    ) -> None:
        """Keep the settings; their meaning is in unsam/config/pseudo_mask_defaults.py.

        Args:
            hierarchy: makes the masks.
            given: masks of people, by photo.
            containment: least share of a mask that must lie in its parent.
            granularity: "relative" or "absolute".
            fine_share: of the relative granularity.
            published: parents and granularity as the released code has them: each instance with
                its parts by itself.

        Raises:
            ConfigError: an unknown kind of granularity.
        """
        if granularity not in ("relative", "absolute"):
            raise ConfigError(
                f"PSEUDO_MASKS.GRANULARITY.KIND: '{granularity}' is not relative or absolute"
            )
        self.hierarchy = hierarchy
        self.given = given
        self.containment = containment
        self.granularity = granularity
        self.fine_share = fine_share
        self.published = published
        self._report = RefineReport()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> PseudoMasker:
        """Build from PSEUDO_MASKS.

        Raises:
            ConfigError: a value that does not fit.
            CheckpointError: weights that cannot be had or do not fit.
            DataError: the given masks cannot be read.
        """
        node = cfg.PSEUDO_MASKS
        check_pseudo_masks(node)
        return cls(
            given=_open_given(node.DIVIDE.GIVEN_MASKS),
            hierarchy=build_hierarchy(cfg),
            containment=node.CONTAINMENT,
            granularity=node.GRANULARITY.KIND,
            fine_share=node.GRANULARITY.FINE_SHARE,
            published=node.COMPAT == "published" and node.HIERARCHY == "instances",
        )

    def __call__(self, photo: np.ndarray, name: str = "") -> MaskSet:
        """Return the masks of a photo ``uint8 [H, W, 3]`` (RGB), largest first.

        Every mask has as parent the smallest larger one that holds most of it, or is a root;
        granularity never decreases towards the parent. As published, the masks come instance by
        instance, each with its parts.

        Args:
            photo: RGB.
            name: relative path of the photo's file, by which given masks are found.

        Raises:
            ValueError: not a photo.
            DataError: the given masks are for a photo of another size.
        """
        if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8 or not photo.size:
            raise ValueError(f"expected uint8 [H, W, 3], got {photo.dtype} {list(photo.shape)}")
        masks, self._report = self.hierarchy(photo, self._given_masks(photo, name))
        # Parents and granularity are those of the masks as they are handed out.
        if not self.published:
            masks = masks.sort(by="area").with_parents(self.containment)
        if self.granularity == "absolute":
            height, width = masks.size
            return masks.replace(granularity=absolute_granularity(masks.areas, height * width))
        return masks.replace(
            granularity=granularity_of_trees(
                masks.areas, masks.parent, self.fine_share, published=self.published
            )
        )

    def _given_masks(self, photo: np.ndarray, name: str) -> MaskSet:
        size = (photo.shape[0], photo.shape[1])
        given = self.given.masks_of(name, size) if self.given is not None else None
        if given is None:
            return MaskSet.empty(size)
        given = given.replace(source="human", parent=np.full(len(given), -1))
        return given.filter(given.areas > 0)

    def report(self) -> dict[str, Any]:
        """Return what is worth recording of the last photo: counts of its refinement, if any."""
        counts = self._report.to_dict()
        return {"refinement": counts} if any(counts.values()) else {}

    @property
    def supervised(self) -> bool:
        """Whether human masks went into these masks in any way."""
        return self.hierarchy.supervised or self.given is not None


def _open_given(path: str) -> AnnotationIndex | None:
    if not path:
        return None
    try:
        return AnnotationIndex.open(path)
    except DataError as error:
        raise DataError(f"PSEUDO_MASKS.DIVIDE.GIVEN_MASKS: {error}") from None


def build_hierarchy(cfg: CfgNode) -> Hierarchy:
    """Build what PSEUDO_MASKS.HIERARCHY selects."""
    name = cfg.PSEUDO_MASKS.HIERARCHY
    if name == "regions":
        return RegionHierarchy.from_config(cfg)
    if name == "instances":
        return InstanceHierarchy.from_config(cfg)
    raise ConfigError(f"PSEUDO_MASKS.HIERARCHY: '{name}' is not regions or instances")


def build_masker(cfg: CfgNode) -> PseudoMasker:
    """Build the masker that a config describes (see `PseudoMasker.from_config`)."""
    return PseudoMasker.from_config(cfg)
