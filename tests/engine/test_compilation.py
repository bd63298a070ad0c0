"""Compiled models compute the same and are stored under the same names."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.modeling.conftest import make_sample, tiny_cfg
from tests.modeling.sam2.tiny import tiny_model
from unsam.engine.compilation import compile_model
from unsam.modeling import SegmentationModel, build_model
from unsam.modeling.click_trained import ClickTrainedModel
from unsam.modeling.training_model import TrainingModel


def make_model(name: str) -> SegmentationModel:
    torch.manual_seed(0)
    model = tiny_model(granular=True) if name == "Sam2" else build_model(tiny_cfg())
    assert isinstance(model, ClickTrainedModel)
    # Tracing is what takes the time. Two rounds: one more point, and the first answer as a prompt.
    model.clicks = replace(model.clicks, rounds=1 if name == "Sam2" else 2)
    return model


def losses_of(model: SegmentationModel, batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    model.zero_grad()
    losses = TrainingModel(model.train())(batch, 3.0, 0.0)
    sum(value for name, value in losses.items() if name.startswith("loss_")).backward()
    return {name: value.detach() for name, value in losses.items()}


@pytest.mark.parametrize("name", ["GranularSam", "Sam2"])
def test_losses_gradients_and_names_stay(name: str) -> None:
    batch = [make_sample(0, num_masks=3) | {"seed": 0}]
    plain = make_model(name)
    compiled = copy.deepcopy(plain)
    torch.compiler.reset()
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    compile_model(compiled, backend)
    assert list(compiled.state_dict()) == list(plain.state_dict())
    expected, found = losses_of(plain, batch), losses_of(compiled, batch)
    assert graphs
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5, msg=key)
    for (key, one), other in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        if one.grad is not None:
            limit = 1e-3 * one.grad.abs().max().item() + 1e-6
            torch.testing.assert_close(other.grad, one.grad, rtol=0, atol=limit, msg=key)


def test_a_copy_computes_with_its_own_weights() -> None:
    model = build_model(tiny_cfg()).eval()
    torch.compiler.reset()
    compile_model(model, "eager")
    twin = copy.deepcopy(model)
    image = make_sample(0)["image"]
    with torch.no_grad():
        before = twin.encode([image]).embedding
        for parameter in model.parameters():
            parameter.zero_()
        assert torch.equal(twin.encode([image]).embedding, before)
        assert not torch.equal(model.encode([image]).embedding, before)
