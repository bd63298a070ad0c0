"""One hierarchy of patches inside each object of a divider: the pipelines of UnSAM and UnSAMv2.

Sources: UnSAM (arXiv 2406.20081, Algorithm 1) and UnSAMv2 (arXiv 2511.13714, section 3.2).
A detector finds objects; each is cropped, its patches get features of a self-supervised ViT, and
patches merge over a list of thresholds; the clusters that lie in the object are its parts.

The released code has defects that change the masks. They are mended here, and come back with
``published=True``: crops with blue and red exchanged; the last row and column of every object
lost; an object whose patches all merge gives no mask; a mask is compared with its next four
neighbours by area only, so copies stay; copies of one object in several instances stay; two near
copies of one object exclude each other from being an instance.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from fvcore.common.config import CfgNode

from divide_and_conquer.divide.build import Divider, build_divider
from divide_and_conquer.features.build import FeatureExtractor, build_features
from divide_and_conquer.features.pooled_grid import PooledGrid
from divide_and_conquer.grid_conquer import conquer_instance, instance_box, protected_nms
from divide_and_conquer.instances import Instances, relate, sureness
from divide_and_conquer.refine.build import Refiner, RefineReport, build_refiner
from unsam.errors import ConfigError
from unsam.structures import MaskSet

# Instances whose features are held at once.
INSTANCES_AT_ONCE = 16


class InstanceHierarchy:
    """Callable: photo to the objects of a divider and the clusters of patches inside each."""

    def __init__(
        self,
        *,
        divider: Divider | None,
        features: FeatureExtractor,
        refiner: Refiner | None,
        relation: str,
        instance_area_share: float,
        instance_containment: float,
        thresholds: tuple[float, ...],
        min_patches: int,
        min_coverage: float,
        nms_iou: float,
        max_masks: int,
        min_area_share: float,
        whole_image: bool,
        published: bool,
    ) -> None:
        """Keep the settings: PSEUDO_MASKS of unsam/config/pseudo_mask_defaults.py.

        Raises:
            ConfigError: an unknown relation, or a containment out of range.
        """
        if relation not in ("all", "containment"):
            raise ConfigError(
                f"PSEUDO_MASKS.INSTANCES.RELATION: '{relation}' is not all or containment"
            )
        if not 0.5 <= instance_containment < 1:
            raise ConfigError(
                f"PSEUDO_MASKS.INSTANCES.CONTAINMENT: {instance_containment} is not in [0.5, 1)"
            )
        self.divider = divider
        self.features = features
        self.refiner = refiner
        self.relation = relation
        self.instance_area_share = instance_area_share
        self.instance_containment = instance_containment
        self.thresholds = thresholds
        self.min_patches = min_patches
        self.min_coverage = min_coverage
        self.nms_iou = nms_iou
        self.max_masks = max_masks
        self.min_area_share = min_area_share
        self.whole_image = whole_image
        self.published = published
        self.supervised = refiner is not None and refiner.supervised

    @classmethod
    def from_config(cls, cfg: CfgNode) -> InstanceHierarchy:
        """Build from PSEUDO_MASKS."""
        node = cfg.PSEUDO_MASKS
        features = build_features(cfg)
        divider = build_divider(cfg, features)
        if node.FEATURES.NAME == "classical":
            features = PooledGrid(features, node.FEATURES.GRID_SIZE)
        return cls(
            divider=divider,
            features=features,
            refiner=build_refiner(cfg),
            relation=node.INSTANCES.RELATION,
            instance_area_share=node.INSTANCES.MIN_AREA_SHARE,
            instance_containment=node.INSTANCES.CONTAINMENT,
            thresholds=tuple(node.CONQUER.THRESHOLDS),
            min_patches=node.CONQUER.MIN_PATCHES,
            min_coverage=node.CONQUER.MIN_COVERAGE,
            nms_iou=node.NMS_IOU,
            max_masks=node.MAX_MASKS,
            min_area_share=node.MIN_AREA_SHARE,
            whole_image=node.WHOLE_IMAGE,
            published=node.COMPAT == "published",
        )

    def __call__(self, photo: np.ndarray, given: MaskSet) -> tuple[MaskSet, RefineReport]:
        """Return the masks of a photo ``uint8 [H, W, 3]`` (RGB), and how refinement went.

        Args:
            photo: RGB.
            given: masks of people; they join the divide masks, and are not refined.
        """
        divided, report = self._divide(photo, given)
        groups = [MaskSet.empty(divided.size)]
        for instance, parts, features in self._instances(photo, divided):
            clusters = MaskSet.empty(divided.size)
            if features is not None:
                clusters, refined = self._conquer(photo, instance, features)
                report += refined
            groups.append(self._group(instance, MaskSet.cat([clusters, parts])))
        if self.whole_image and self.relation == "containment":
            groups.append(_whole(photo))
        if self.published:
            return MaskSet.cat(groups), report
        masks = MaskSet.cat(groups)
        # What people drew stays, also where it is too small for an instance and lies in none.
        lost = given.filter((given.iou(masks) < 1).all(axis=1))
        return self._distinct(MaskSet.cat([masks, lost])), report

    def _divide(self, photo: np.ndarray, given: MaskSet) -> tuple[MaskSet, RefineReport]:
        """Return the masks of people, the whole photo, and the objects of the divider, refined."""
        found, report = [given], RefineReport()
        # With "containment" the photo would be the one instance, and all else its parts.
        if self.whole_image and self.relation == "all":
            found.append(_whole(photo))
        if self.divider is not None:
            objects = self.divider(photo)
            if self.refiner is not None:
                objects, report = self.refiner(photo, objects)
            found.append(objects)
        masks = MaskSet.cat(found)
        return masks.filter(masks.areas > 0), report

    def _instances(
        self, photo: np.ndarray, divided: MaskSet
    ) -> Iterator[tuple[MaskSet, MaskSet, np.ndarray | None]]:
        """Yield each instance (one mask), its known parts, and its features ``[h, w, D]``.

        The features are None where nothing is to be merged: without a threshold, or where the box
        has no pixels, which happens in published mode only.
        """
        relation = (
            Instances.all_of(divided)
            if self.relation == "all"
            else relate(
                divided,
                min_area_share=self.instance_area_share,
                containment=self.instance_containment,
                published=self.published,
            )
        )
        for start in range(0, len(relation.instances), INSTANCES_AT_ONCE):
            chosen = [
                (divided.filter([instance]), divided.filter(parts))
                for instance, parts in zip(
                    relation.instances[start : start + INSTANCES_AT_ONCE],
                    relation.parts[start : start + INSTANCES_AT_ONCE],
                    strict=True,
                )
            ]
            boxes = [instance_box(instance, published=self.published) for instance, _ in chosen]
            thin = [x1 <= x0 or y1 <= y0 for x0, y0, x1, y1 in boxes]
            filled = [i for i in range(len(boxes)) if self.thresholds and not thin[i]]
            grids = self.features.batch([self._crop(photo, boxes[i]) for i in filled])
            grid_of = dict(zip(filled, grids, strict=True))
            for i, (instance, parts) in enumerate(chosen):
                # UnSAMv2 loses such an instance with its parts; UnSAM only does not conquer it.
                if not (thin[i] and self.relation == "containment"):
                    yield instance, parts, grid_of.get(i)

    def _crop(self, photo: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
        """Return a crop without a copy: whole photos of many pixels would add up."""
        x0, y0, x1, y1 = box
        crop = photo[y0:y1, x0:x1]
        return crop[..., ::-1] if self.published else crop

    def _conquer(
        self, photo: np.ndarray, instance: MaskSet, features: np.ndarray
    ) -> tuple[MaskSet, RefineReport]:
        clusters = conquer_instance(
            features,
            instance,
            thresholds=self.thresholds,
            min_patches=self.min_patches,
            min_coverage=self.min_coverage,
            nms_iou=self.nms_iou,
            published=self.published,
        )
        return (clusters, RefineReport()) if self.refiner is None else self.refiner(photo, clusters)

    def _group(self, instance: MaskSet, inner: MaskSet) -> MaskSet:
        """Return an instance and the masks in it, without copies; the instance is their parent."""
        if self.published and self.relation == "all":
            # UnSAM does not compare clusters with their object.
            kept = inner
        else:
            kept = protected_nms(instance, inner, nms_iou=self.nms_iou, published=self.published)
        parent = np.zeros(1 + len(kept), np.int64)
        parent[0] = -1
        return MaskSet.cat([instance, kept]).replace(parent=parent)

    def _distinct(self, masks: MaskSet) -> MaskSet:
        """Return the masks without copies over all instances, the surest source first."""
        large = masks.areas >= self.min_area_share * masks.size[0] * masks.size[1]
        masks = masks.filter(large | (masks.source != "conquer"))
        kept = masks.replace(score=sureness(masks)).nms(self.nms_iou, order="score")
        return masks.filter(kept[: self.max_masks])


def _whole(photo: np.ndarray) -> MaskSet:
    return MaskSet.from_masks(np.ones((1, *photo.shape[:2]), bool), source="divide")
