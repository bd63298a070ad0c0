"""Training by clicks: the published schedule of prompts, and what the task sampler does to it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fvcore.common.config import CfgNode

from tests.modeling.conftest import make_sample
from tests.modeling.semantic_sam.conftest import tiny_model as tiny_semantic_sam
from unsam.modeling import GranularSam, Prompts, build_model
from unsam.modeling.interactive import PromptKind
from unsam.modeling.prompts import NEGATIVE, PADDING, POSITIVE
from unsam.modeling.training_model import TrainingModel


class Tasks:
    """A task sampler with fixed chances, which keeps what it is told."""

    def __init__(self, favoured: float | None = None, prompts: torch.Tensor | None = None) -> None:
        self.favoured = favoured
        self.prompts = prompts
        self.rows: list[torch.Tensor] = []

    def mask_weights(self, granularity: torch.Tensor) -> torch.Tensor | None:
        if self.favoured is None:
            return None
        return torch.where((granularity - self.favoured).abs() < 0.01, 1.0, 1e-6)

    def prompt_weights(self) -> torch.Tensor | None:
        return self.prompts

    def record(self, *columns: torch.Tensor) -> None:
        self.rows.append(torch.stack([column.double() for column in columns], dim=1))


def training(cfg: CfgNode, tasks: Tasks | None = None) -> TrainingModel:
    torch.manual_seed(0)
    model = TrainingModel(build_model(cfg))
    model.tasks = tasks
    return model.train()


def samples(num_masks: int = 3) -> list[dict[str, Any]]:
    return [
        make_sample(number, num_masks=num_masks) | {"photo": 10 + number, "seed": number}
        for number in range(2)
    ]


def test_published_clicks_are_one_uniform_click_and_three_corrections(
    cfg: CfgNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """UnSAMv2: up to 30 masks of a photo, four rounds, no boxes."""
    cfg.MODEL.CLICKS.ROUNDS = 4
    cfg.MODEL.CLICKS.MASKS_PER_IMAGE = 30
    cfg.MODEL.CLICKS.CENTRE_PROBABILITY = 0.0
    cfg.MODEL.CLICKS.BOX_PROBABILITY = 0.0
    model = training(cfg, tasks := Tasks())
    asked: list[Prompts] = []
    decode = GranularSam.decode

    def listen(self: GranularSam, features: Any, prompts: Prompts) -> Any:
        asked.append(prompts)
        return decode(self, features, prompts)

    monkeypatch.setattr(GranularSam, "decode", listen)
    many = make_sample(0, num_masks=1) | {"photo": 0, "seed": 1}
    many["masks"] = many["masks"].expand(40, -1, -1)
    many["granularity"] = torch.linspace(0.1, 1.0, 40)
    model([many], 30.0, 0.0)
    assert [prompts.labels.shape for prompts in asked] == [(30, 2), (30, 3), (30, 4), (30, 5)]
    assert [prompts.mask_logits is None for prompts in asked] == [True, False, False, False]
    last = asked[-1]
    assert (last.labels[:, 0] == POSITIVE).all()
    assert (last.labels[:, 1] == PADDING).all()
    assert torch.isin(last.labels[:, 2:], torch.tensor([POSITIVE, NEGATIVE])).all()
    assert len({tuple(point) for point in last.points[:, 0].tolist()}) > 20, "not at one centre"
    assert (tasks.rows[0][:, 2] == PromptKind.UNIFORM_CLICK).all()


def test_a_task_sampler_that_only_looks_changes_nothing(cfg: CfgNode) -> None:
    cfg.MODEL.CLICKS.MASKS_PER_IMAGE = 2
    model = training(cfg)
    torch.manual_seed(0)  # of dropout
    plain = model(samples(), 4.0, 0.0)
    model.tasks = tasks = Tasks()
    torch.manual_seed(0)
    watched = model(samples(), 4.0, 0.0)
    assert all(torch.equal(plain[name], watched[name]) for name in plain)
    photos, granularity, kinds, errors = tasks.rows[0].T
    assert photos.tolist() == [10, 10, 11, 11]
    assert torch.isin(granularity.float(), make_sample(0)["granularity"]).all()
    assert torch.isin(kinds, torch.arange(3.0).double()).all()
    assert (1 - errors).mean().item() == pytest.approx(watched["iou_first"].item())


@pytest.mark.parametrize("architecture", ["GranularSam", "SemanticSam"])
def test_tasks_choose_masks_and_prompts(cfg: CfgNode, architecture: str) -> None:
    cfg.MODEL.CLICKS.MASKS_PER_IMAGE = 1
    only_boxes = torch.tensor([1e-9, 1e-9, 1.0])
    model = training(cfg, tasks := Tasks(favoured=0.6, prompts=only_boxes))
    if architecture == "SemanticSam":
        semantic = tiny_semantic_sam(box_probability=0.5)
        semantic.max_prompts = 1
        model = TrainingModel(semantic).train()
        model.tasks = tasks
    batch = samples()
    count = model.count_targets(batch)
    losses = model(batch, float(count), 0.0)
    rows = torch.cat(tasks.rows)
    assert rows[:, 0].tolist() == [10, 11]
    assert rows[:, 1].tolist() == pytest.approx([0.6, 0.6])
    assert rows[:, 2].tolist() == [PromptKind.BOX, PromptKind.BOX]
    assert ((rows[:, 3] >= 0) & (rows[:, 3] <= 1)).all()
    assert count == 2
    assert torch.stack(list(losses.values())).isfinite().all()
