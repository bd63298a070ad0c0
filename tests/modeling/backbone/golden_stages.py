"""Published weights of a pack in a backbone, and its stages against the pack's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tests.golden_weights import recipe_state_dict
from unsam.modeling.backbone import Backbone
from unsam.modeling.backbone.base import STAGES
from unsam.modeling.segmentation_model import padded_pixels

MEAN = torch.tensor([123.675, 116.28, 103.53])[:, None, None]
STD = torch.tensor([58.395, 57.12, 57.375])[:, None, None]


def load_published(
    backbone: Backbone, pack: Path, prefix: str, published: Callable[[str], str]
) -> None:
    """Load the tensors of `pack` below `prefix`; all of them have to be in use."""
    tensors = {
        name.removeprefix(prefix): tensor
        for name, tensor in recipe_state_dict(pack).items()
        if name.startswith(prefix)
    }
    names = {name: published(name) for name in backbone.state_dict()}
    assert sorted(names.values()) == sorted(tensors)
    backbone.load_state_dict({name: tensors[names[name]] for name in names})


def stage_errors(backbone: Backbone, pack: Path, shorter_side: int) -> dict[str, float]:
    """Return the largest difference of each stage, relative to the stage's largest value."""
    outputs = np.load(pack / "outputs.npz")
    photo = Image.open(pack / "photo.png").convert("RGB")
    scale = shorter_side / min(photo.size)
    size = (round(photo.width * scale), round(photo.height * scale))
    pixels = np.array(photo.resize(size, Image.Resampling.BILINEAR))
    image = torch.from_numpy(pixels).permute(2, 0, 1)
    height, width = (int(side) for side in outputs["padded_hw"])
    with torch.inference_mode():
        maps = backbone.eval()(padded_pixels([image], (height, width), MEAN, STD))
    errors = {}
    for name, step in zip(STAGES, (8, 4, 2, 1), strict=True):
        channels = maps[name].shape[1]
        ours = maps[name][0, :: channels // 16, ::step, ::step].numpy()
        errors[name] = float(np.abs(ours - outputs[f"{name}_sub"]).max() / np.abs(ours).max())
        statistics = (maps[name].mean(), maps[name].std(), maps[name].abs().max())
        np.testing.assert_allclose(statistics, outputs[f"{name}_stats"], rtol=1e-4, atol=1e-6)
    return errors
