"""Sharding in one process: what must hold whatever the number of processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed.tensor import DTensor

from tests.engine.tiny import make_dataset, make_trainer, tiny_cfg
from tests.modeling.conftest import make_sample
from tests.modeling.conftest import tiny_cfg as tiny_model_cfg
from unsam.engine import parallel
from unsam.errors import ConfigError
from unsam.modeling import build_model
from unsam.modeling.training_model import TrainingModel


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.fixture
def training_model() -> TrainingModel:
    torch.manual_seed(0)
    cfg = tiny_model_cfg()
    return TrainingModel.from_config(cfg, build_model(cfg)).train()


def stepped(model: TrainingModel) -> torch.optim.Optimizer:
    """Return an optimizer with moments in it."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    sum(p.square().sum() for p in model.parameters()).backward()  # type: ignore[union-attr]
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


def test_sharding_keeps_weights_moments_and_names(
    group: None, training_model: TrainingModel
) -> None:
    optimizer = stepped(training_model)
    weights = {name: w.clone() for name, w in training_model.model.state_dict().items()}
    moments = {
        (index, name): value.clone()
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }
    sharded = parallel.ShardedModel(training_model, optimizer)
    assert all(isinstance(p, DTensor) for p in optimizer.param_groups[0]["params"])
    after = parallel.whole_on_main(training_model.model.state_dict())
    assert list(after) == list(weights)
    assert all(torch.equal(after[name], weights[name]) for name in weights)
    saved = parallel.whole_on_main(optimizer.state_dict())["state"]
    assert {(i, name) for i, state in saved.items() for name in state} == moments.keys()
    assert all(torch.equal(saved[i][name], value) for (i, name), value in moments.items())
    copy = sharded.whole_model()
    assert all(torch.equal(w, weights[name]) for name, w in copy.state_dict().items())
    assert torch.equal(copy.pixel_mean, training_model.model.pixel_mean)


@pytest.mark.parametrize("num_masks", [0, 3])
def test_sharded_gradients_are_those_of_the_plain_model(
    group: None, training_model: TrainingModel, num_masks: int
) -> None:
    batch = [make_sample(seed, num_masks) | {"seed": seed} for seed in range(2)]
    training_model.model.prompt_encoder.granularity.mlp.dropout = 0.0  # type: ignore[union-attr]

    def backward(model: parallel.LoneModel) -> None:
        losses = model.losses(batch, 6.0, 0.5)
        sum(value for name, value in losses.items() if name.startswith("loss_")).backward()  # type: ignore[union-attr]

    backward(parallel.LoneModel(training_model))
    plain = [p.grad.clone() for p in training_model.parameters() if p.grad is not None]
    training_model.zero_grad(set_to_none=True)
    optimizer = torch.optim.SGD(training_model.parameters(), lr=1.0)
    sharded = parallel.ShardedModel(training_model, optimizer)
    for _ in range(2):  # micro-batches add up
        backward(sharded)
    parameters: list[nn.Parameter] = optimizer.param_groups[0]["params"]
    assert len(plain) == len(parameters)
    for expected, parameter in zip(plain, parameters, strict=True):
        torch.testing.assert_close(parallel.whole(parameter.grad), 2 * expected)
    norm = parallel.clip_gradients(parameters, 0.5)
    expected_norm = 2 * torch.stack([gradient.norm() for gradient in plain]).norm()
    torch.testing.assert_close(norm, expected_norm)


def test_a_lone_process_trains_the_plain_model(training_model: TrainingModel) -> None:
    for kind in parallel.KINDS:
        alone = parallel.parallelise(kind, training_model, stepped(training_model))
        assert alone.whole_model() is training_model.model


def test_a_scaled_loss_is_refused_for_shards(
    training_model: TrainingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel.distributed, "world_size", lambda: 2)
    with pytest.raises(ConfigError, match=r"fsdp cannot scale the loss; set SOLVER\.PRECISION"):
        parallel.parallelise("fsdp", training_model, stepped(training_model), scales_loss=True)


def test_another_kind_is_refused(tmp_path: Path) -> None:
    annotations = make_dataset(tmp_path / "data", ["a.png"])
    cfg = tiny_cfg(annotations, tmp_path / "run", MAX_ITER=1, BATCH_SIZE=1, PARALLEL="pipeline")
    with pytest.raises(ConfigError, match=r"SOLVER\.PARALLEL .*ddp.*fsdp.*pipeline"):
        make_trainer(cfg)[0].train()
