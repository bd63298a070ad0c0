"""The published layouts of the family, and the weights that are for something else."""

from __future__ import annotations

from unsam.checkpoint.layouts.base import Layout
from unsam.checkpoint.layouts.other_uses import OTHER_USES
from unsam.checkpoint.layouts.sam import SAM, SAM_HUB
from unsam.checkpoint.layouts.sam2 import SAM2, SAM2_HUB
from unsam.checkpoint.layouts.unsam_promptable import UNSAM_PROMPTABLE
from unsam.checkpoint.layouts.unsam_whole import UNSAM_WHOLE
from unsam.checkpoint.layouts.unsam_whole_hub import UNSAM_WHOLE_HUB
from unsam.checkpoint.layouts.unsamv2 import UNSAMV2, UNSAMV2_MERGED

LAYOUTS: tuple[Layout, ...] = (
    UNSAM_WHOLE,
    UNSAM_PROMPTABLE,
    SAM,
    SAM2,
    UNSAMV2_MERGED,
    UNSAMV2,
    UNSAM_WHOLE_HUB,
    SAM_HUB,
    SAM2_HUB,
)
"""All layouts; at most one matches a file."""

PUBLISHED_LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "Mask2Former": (UNSAM_WHOLE,),
    "SemanticSam": (UNSAM_PROMPTABLE,),
    "Sam": (SAM,),
    "Sam2": (SAM2, UNSAMV2_MERGED, UNSAMV2),
}
"""The layouts of the authors' own files by ``MODEL.META_ARCHITECTURE``, plainest model first."""

HUB_LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "Mask2Former": (UNSAM_WHOLE_HUB,),
    "Sam": (SAM_HUB,),
    "Sam2": (SAM2_HUB,),
}
"""Those of transformers' models, likewise."""

__all__ = ["HUB_LAYOUTS", "LAYOUTS", "OTHER_USES", "PUBLISHED_LAYOUTS", "Layout"]
