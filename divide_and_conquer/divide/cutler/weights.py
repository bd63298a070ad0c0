"""Reading CutLER's weights: detectron2 checkpoints, plain state dicts, safetensors."""

from __future__ import annotations

import os
import re

import torch
from torch import Tensor

from divide_and_conquer.divide.cutler.detector import CascadeMaskRcnn
from unsam.checkpoint.foreign_weights import read_weights_file
from unsam.errors import CheckpointError, counted

# What detectron2 keeps in some checkpoints beside the parameters; the net computes it itself.
_COMPUTED = re.compile(
    r"^(pixel_mean|pixel_std|proposal_generator\.anchor_generator\.cell_anchors\.\d+)$"
)
_COUNTER = ".num_batches_tracked"
_SAME_MODEL = ("backbone.bottom_up.", "proposal_generator.", "roi_heads.box_head.0.")


def load_cutler(path: str | os.PathLike[str]) -> CascadeMaskRcnn:
    """Return the net with the weights of a file, on the CPU, in evaluation mode.

    Raises:
        CheckpointError: the file is missing or damaged, holds another model, or its tensors do
            not fit: the text counts and names those missing, left over and of another shape.
    """
    weights = read_state_dict(path)
    # On "meta" nothing is drawn at random only to be overwritten.
    with torch.device("meta"):
        net = CascadeMaskRcnn()
    own = net.state_dict()
    _check_fit(str(path), weights, {key: tensor.shape for key, tensor in own.items()})
    net.to_empty(device="cpu")
    net.load_state_dict(weights)
    return net.eval().requires_grad_(False)


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Return the tensors of a ``.pth``, ``.pkl`` or ``.safetensors`` file by name, on the CPU.

    What detectron2 computes by itself is left out. Nothing in the file is executed.

    Raises:
        CheckpointError: the file is missing, damaged or no dict of tensors.
    """
    tensors = read_weights_file(path).tensors
    return {key: value for key, value in tensors.items() if not _COMPUTED.match(key)}


def _check_fit(name: str, weights: dict[str, Tensor], own: dict[str, torch.Size]) -> None:
    """Raise unless the weights are just those of the net; add counters that old files lack."""
    for key in own:
        if key.endswith(_COUNTER) and key not in weights:
            weights[key] = torch.zeros((), dtype=torch.int64)
    absent = [start for start in _SAME_MODEL if not any(key.startswith(start) for key in weights)]
    if absent:
        example = next(iter(weights))
        raise CheckpointError(
            f"{name}: weights of another model (no {absent[0]}*, but {example}); the divider "
            "cutler takes cutler_cascade_final.pth"
        )
    missing = [key for key in own if key not in weights]
    left_over = [key for key in weights if key not in own]
    shapes = [
        f"{key} {list(weights[key].shape)}, expected {list(shape)}"
        for key, shape in own.items()
        if key in weights and weights[key].shape != shape
    ]
    if missing or left_over or shapes:
        raise CheckpointError(
            f"{name}: not the weights of CutLER's cascade detector: "
            f"{counted(missing, 'missing')}, {counted(left_over, 'left over')}, "
            f"{counted(shapes, 'of another shape')}; use cutler_cascade_final.pth"
        )
