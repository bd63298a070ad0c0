"""The scripts of the benchmarks, with an interpreter that only says what it was asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from unsam.config import load_config
from unsam.data import dataset_names
from unsam.evaluation import EVALUATORS

TOOLS = Path(__file__).resolve().parents[2] / "tools"
WHOLE_IMAGE = ("coco", "lvis", "ade20k", "entity", "sa1b", "partimagenet", "paco")
SINGLE = (*WHOLE_IMAGE, "bsds500", "interactive", "promptable_coco")
OVER = {
    "whole_image_eval": WHOLE_IMAGE,
    "promptable_eval": ("interactive", "promptable_coco"),
    "eval_all": (*WHOLE_IMAGE, "interactive", "promptable_coco", "bsds500"),
}

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a script; what the stub was called with is a line of JSON each on standard output."""
    stub = tmp_path / "stub"
    stub.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys\n"
        "print(json.dumps(sys.argv[1:]))\n"
        "failing = os.environ.get('FAILING', '').split()\n"
        "sys.exit(next((int(code) for part, code in zip(failing[::2], failing[1::2])\n"
        "               if any(word.endswith('/' + part) for word in sys.argv)), 0))\n"
    )
    stub.chmod(0o755)

    def command(name: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [TOOLS / f"{name}.sh", *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PYTHON": str(stub)} | variables,
        )

    return command


def calls(done: subprocess.CompletedProcess[str]) -> list[list[str]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("name", SINGLE)
def test_a_script_asks_for_one_evaluation_that_makes_sense(run: Run, name: str) -> None:
    done = run(f"eval_{name}", "my weights.pt", "quickstart/tiny.yaml", "SEED", "7")
    assert (done.returncode, done.stderr) == (0, "")
    ((script, eval_only, flag, config, *overrides),) = calls(done)
    assert Path(script).samefile(TOOLS.parent / "train_net.py")
    assert (eval_only, flag) == ("--eval-only", "--config-file")
    cfg = load_config(config, overrides)
    assert Path(cfg.OUTPUT_DIR) == Path("output/eval", name)
    assert (cfg.MODEL.WEIGHTS, cfg.SEED) == ("my weights.pt", 7)
    assert cfg.DATASETS.TEST
    assert set(cfg.DATASETS.TEST) <= set(dataset_names())
    assert cfg.EVALUATION.EVALUATORS
    assert all(item in EVALUATORS for item in cfg.EVALUATION.EVALUATORS)


def test_what_the_user_says_comes_last_and_wins(run: Run) -> None:
    done = run("eval_coco", "-", "baselines/slic.yaml", "DATASETS.TEST", "mine", EVAL_OUTPUT="/out")
    ((_, _, _, config, *overrides),) = calls(done)
    cfg = load_config(config, overrides)
    assert cfg.DATASETS.TEST == ("mine",)
    assert cfg.OUTPUT_DIR == "/out/coco"
    assert cfg.MODEL.WEIGHTS == ""


def test_several_processes_are_torchruns(run: Run) -> None:
    (words,) = calls(run("eval_coco", "w", "c", NPROC="4"))
    assert words[:4] == ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=4"]
    assert words[4].endswith("train_net.py")


@pytest.mark.parametrize("name", [*(f"eval_{item}" for item in SINGLE), *OVER])
def test_too_few_arguments_are_a_usage_line(run: Run, name: str) -> None:
    for words in ((), ("weights.pt",)):
        done = run(name, *words)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr == f"usage: tools/{name}.sh WEIGHTS CONFIG [KEY VALUE ...]\n"


@pytest.mark.parametrize("name", OVER)
def test_scripts_over_others_run_each_once(run: Run, name: str) -> None:
    done = run(name, "w.pt", "c.yaml")
    assert done.returncode == 0
    folders = [words[words.index("OUTPUT_DIR") + 1] for words in calls(done)]
    assert folders == [f"output/eval/{item}" for item in OVER[name]]
    assert all("w.pt" in words for words in calls(done))


def test_a_failure_is_passed_on_and_the_others_still_run(run: Run) -> None:
    assert run("eval_lvis", "w", "c", FAILING="lvis 3").returncode == 3
    done = run("eval_all", "w", "c", FAILING="lvis 3 interactive 5")
    assert done.returncode == 3
    assert len(calls(done)) == len(SINGLE)
    assert "whole_image_eval.sh: eval_lvis.sh failed with exit code 3" in done.stderr
    assert "eval_all.sh: promptable_eval.sh failed with exit code 5" in done.stderr


def test_an_interruption_ends_all(run: Run) -> None:
    done = run("eval_all", "w", "c", FAILING="lvis 130")
    assert done.returncode == 130
    assert len(calls(done)) == 2
