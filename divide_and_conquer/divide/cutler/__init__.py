"""CutLER's class-agnostic detector: Cascade Mask R-CNN with a ResNet-50 and a feature pyramid."""

from divide_and_conquer.divide.cutler.divider import CutlerDivider

__all__ = ["CutlerDivider"]
