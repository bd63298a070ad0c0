"""Weights of a backbone alone, as others published them, to start a model from."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from unsam.checkpoint.foreign_weights import read_weights_file
from unsam.checkpoint.layouts.resnet_names import detectron2_resnet_name
from unsam.checkpoint.layouts.swin_names import COMPUTED_SWIN_NAMES, published_swin_name
from unsam.errors import CheckpointError, counted
from unsam.modeling.backbone.base import Backbone
from unsam.modeling.backbone.resnet import ResNet50
from unsam.modeling.backbone.sam_vit import SamVit
from unsam.modeling.backbone.swin import SwinTransformer


@dataclass(frozen=True)
class BackboneLayout:
    """One published way to name the tensors of a backbone, whatever stands before all names.

    Attributes:
        published: our name to the published name.
        fresh: regular expression of our names that a file may lack, all of them together; they
            keep their initial values.
        ignored: regular expression of published names that are for another use of the backbone.
    """

    published: Callable[[str], str]
    fresh: str = ""
    ignored: str = ""


_CLASSIFIER = r"(stem\.)?fc\..+|.+\.num_batches_tracked"

LAYOUTS: dict[type[Backbone], tuple[BackboneLayout, ...]] = {
    ResNet50: (
        # torchvision, timm, DINO.
        BackboneLayout(lambda name: name, ignored=_CLASSIFIER),
        BackboneLayout(detectron2_resnet_name, ignored=_CLASSIFIER),
    ),
    SwinTransformer: (
        # Files from classification and MoBY have no norms on the stages' outputs.
        BackboneLayout(
            published_swin_name,
            fresh=r"norms\..+",
            ignored=rf"head\..+|norm\..+|{COMPUTED_SWIN_NAMES}|.+\.attn_mask",
        ),
    ),
    SamVit: (
        BackboneLayout(
            lambda name: name.removeprefix("encoder."), fresh=r"pyramid\..+", ignored=r"neck\..+"
        ),
    ),
}
"""What each backbone can be loaded from."""


def load_backbone_weights(backbone: Backbone, path: str | os.PathLike[str]) -> None:
    """Load the published weights of a backbone; all of them or none.

    The backbone may be part of a larger model in the file (``image_encoder.`` of SAM, ``encoder.``
    of MoBY): the rest of that model is passed over.

    Args:
        backbone: ResNet-50 takes files in the names of torchvision (timm, DINO) and of detectron2,
            Swin those of its authors and MoBY's, SamVit those of SAM.
        path: a ``.pth``, ``.pkl`` or ``.safetensors`` file.

    Raises:
        CheckpointError: the file is no weights file, of another backbone or another size, has
            tensors missing or left over, or numbers that are not finite.
    """
    file = Path(path)
    expected = backbone.state_dict()
    layout, tensors = _find(read_weights_file(file).tensors, expected, LAYOUTS[type(backbone)])
    names = {name: layout.published(name) for name in expected}
    found = {name: tensors.pop(published, None) for name, published in names.items()}
    fresh = {name for name in found if re.fullmatch(layout.fresh, name)}
    if all(found[name] is None for name in fresh):
        found = {name: tensor for name, tensor in found.items() if name not in fresh}
    given = {name: tensor for name, tensor in found.items() if tensor is not None}
    kinds = {
        "missing": [names[name] for name in found if name not in given],
        "left over": [name for name in tensors if not re.fullmatch(layout.ignored, name)],
        "of another shape": [
            f"{names[name]} {list(tensor.shape)}, expected {list(expected[name].shape)}"
            for name, tensor in given.items()
            if tensor.shape != expected[name].shape
        ],
        "with NaN or infinity": [
            names[name] for name, tensor in given.items() if not tensor.isfinite().all()
        ],
    }
    problems = [counted(items, what) for what, items in kinds.items() if items]
    if problems:
        raise CheckpointError(
            f"{file}: not the weights of this {type(backbone).__name__}, nothing was loaded: "
            f"{', '.join(problems)}; check MODEL.BACKBONE.NAME and SIZE"
        )
    # Not strict: what the file lacks is all fresh, see `BackboneLayout`.
    backbone.load_state_dict(given, strict=False)


def _find(
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    layouts: tuple[BackboneLayout, ...],
) -> tuple[BackboneLayout, dict[str, Tensor]]:
    """Return the layout that knows most of a file, and its tensors without what is before them."""
    best: tuple[int, int] = (-1, 0)
    result: tuple[BackboneLayout, dict[str, Tensor]] = (layouts[0], dict(tensors))
    for layout in layouts:
        published = {layout.published(name) for name in expected}
        # A tensor that every file of the layout has; what precedes its name precedes all others.
        anchor = next(layout.published(n) for n in expected if not re.fullmatch(layout.fresh, n))
        for prefix in {name.removesuffix(anchor) for name in tensors if name.endswith(anchor)}:
            inside = {
                name.removeprefix(prefix): tensor
                for name, tensor in tensors.items()
                if name.startswith(prefix)
            }
            # Of two copies (MoBY: the network and its running mean) the shorter prefix counts.
            rank = (len(published & set(inside)), -len(prefix))
            if rank > best:
                best, result = rank, (layout, inside)
    return result
