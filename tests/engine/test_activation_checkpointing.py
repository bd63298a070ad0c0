"""Blocks that are computed twice: the same gradients and names, less kept in between."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.modeling.backbone.conftest import SMALL_SWIN, SMALL_VIT
from tests.modeling.conftest import make_sample, tiny_cfg
from tests.modeling.sam.tiny import images, tiny_sam
from tests.modeling.sam2.tiny import photos, tiny_model
from unsam.engine.activation_checkpointing import checkpoint_activations
from unsam.errors import ConfigError
from unsam.modeling import build_model
from unsam.modeling.backbone import SamVit, SwinTransformer
from unsam.modeling.backbone.swin import SIZES
from unsam.modeling.sam.image_encoder import ENCODERS


class WithBackbone(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone


def _embedding(model: Any, pixels: list[Tensor]) -> Tensor:
    embedding: Tensor = model.encode(pixels).embedding
    return embedding.square().sum()


def _maps(pixels: Tensor, model: Any) -> Tensor:
    return torch.stack([x.square().sum() for x in model.backbone(pixels).values()]).sum()


Case = tuple[nn.Module, Callable[[nn.Module], Tensor]]


@pytest.fixture(params=["GranularSam", "Sam", "Sam2", "SamVit", "SwinTransformer"])
def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Case:
    """A model in training, and a loss that all of its encoder has a part in."""
    monkeypatch.setitem(SIZES, "tiny", SMALL_SWIN)
    monkeypatch.setitem(ENCODERS, "base", SMALL_VIT)
    torch.manual_seed(0)
    if request.param == "GranularSam":
        image = make_sample(0)["image"]
        return build_model(tiny_cfg()).train(), partial(_embedding, pixels=[image])
    if request.param == "Sam":
        return tiny_sam().train(), partial(_embedding, pixels=images())
    if request.param == "Sam2":
        return tiny_model().train(), partial(_embedding, pixels=photos(1))
    # Not of the size that SamVit's positions are stored for, and with branches dropped at random.
    pixels = torch.randn(2, 3, 64, 96)
    backbone = SamVit() if request.param == "SamVit" else SwinTransformer(drop_path=0.5)
    return WithBackbone(backbone).train(), partial(_maps, pixels)


def run(model: nn.Module, loss_of: Callable[[nn.Module], Tensor]) -> tuple[dict[str, Tensor], int]:
    """Return the loss and the gradients by name, and the bytes that were kept for the latter."""
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    torch.manual_seed(1)
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        loss = loss_of(model)
    loss.backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    size = sum(count for place, count in kept.items() if place not in parameters)
    return {"loss": loss.detach()} | gradients, size


def test_same_gradients_from_less_memory(case: Case) -> None:
    model, loss_of = case
    twin = copy.deepcopy(model)
    checkpoint_activations(twin)
    assert list(twin.state_dict()) == list(model.state_dict())
    expected, size = run(model, loss_of)
    found, smaller = run(twin, loss_of)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=name)
    assert smaller < 0.85 * size


def test_a_copy_computes_with_its_own_weights() -> None:
    model = build_model(tiny_cfg()).eval()
    checkpoint_activations(model)
    twin = copy.deepcopy(model)
    image = make_sample(0)["image"]
    with torch.no_grad():
        before = _embedding(twin, [image])
        for parameter in model.parameters():
            parameter.zero_()
        assert torch.equal(_embedding(twin, [image]), before)


def test_model_without_blocks_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"SOLVER\.ACTIVATION_CHECKPOINTING: Linear"):
        checkpoint_activations(nn.Linear(2, 2))
