"""The backbones at sizes that run in a blink, and the inputs of the golden packs."""

from __future__ import annotations

import pytest
import torch

from unsam.modeling.backbone import Backbone, ResNet50, SamVit, SwinTransformer
from unsam.modeling.backbone.swin import SIZES, SwinSize
from unsam.modeling.sam.image_encoder import ENCODERS

SMALL_SWIN = SwinSize(16, (2, 2, 2, 2), (1, 2, 2, 4), window=3)
SMALL_VIT = {"embed_dim": 32, "depth": 2, "num_heads": 2, "global_blocks": (1,)}

BACKBONES: dict[str, type[Backbone]] = {
    "ResNet50": ResNet50,
    "SwinTransformer": SwinTransformer,
    "SamVit": SamVit,
}


@pytest.fixture
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "tiny", SMALL_SWIN)
    monkeypatch.setitem(ENCODERS, "base", SMALL_VIT)


@pytest.fixture(params=list(BACKBONES))
def backbone(request: pytest.FixtureRequest, small_sizes: None) -> Backbone:
    torch.manual_seed(0)
    return random_backbone(BACKBONES[request.param])


def random_backbone(kind: type[Backbone]) -> Backbone:
    """Return a backbone in evaluation mode without a parameter that is zero or one."""
    built = kind().eval()
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if parameter.ndim == 1 or "pos" in name or "offset_bias" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
        for name, buffer in built.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
            elif buffer.is_floating_point():
                buffer.add_(0.1 * torch.randn_like(buffer))
    return built


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest difference, relative to the largest expected value."""
    return float((actual - expected).abs().max() / expected.abs().max())
