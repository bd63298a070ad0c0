"""The same recipe trains alike however its photos and its weights are dealt out to processes.

What is left of differences is float32 sums in another order.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.layouts import BATCH_SIZE, MASKS, RUNS, STEPS, STOP, train, work
from tests.engine.tiny import make_dataset
from unsam.checkpoint.checkpointer import load_checkpoint
from unsam.engine.launch import launch

# Relative to the value, for losses and norms; absolute, for weights. Measured: 3e-7 and 3e-7.
LOSS_TOLERANCE = 1e-5
WEIGHT_TOLERANCE = 1e-5
ALL_RUNS = [(world, name) for world, runs in RUNS.items() for name in runs]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("layouts")
    make_dataset(root / "data", [f"photo_{n}.png" for n in range(len(MASKS))], MASKS)
    for world in RUNS:
        launch(work, (root,), world)
    return root


@pytest.fixture(scope="module")
def straight(folder: Path) -> dict[str, Any]:
    """One process, one batch of all photos of the step."""
    return train(folder, "straight")


def ranks_of(folder: Path, world: int, name: str) -> list[dict[str, Any]]:
    return [torch.load(folder / f"{name}_rank_{rank}.pt") for rank in range(world)]


def mean_losses(ranks: list[dict[str, Any]], step: int) -> dict[str, float]:
    names = [name for name in ranks[0]["losses"][step] if name.startswith("loss_")]
    return {name: sum(rank["losses"][step][name] for rank in ranks) / len(ranks) for name in names}


def assert_same_weights(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, weight in first.items():
        torch.testing.assert_close(weight, second[name], rtol=0, atol=WEIGHT_TOLERANCE, msg=name)


@pytest.mark.parametrize(("world", "name"), ALL_RUNS)
def test_every_layout_and_every_resumed_run_gives_the_same_training(
    folder: Path, straight: dict[str, Any], world: int, name: str
) -> None:
    ranks = ranks_of(folder, world, name)
    first = STOP if "resume" in RUNS[world][name] else 0
    assert len(ranks[0]["losses"]) == STEPS - first
    for step in range(first, STEPS):
        losses = mean_losses(ranks, step - first)
        expected = {name: straight["losses"][step][name] for name in losses}
        assert losses == pytest.approx(expected, rel=LOSS_TOLERANCE)
        for rank in ranks:
            assert rank["norms"][step - first] == pytest.approx(
                straight["norms"][step], rel=LOSS_TOLERANCE
            )
    for rank in ranks:
        assert_same_weights(rank["model"], straight["model"])


@pytest.mark.parametrize(("world", "name"), ALL_RUNS)
def test_every_photo_of_a_pass_is_seen_exactly_once(folder: Path, world: int, name: str) -> None:
    ranks = ranks_of(folder, world, name)
    seen = Counter(photo for rank in ranks for photo in rank["photos"])
    if "resume" in RUNS[world][name]:
        saved_by = ranks_of(folder, 2, RUNS[world][name]["resume"])
        per_rank = STOP * BATCH_SIZE // len(saved_by)
        seen.update(photo for rank in saved_by for photo in rank["photos"][:per_rank])
    assert seen == {f"photo_{n}.png": STEPS * BATCH_SIZE // len(MASKS) for n in range(len(MASKS))}


@pytest.mark.parametrize("accumulate", [2, 6])
def test_accumulation_gives_the_same_training(
    folder: Path, straight: dict[str, Any], accumulate: int, tmp_path: Path
) -> None:
    parts = train(folder, str(tmp_path), ACCUMULATE=accumulate)
    assert_same_weights(parts["model"], straight["model"])


@pytest.mark.parametrize("saved_by", ["ddp_2x3", "fsdp_2x1"])
def test_run_of_two_goes_on_alone(
    folder: Path, straight: dict[str, Any], saved_by: str, tmp_path: Path
) -> None:
    alone = train(folder, str(tmp_path), resume=saved_by)
    assert_same_weights(alone["model"], straight["model"])
    assert alone["norms"] == pytest.approx(straight["norms"][STOP:], rel=LOSS_TOLERANCE)


def test_checkpoints_of_all_layouts_have_the_same_entries(
    folder: Path, straight: dict[str, Any]
) -> None:
    def entries(name: str) -> dict[str, Any]:
        state = load_checkpoint(folder / name / "checkpoints" / f"iter_{STEPS:08d}.pt")
        shapes = {
            part: {key: tuple(value.shape) for key, value in state[part].items()}
            for part in ("model", "average")
        }
        moments = {
            (index, key): tuple(value.shape)
            for index, state in state["optimizer"]["state"].items()
            for key, value in state.items()
        }
        return shapes | {"moments": moments, "groups": state["optimizer"]["param_groups"]}

    del straight
    expected = entries("straight")
    for _, name in ALL_RUNS:
        assert entries(name) == expected
    assert not any(
        name.startswith(("module.", "model.")) or "_wrapped" in name for name in expected["model"]
    )
