"""The command: alone, with --num-gpus, under torchrun; its errors, exit codes and signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import train_net
from tests.engine.tiny import make_dataset
from unsam.checkpoint.checkpointer import load_checkpoint
from unsam.config import load_config
from unsam.modeling import build_model
from unsam.modeling.pretrained import load_weights_into


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    annotations = make_dataset(data, [f"photo_{number}.png" for number in range(5)])
    path = tmp_path / "recipe.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "OUTPUT_DIR": str(tmp_path / "run"),
                "DEVICE": "cpu",
                "DATASETS": {
                    "TRAIN": [str(annotations)],
                    "TEST": [str(annotations)],
                    "IMAGE_ROOT": str(data),
                },
                "DATALOADER": {"NUM_WORKERS": 0},
                "INPUT": {"IMAGE_SIZE": 32},
                "SOLVER": {"MAX_ITER": 2, "BATCH_SIZE": 2, "LOG_PERIOD": 1},
                "INFERENCE": {"POINTS_PER_SIDE": 4},
                "EVALUATION": {"MAX_IMAGES": 2},
            }
        )
    )
    return path


def command(recipe: Path, *words: str, torchrun: int = 0) -> list[str]:
    script = [str(Path(train_net.__file__)), "--config-file", str(recipe), *words]
    if torchrun:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={torchrun}"]
        return [sys.executable, *launcher, *script]
    return [sys.executable, *script]


def run(recipe: Path, *words: str, torchrun: int = 0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(recipe, *words, torchrun=torchrun),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        cwd=recipe.parent,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def test_train_then_evaluate_then_go_on(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = recipe.parent / "run"
    given = ["--config-file", str(recipe)]
    assert train_net.main(given) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "iter 2/2" in printed.out
    assert "eta 0:00:00" in printed.out
    lines = [json.loads(line) for line in (output / "metrics.jsonl").open()]
    assert [line["iteration"] for line in lines] == [1, 2]
    assert {
        "loss",
        "loss_focal",
        "lr",
        "seconds",
        "data_seconds",
        "images_per_second",
        "grad_norm",
    } <= lines[0].keys()
    cfg = load_config(output / "config.yaml")
    assert cfg == load_config(recipe)

    # The weights alone are those of the checkpoint.
    state = load_checkpoint(output / "checkpoints" / "iter_00000002.pt")
    model = build_model(cfg)
    load_weights_into(model, output / "model.safetensors")
    for name, value in model.state_dict().items():
        assert torch.equal(value, state["model"][name])

    assert train_net.main([*given, "--eval-only", "--resume"]) == 0
    results = json.loads((output / "results.json").read_text())
    assert results["about"]["weights"].endswith("iter_00000002.pt")
    weights = str(output / "model.safetensors")
    assert train_net.main([*given, "--eval-only", "MODEL.WEIGHTS", weights]) == 0
    again = json.loads((output / "results.json").read_text())
    assert again["results"] == results["results"]

    # Starting anew over a run is refused; going on is not; switches may stand anywhere.
    capsys.readouterr()
    assert train_net.main(given) == 2
    assert "--resume" in capsys.readouterr().err
    assert train_net.main([*given, "SOLVER.MAX_ITER", "3", "--resume"]) == 0
    assert (output / "checkpoints" / "iter_00000003.pt").is_file()


def test_real_model_resumes_bit_for_bit(recipe: Path) -> None:
    words = ["--config-file", str(recipe), "SOLVER.MAX_ITER", "4", "CHECKPOINT.PERIOD", "1"]
    words += ["CHECKPOINT.KEEP", "0", "DATALOADER.NUM_WORKERS", "2", "OUTPUT_DIR"]
    straight = recipe.parent / "straight"
    assert train_net.main([*words, str(straight)]) == 0
    final = load_checkpoint(straight / "checkpoints" / "iter_00000004.pt")
    for stop in (1, 3):
        resumed = recipe.parent / f"resumed_{stop}"
        name = f"checkpoints/iter_{stop:08d}.pt"
        (resumed / "checkpoints").mkdir(parents=True)
        (resumed / name).write_bytes((straight / name).read_bytes())
        assert train_net.main([*words, str(resumed), "--resume"]) == 0
        state = load_checkpoint(resumed / "checkpoints" / "iter_00000004.pt")
        for key, value in final["model"].items():
            assert torch.equal(value, state["model"][key]), key
        for index, moments in final["optimizer"]["state"].items():
            for key, value in moments.items():
                assert torch.equal(value, state["optimizer"]["state"][index][key]), (index, key)


def test_evaluation_during_training_changes_nothing(recipe: Path) -> None:
    given = ["--config-file", str(recipe), "OUTPUT_DIR"]
    plain, evaluated = recipe.parent / "plain", recipe.parent / "evaluated"
    assert train_net.main([*given, str(plain)]) == 0
    assert train_net.main([*given, str(evaluated), "SOLVER.EVAL_PERIOD", "1"]) == 0
    assert (evaluated / "results.json").is_file()
    first, second = (
        load_checkpoint(folder / "checkpoints" / "iter_00000002.pt")
        for folder in (plain, evaluated)
    )
    for name, value in first["model"].items():
        assert torch.equal(value, second["model"][name])


def test_time_budget_ends_the_run_with_its_schedule(recipe: Path) -> None:
    words = ["SOLVER.MAX_ITER", "100000", "SOLVER.MAX_SECONDS", "1.5", "SOLVER.WARMUP_ITERS", "0"]
    assert train_net.main(["--config-file", str(recipe), *words]) == 0
    lines = [json.loads(line) for line in (recipe.parent / "run" / "metrics.jsonl").open()]
    assert 1.5 <= lines[-1]["seconds"] < 10
    assert lines[-1]["iteration"] < 1000
    assert lines[-1]["lr"] < lines[0]["lr"]
    assert (recipe.parent / "run" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["SOLVER.MAX_ITR", "3"], 2, "SOLVER.MAX_ITER"),
        (["SOLVER.MAX_ITER", "0"], 2, "SOLVER.MAX_ITER"),
        (["SOLVER.PRECISION", "float8"], 2, "SOLVER.PRECISION"),
        (["SOLVER.ACCUMULATE", "3"], 2, "SOLVER.BATCH_SIZE"),
        (["DEVICE", "gpu"], 2, "DEVICE"),
        (["DATASETS.TRAIN", "()"], 2, "DATASETS.TRAIN"),
        (["DATASETS.TRAIN", "/no/where.json"], 1, "/no/where.json"),
        (["MODEL.META_ARCHITECTURE", "GranularSum"], 2, "GranularSam"),
        (["MODEL.WEIGHTS", "/no/model.pt"], 1, "/no/model.pt"),
        (["OUTPUT_DIR", "/proc/run"], 1, "/proc/run"),
        (["--num-gpus", "0"], 2, "--num-gpus"),
        (["--eval-only", "--resume"], 2, "no checkpoint"),
        (["SOLVER.BASE_LR", "1e30", "SOLVER.WARMUP_ITERS", "0"], 1, "loss_"),
    ],
)
def test_mistakes_are_one_line_and_an_exit_code(
    recipe: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, part: str
) -> None:
    assert train_net.main(["--config-file", str(recipe), *words]) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert part in error


def test_no_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        train_net.main([])
    assert caught.value.code == 2
    assert "--config-file" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_under_torchrun_and_by_num_gpus(recipe: Path) -> None:
    started_here = run(recipe, "--num-gpus", "2", "OUTPUT_DIR", "here")
    assert started_here.returncode == 0, started_here.stderr
    assert "2 process(es) on cpu" in started_here.stdout
    by_torchrun = run(recipe, "OUTPUT_DIR", "torchrun", torchrun=2)
    assert by_torchrun.returncode == 0, by_torchrun.stderr
    first, second = (
        load_checkpoint(recipe.parent / name / "checkpoints" / "iter_00000002.pt")
        for name in ("here", "torchrun")
    )
    assert len(first["rng"]) == len(second["rng"]) == 2
    for name, value in first["model"].items():
        assert torch.equal(value, second["model"][name])


@pytest.mark.slow
def test_num_gpus_passes_on_the_error_line_and_code(recipe: Path) -> None:
    result = run(recipe, "--num-gpus", "2", "SOLVER.BASE_LR", "1e30", "SOLVER.WARMUP_ITERS", "0")
    assert result.returncode == 1
    lines = [line for line in result.stderr.splitlines() if "unsam: error" in line]
    assert len(lines) == 1, result.stderr
    assert "iteration 2: loss_" in lines[0]
    assert "photo_" in lines[0]
    assert "Traceback" not in result.stderr


def wait_for(condition: Any, process: subprocess.Popen[str], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "number", "code"), [(1, signal.SIGINT, 130), (2, signal.SIGTERM, 143)]
)
def test_signal_saves_and_exits(recipe: Path, processes: int, number: int, code: int) -> None:
    words = ["--num-gpus", str(processes), "SOLVER.MAX_ITER", "100000"]
    with subprocess.Popen(
        command(recipe, *words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:
        metrics = recipe.parent / "run" / "metrics.jsonl"
        wait_for(lambda: metrics.is_file() and metrics.read_text().count("\n") > 1, process)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    paths = list((recipe.parent / "run" / "checkpoints").iterdir())
    assert len(paths) == 1
    assert f"after iteration {load_checkpoint(paths[0])['iteration']};" in errors
