"""Photo to maps: the backbone, then the pixel decoder, against the reference's own numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tests.golden_weights import recipe_state_dict
from unsam.checkpoint.layouts.pixel_decoder_names import published_pixel_decoder_name
from unsam.checkpoint.layouts.resnet_names import detectron2_resnet_name
from unsam.checkpoint.layouts.swin_names import published_swin_name
from unsam.config import get_cfg
from unsam.modeling.backbone import Backbone, ResNet50, SwinTransformer
from unsam.modeling.pixel_decoder import DeformablePixelDecoder

SHORTER_SIDE = {"unsam_whole": 256, "unsam_promptable": 320}


def parts(pack: str) -> tuple[Backbone, DeformablePixelDecoder]:
    cfg = get_cfg()
    promptable = pack == "unsam_promptable"
    if promptable:
        cfg.MODEL.PIXEL_DECODER.NUM_LEVELS = 4
        cfg.MODEL.PIXEL_DECODER.FFN_DIM = 2048
    backbone = SwinTransformer(size="tiny") if promptable else ResNet50()
    decoder = DeformablePixelDecoder(
        in_channels=backbone.channels,
        fine_first=promptable,
        **DeformablePixelDecoder.from_config(cfg),
    )
    return backbone.eval(), decoder.eval()


def fill(module: nn.Module, weights: dict[str, Tensor], published: Callable[[str], str]) -> None:
    module.load_state_dict({name: weights[published(name)] for name in module.state_dict()})


def net_input(pack: Path) -> Tensor:
    photo = Image.open(pack / "photo.png").convert("RGB")
    scale = SHORTER_SIDE[pack.name] / min(photo.size)
    size = (round(photo.width * scale), round(photo.height * scale))
    pixels = torch.from_numpy(np.array(photo.resize(size, Image.Resampling.BILINEAR)))
    cfg = get_cfg()
    pixels = (pixels - torch.tensor(cfg.INPUT.PIXEL_MEAN)) / torch.tensor(cfg.INPUT.PIXEL_STD)
    height, width = np.load(pack / "outputs.npz")["padded_hw"].tolist()
    padding = (0, width - pixels.shape[1], 0, height - pixels.shape[0])
    return nn.functional.pad(pixels.permute(2, 0, 1), padding)[None]


@pytest.mark.parametrize("pack", ["unsam_whole", "unsam_promptable"])
def test_golden(golden_root: Path, pack: str) -> None:
    weights = recipe_state_dict(golden_root / pack)
    prefix = "model." if pack == "unsam_promptable" else ""
    backbone, decoder = parts(pack)
    name = published_swin_name if prefix else detectron2_resnet_name
    fill(backbone, weights, lambda ours: f"{prefix}backbone.{name(ours)}")
    head = f"{prefix}sem_seg_head.pixel_decoder."
    fill(decoder, weights, lambda ours: head + published_pixel_decoder_name(ours))
    with torch.no_grad():
        features = decoder(backbone(net_input(golden_root / pack)))

    found = {"mask_features": (features.mask_features, 4)}
    if prefix:
        found |= {f"multi_scale{i}": (x, 2) for i, x in enumerate(features.levels[::-1])}
    else:
        found |= {f"pixel_decoder{i}": (x, 1 + i // 2) for i, x in enumerate(features.levels)}
    golden = np.load(golden_root / pack / "outputs.npz")
    for array, (map_, step) in found.items():
        mean, deviation, largest = golden[f"{array}_stats"]
        wanted = torch.from_numpy(golden[f"{array}_sub"])
        error = (map_[0, ::16, ::step, ::step] - wanted).abs().max() / largest
        assert error < 1e-4, f"{array}: {error:.1e} of the largest value"
        stats = torch.stack((map_.mean(), map_.std(), map_.abs().max()))
        assert (stats - torch.tensor((mean, deviation, largest))).abs().max() < 1e-4 * largest
