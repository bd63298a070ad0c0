"""A sweep makes what is missing, leaves what is there, and averages over seeds."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from unsam.engine import sweep as sweep_module
from unsam.engine.sweep import Sweep, format_sweep, run_sweep
from unsam.errors import ConfigError, TrainingError

TEXT = """
RECIPE: quickstart/tiny.yaml
OVERRIDES: [SOLVER.MAX_ITER, 2]
RUNS:
  base: {SEEDS: [1, 2]}
  contrast: {OVERRIDES: [OBJECTIVES.CONTRAST.WEIGHT, 0.1]}
EVALUATIONS:
  val: [DATASETS.TEST, "('x',)"]
COLUMNS:
  AR: [val, Recall, AR@1000]
"""


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    (tmp_path / "sweep.yaml").write_text(TEXT)
    return Sweep.read(tmp_path / "sweep.yaml")


class Commands:
    """Stands for the processes: writes what they would, fails where asked to."""

    def __init__(self, fail: str = "") -> None:
        self.lines: list[list[str]] = []
        self._fail = fail

    def __call__(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        words = command[3:]
        self.lines.append(words)
        output = Path(words[words.index("OUTPUT_DIR") + 1])
        if self._fail and self._fail in str(output):
            return subprocess.CompletedProcess(command, 1)
        if words[0] == "train":
            (output / "model.safetensors").write_bytes(b"")
        else:
            output.mkdir()
            value = 0.25 if "seed1" in str(output) else 0.75
            numbers = {"Recall": {"AR@1000": value}, "BoundaryRecall": {"AR@1000": 0.1}}
            results = {"results": {"x": numbers}}
            (output / "results.json").write_text(json.dumps(results))
        return subprocess.CompletedProcess(command, 0)


def test_a_segmenter_that_is_there_is_only_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    otsu = "{TRAIN: false, OVERRIDES: [EVALUATION.SEGMENTER, Otsu], EVALUATIONS: [val]}"
    text = TEXT.replace("{SEEDS: [1, 2]}", otsu)
    text = text.replace("COLUMNS:", "  more: [DATASETS.TEST, y]\nCOLUMNS:")
    (tmp_path / "sweep.yaml").write_text(text)
    commands = Commands()
    monkeypatch.setattr(sweep_module.subprocess, "run", commands)
    run_sweep(Sweep.read(tmp_path / "sweep.yaml"), tmp_path / "out")
    assert [line[0] for line in commands.lines] == ["eval", "train", "eval", "eval"]
    assert "MODEL.WEIGHTS" not in commands.lines[0]
    assert commands.lines[0][commands.lines[0].index("EVALUATION.SEGMENTER") + 1] == "Otsu"
    assert "MODEL.WEIGHTS" in commands.lines[2]


def test_every_run_is_trained_and_evaluated_once(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = Commands()
    monkeypatch.setattr(sweep_module.subprocess, "run", commands)
    table = run_sweep(sweep, tmp_path / "out")
    assert [line[0] for line in commands.lines] == ["train", "eval"] * 3
    assert commands.lines[0][:6] == [
        "train", "--resume", "--config-file", "quickstart/tiny.yaml", "SOLVER.MAX_ITER", "2",
    ]  # fmt: skip
    # The first seed of all runs comes before the second of any.
    assert "OBJECTIVES.CONTRAST.WEIGHT" in commands.lines[2]
    rows = table.splitlines()[2:]
    assert rows == ["| base | 2 | 0.500 ± 0.354 |", "| contrast | 1 | 0.250 |"]
    assert (tmp_path / "out" / "sweep.md").read_text() == table + "\n"
    run_sweep(sweep, tmp_path / "out")
    assert len(commands.lines) == 6


def test_a_run_that_fails_does_not_stop_the_others(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_module.subprocess, "run", Commands(fail="base_seed1"))
    with pytest.raises(TrainingError, match="1 of 3 runs failed, the first: base_seed1, training"):
        run_sweep(sweep, tmp_path / "out")
    rows = format_sweep(sweep, tmp_path / "out").splitlines()[2:]
    assert rows == ["| base | 1 | 0.750 |", "| contrast | 1 | 0.250 |"]
    commands = Commands()
    monkeypatch.setattr(sweep_module.subprocess, "run", commands)
    run_sweep(sweep, tmp_path / "out")
    assert [line[0] for line in commands.lines] == ["train", "eval"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("RECIPE: a\nRUN: {}", "unknown RUN; known"),
        ("RECIPE: a", "not a sweep .*KeyError 'RUNS'"),
        (TEXT.replace("[SOLVER.MAX_ITER, 2]", "[SOLVER.MAX_ITER]"), "pairs of key and value"),
        (TEXT.replace("Recall, AR", "Recall, x, AR"), "COLUMNS: AR: .* or with the evaluator"),
        (TEXT.replace("SEEDS", "SEED"), "RUNS: base: unknown SEED"),
        (TEXT.replace("{SEEDS: [1, 2]}", "{EVALUATIONS: [test]}"), "base: no evaluation test"),
        ("- [", "not a sweep"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "sweep.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        Sweep.read(tmp_path / "sweep.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        Sweep.read(tmp_path / "none.yaml")


def test_the_sweeps_of_the_repository_name_keys_that_exist() -> None:
    from unsam.config import load_config

    for path in Path(__file__).parents[2].glob("tools/sweeps/*.yaml"):
        sweep = Sweep.read(path)
        for run in sweep.runs:
            load_config(sweep.recipe, [*sweep.overrides, *run.overrides])
        for pairs in sweep.evaluations.values():
            load_config(sweep.recipe, list(pairs))
