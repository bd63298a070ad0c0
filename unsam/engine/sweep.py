"""Several runs of one recipe, one after another: which change helps, at the same budget.

Or several segmenters that are there already, measured alike.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from unsam.checkpoint.atomic import write_text_atomic
from unsam.errors import ConfigError, TrainingError

RESULTS_FILE = "results.json"
TABLE_FILE = "sweep.md"
LOG_FILE = "sweep.log"
_KEYS = {"RECIPE", "OVERRIDES", "RUNS", "EVALUATIONS", "COLUMNS"}
_RUN_KEYS = {"SEEDS", "OVERRIDES", "TRAIN", "EVALUATIONS"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One row of a sweep, or one seed of it.

    Attributes:
        name: what it is called in the table.
        seed: of the run.
        overrides: ``KEY VALUE`` pairs beside those of the sweep.
        trained: whether it is to be trained; else the overrides name weights or a baseline.
        evaluations: those that it takes part in.
    """

    name: str
    seed: int
    overrides: tuple[str, ...]
    trained: bool
    evaluations: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Where it goes below the output folder."""
        return f"{self.name}_seed{self.seed}"


@dataclass(frozen=True)
class Sweep:
    """What a sweep file says.

    Attributes:
        recipe: the config that all runs share.
        overrides: ``KEY VALUE`` pairs of all runs.
        runs: in the order in which they are made: the first seed of all, then the second.
        evaluations: name to the ``KEY VALUE`` pairs of one evaluation of every run.
        columns: heading to ``(evaluation, evaluator, metric)``; the evaluator may be left out where
            no other has a metric of that name.
    """

    recipe: str
    overrides: tuple[str, ...]
    runs: tuple[Run, ...]
    evaluations: Mapping[str, tuple[str, ...]]
    columns: Mapping[str, tuple[str, ...]]

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Sweep:
        """Read a sweep from YAML, see ``tools/sweeps``.

        Raises:
            ConfigError: not YAML, or not what a sweep holds.
        """
        try:
            content = yaml.safe_load(Path(path).read_text())
            unknown = set(content) - _KEYS
            if unknown:
                raise ConfigError(
                    f"{path}: unknown {', '.join(sorted(unknown))}; known: {sorted(_KEYS)}"
                )
            runs = [
                (rank, run)
                for name, entry in content["RUNS"].items()
                for rank, run in enumerate(_runs(str(name), entry or {}, content["EVALUATIONS"]))
            ]
            return cls(
                recipe=str(content["RECIPE"]),
                overrides=_pairs(content.get("OVERRIDES", ())),
                runs=tuple(run for _, run in sorted(runs, key=lambda item: item[0])),
                evaluations={
                    str(name): _pairs(pairs) for name, pairs in content["EVALUATIONS"].items()
                },
                columns={
                    str(name): _place(name, place) for name, place in content["COLUMNS"].items()
                },
            )
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
        except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise ConfigError(
                f"{path}: not a sweep (RECIPE, RUNS, EVALUATIONS, COLUMNS): "
                f"{type(error).__name__} {' '.join(str(error).split())}"
            ) from error


def run_sweep(sweep: Sweep, output: str | os.PathLike[str], jobs: int = 1) -> str:
    """Train and evaluate every run that is not finished; return the table, also in ``sweep.md``.

    A run that stopped goes on from its newest checkpoint, a finished one is left alone. Each is a
    process of its own; its output goes to ``sweep.log`` in its folder.

    Args:
        sweep: what to run.
        output: folder of the runs.
        jobs: runs at a time, which share the processor's cores evenly.

    Raises:
        TrainingError: runs failed; the others were made all the same.
    """
    root = Path(output)
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with ThreadPoolExecutor(jobs) as pool:
        failures = [
            failure
            for failure in pool.map(lambda run: _finish(sweep, run, root, threads), sweep.runs)
            if failure
        ]
    table = format_sweep(sweep, root)
    write_text_atomic(root / TABLE_FILE, table + "\n")
    if failures:
        raise TrainingError(
            f"{len(failures)} of {len(sweep.runs)} runs failed, the first: {failures[0]}"
        )
    return table


def format_sweep(sweep: Sweep, output: str | os.PathLike[str]) -> str:
    """Return Markdown: a row per run name, the mean over its seeds and, of several, the spread.

    The spread is the sample standard deviation. Runs without results have dashes.
    """
    lines = [
        f"| run | seeds | {' | '.join(sweep.columns)} |",
        "|---|--:|" + "--:|" * len(sweep.columns),
    ]
    for name in dict.fromkeys(run.name for run in sweep.runs):
        runs = [run for run in sweep.runs if run.name == name]
        results = [_results(sweep, run, Path(output)) for run in runs]
        done = [result for result in results if result]
        cells = [
            _cell([result[column] for result in done if column in result])
            for column in sweep.columns
        ]
        lines.append(f"| {name} | {len(done)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _finish(sweep: Sweep, run: Run, root: Path, threads: int) -> str:
    """Bring one run to its end; return what went wrong, "" if nothing."""
    folder = root / run.folder
    folder.mkdir(parents=True, exist_ok=True)
    shared = [*sweep.overrides, *run.overrides, "SEED", str(run.seed)]
    weights = folder / "model.safetensors"
    commands = {}
    if run.trained and not weights.is_file():
        commands["training"] = [
            "train",
            "--resume",
            *_recipe(sweep),
            *shared,
            "OUTPUT_DIR",
            str(folder),
        ]
    for name in run.evaluations:
        pairs, target = sweep.evaluations[name], folder / name
        if not (target / RESULTS_FILE).is_file():
            # The evaluation's own pairs come last and win.
            own = [*pairs, "OUTPUT_DIR", str(target)]
            own += ["MODEL.WEIGHTS", str(weights)] if run.trained else []
            commands[name] = ["eval", *_recipe(sweep), *shared, *own]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with (folder / LOG_FILE).open("a", encoding="utf-8") as log:
        for name, command in commands.items():
            logger.info("%s: %s", run.folder, name)
            done = subprocess.run(
                [sys.executable, "-m", "unsam.cli", *command],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                check=False,
            )
            if done.returncode:
                return f"{run.folder}, {name}: exit code {done.returncode}, see {log.name}"
    return ""


def _runs(name: str, entry: Mapping[str, Any], evaluations: Mapping[str, Any]) -> list[Run]:
    unknown = set(entry) - _RUN_KEYS
    if unknown:
        raise ValueError(f"RUNS: {name}: unknown {', '.join(sorted(unknown))}")
    own = tuple(str(item) for item in entry.get("EVALUATIONS", evaluations))
    missing = [item for item in own if item not in evaluations]
    if missing:
        raise ValueError(f"RUNS: {name}: no evaluation {', '.join(missing)}")
    overrides, trained = _pairs(entry.get("OVERRIDES", ())), bool(entry.get("TRAIN", True))
    return [Run(name, int(seed), overrides, trained, own) for seed in entry.get("SEEDS", (1,))]


def _recipe(sweep: Sweep) -> list[str]:
    return ["--config-file", sweep.recipe]


def _pairs(pairs: Sequence[Any]) -> tuple[str, ...]:
    """Return ``KEY VALUE`` pairs as they stand on a command line."""
    if len(pairs) % 2:
        raise ValueError(f"pairs of key and value, got {list(pairs)}")
    return tuple(str(item) for item in pairs)


def _place(name: str, place: Sequence[Any]) -> tuple[str, ...]:
    if len(place) not in (2, 3):
        raise ValueError(f"COLUMNS: {name}: [evaluation, metric] or with the evaluator between")
    return tuple(str(item) for item in place)


def _results(sweep: Sweep, run: Run, root: Path) -> dict[str, float]:
    """Return column -> number of one run; {} where an evaluation of its own is missing."""
    numbers = {}
    for column, (evaluation, *evaluator, metric) in sweep.columns.items():
        if evaluation not in run.evaluations:
            continue
        path = root / run.folder / evaluation / RESULTS_FILE
        if not path.is_file():
            return {}
        (dataset,) = json.loads(path.read_text())["results"].values()
        for name in evaluator or dataset:
            if dataset[name].get(metric) is not None:
                numbers[column] = float(dataset[name][metric])
    return numbers


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "–"
    mean = f"{statistics.fmean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.3f}"
