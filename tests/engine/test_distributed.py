"""Two processes over gloo: one run, one fate."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.engine.ranks import come_late, sleep_or_die, work
from tests.engine.tiny import Recorder, make_dataset, make_trainer, tiny_cfg
from unsam.config import config_text
from unsam.engine import distributed
from unsam.engine.launch import check_num_processes, launch
from unsam.engine.run_state import resume_newest
from unsam.errors import ConfigError

PHOTOS = [f"photo_{number}.png" for number in range(6)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ranks")
    make_dataset(root / "plain", PHOTOS)
    make_dataset(root / "poison", [*PHOTOS[:5], "poison.png"])
    make_dataset(root / "steep", [*PHOTOS[:5], "steep.png"])
    make_dataset(root / "huge", [*PHOTOS[:5], "huge.png"])
    make_dataset(root / "loud", [*PHOTOS[:5], "loud.png"])
    make_dataset(root / "broken", [*PHOTOS[:5], "broken.png"])
    broken = root / "broken" / "broken.png"
    broken.write_bytes(broken.read_bytes()[:100])
    return root


@pytest.fixture(scope="module")
def ranks(folder: Path) -> list[dict[str, Any]]:
    launch(work, (folder,), 2)
    return [json.loads((folder / f"rank_{rank}.json").read_text()) for rank in (0, 1)]


def single(folder: Path, **solver: Any) -> tuple[list[Any], dict[str, Any]]:
    cfg = tiny_cfg(folder / "plain" / "annotations.json", folder / "plain_1", **solver)
    cfg.SOLVER.BATCH_SIZE = 4
    recorder = Recorder()
    trainer, _ = make_trainer(cfg, recorder)
    trainer.model.noise = 0.0
    trainer.train()
    return recorder.steps, trainer.model.state_dict()


def test_ranks_talk(ranks: list[dict[str, Any]]) -> None:
    for result in ranks:
        assert result["talk"] == {
            "world": 2,
            "maximum": [1.0, 0.0],
            "gather": ["from 0", "from 1"],
            "fine": "",
            "one": "DataError: rank 1: photo is gone",
            "both": "DataError: same text",
        }
        assert result["full_disk"] == "DataError: disk is full"


@pytest.mark.parametrize("name", ["plain", "accumulated", "resumed"])
def test_same_global_batch_gives_the_same_training(
    folder: Path, ranks: list[dict[str, Any]], name: str
) -> None:
    steps, weights = single(folder, MAX_ITER=4)
    assert ranks[0][name]["weights"] == ranks[1][name]["weights"]
    for key, value in weights.items():
        if "num_batches" not in key:
            np.testing.assert_allclose(ranks[0][name]["weights"][key], value, atol=1e-5)
    if name == "plain":
        # Each rank's loss is of its own photos; their mean is the loss of the whole batch.
        for index, step in enumerate(steps):
            means = [rank[name]["steps"][index][1]["loss_mask"] for rank in ranks]
            assert np.mean(means) == pytest.approx(step[1]["loss_mask"], rel=1e-5)
            assert ranks[0][name]["steps"][index][3] == pytest.approx(step[3], rel=1e-4)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("poison", ["TrainingError", "loss_mask is nan", "poison.png"]),
        ("steep", ["TrainingError", "gradient norm", "steep.png"]),
        ("huge", ["TrainingError", "out of memory on 1 photo(s) at once (", " with 6 masks)"]),
        ("broken", ["DataError", "broken.png", "corrupt or truncated"]),
    ],
)
def test_trouble_on_one_rank_stops_both_before_the_step(
    ranks: list[dict[str, Any]], name: str, words: list[str]
) -> None:
    first, second = (rank[name] for rank in ranks)
    assert first["failure"] == second["failure"]
    for word in words:
        assert word in first["failure"]
    assert len(first["steps"]) == len(second["steps"]) < 2
    assert first["weights"] == second["weights"]
    assert np.isfinite(first["weights"]["head.weight"]).all()
    if name == "poison":
        assert "gradient" not in first["failure"]


def test_overflow_on_one_rank_skips_the_step_on_both(ranks: list[dict[str, Any]]) -> None:
    skipped = [[step[1]["skipped_steps"] for step in rank["loud"]["steps"]] for rank in ranks]
    assert skipped[0] == skipped[1]
    assert 1.0 in skipped[0]
    assert ranks[0]["loud"]["failure"] == ""
    assert ranks[0]["loud"]["weights"] == ranks[1]["loud"]["weights"]
    assert np.isfinite(ranks[0]["loud"]["weights"]["head.weight"]).all()


def test_signal_to_one_rank_saves_and_stops_both(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert "stopped by signal 15 after iteration 2" in rank["stopped"]["failure"]
        assert rank["stopped"]["files"] == ["iter_00000002.pt"]
        assert [step[0] for step in rank["resumed"]["steps"]] == [3, 4]


def test_run_of_two_goes_on_alone(folder: Path, ranks: list[dict[str, Any]]) -> None:
    straight, _ = single(folder, MAX_ITER=6)
    cfg = tiny_cfg(folder / "plain" / "annotations.json", folder / "stopped_2", MAX_ITER=6)
    cfg.SOLVER.BATCH_SIZE = 4
    recorder = Recorder()
    trainer, checkpointer = make_trainer(cfg, recorder)
    trainer.model.noise = 0.0
    resume_newest(trainer, checkpointer, config_text(cfg))
    trainer.train()
    assert [step[0] for step in recorder.steps] == [5, 6]
    # The photos go on where the two left off (the schedule of the first part was a shorter one).
    assert recorder.steps[0][1]["loss_mask"] == pytest.approx(straight[4][1]["loss_mask"], rel=0.02)


@pytest.mark.parametrize(("mode", "code"), [("raise", 1), ("kill", 137)])
def test_dead_worker_ends_the_command(mode: str, code: int) -> None:
    started = time.monotonic()
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    with pytest.raises(SystemExit) as caught:
        launch(sleep_or_die, (mode,), 2)
    assert caught.value.code == code
    # Ctrl-C is the caller's own again.
    assert [signal.getsignal(number) for number in signal.valid_signals()] == handlers
    assert time.monotonic() - started < 60


def test_a_rank_that_hangs_is_named_within_the_time_given(tmp_path: Path) -> None:
    launch(come_late, (tmp_path,), 2)
    said = json.loads((tmp_path / "late.json").read_text())
    assert said["error"].startswith("rank 0 waited for rank 1 up to 2 s in vain")
    assert "\n" not in said["error"]
    assert said["seconds"] < 6


def test_without_a_group_there_is_one_process() -> None:
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    assert distributed.gather({"a": 1}) == [{"a": 1}]
    assert distributed.maximum([1, -2.5]) == [1.0, -2.5]
    distributed.barrier()


def test_impossible_numbers_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        check_num_processes(0, "cpu")
    with pytest.raises(ConfigError, match=r"this machine has \d+"):
        check_num_processes(99, "cuda")
    check_num_processes(4, "cpu")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="inside torchrun"):
        check_num_processes(2, "cpu")


def test_devices() -> None:
    assert distributed.device_of_rank("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match="unknown device"):
        distributed.device_of_rank("gpu")
    with pytest.raises(ConfigError, match="this machine has"):
        distributed.device_of_rank("cuda:98")
