"""An evaluation as a run of its own: its files, its report, its exit code, its resumption."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import unsam.engine.evaluation_report as evaluation_report
from tests.evaluation.test_evaluation_loop import write_dataset
from unsam.cli import main
from unsam.config import load_config
from unsam.engine.evaluation_report import score_photos, write_evaluation_report
from unsam.evaluation import Otsu, evaluate

Evaluate = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path) -> Evaluate:
    path = write_dataset(tmp_path, photos=5)

    def command(*overrides: str) -> int:
        given = ["eval", "--config-file", "baselines/otsu.yaml", "DATASETS.TEST", str(path)]
        return main([*given, "OUTPUT_DIR", str(tmp_path / "run"), *overrides])

    return command


def expecting(path: Path, metric: str, value: float) -> list[str]:
    entry = [str(path / "truth.json"), "AverageRecallEvaluator", metric, value, 0.01]
    return ["TEST.EXPECTED_RESULTS", f"[{entry}]"]


def test_numbers_as_expected_succeed_and_others_fail_loudly(
    tmp_path: Path, run: Evaluate, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*expecting(tmp_path, "AR@1000", 1.0)) == 0
    assert capsys.readouterr().err == ""
    (tmp_path / "run" / "results.json").unlink()
    assert run(*expecting(tmp_path, "AR@1000", 0.5)) == 1
    lines = capsys.readouterr().err.splitlines()
    assert "AR@1000: expected 0.5 +- 0.01, measured 1" in lines[0]
    assert lines[1] == "unsam: error: 1 of 1 numbers are not as TEST.EXPECTED_RESULTS says"
    results = json.loads((tmp_path / "run" / "results.json").read_text())["results"]
    (metrics,) = results.values()
    assert metrics["AverageRecallEvaluator"]["AR@1000"] == 1.0
    assert (tmp_path / "run" / "report.html").is_file()


def test_a_wrong_expectation_is_found_before_the_work(
    tmp_path: Path, run: Evaluate, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("TEST.EXPECTED_RESULTS", "[['a', 'b', 'c']]") == 2
    assert "TEST.EXPECTED_RESULTS has entries" in capsys.readouterr().err
    assert not (tmp_path / "run" / "photo_results").exists()


def test_the_tiny_recipe_gives_what_it_says(data_root: Path, tmp_path: Path) -> None:
    recipe = ["eval", "--config-file", "baselines/tiny.yaml", "OUTPUT_DIR", str(tmp_path)]
    assert main(recipe) == 0
    assert main([*recipe, "EVALUATION.SEGMENTER", "Slic", "EVALUATION.REPORT_PHOTOS", "0"]) == 1


@pytest.mark.parametrize("resume", ["True", "False"])
def test_the_report_shows_numbers_charts_photos_and_a_sweep(
    tmp_path: Path, run: Evaluate, resume: str
) -> None:
    words = ["EVALUATION.REPORT_PHOTOS", "2", "EVALUATION.RESUME", resume]
    assert run("EVALUATION.SEGMENTER", "MultiOtsu", *words) == 0
    page = (tmp_path / "run" / "report.html").read_text()
    for part in ("Recall by masks per photo", "Recall by object size", "Worst photos"):
        assert part in page
    # Two of the worst, two of the best, each with its truth; five granularities.
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]*)"', page)
    assert len(pictures) == 2 * 2 * 2 + len(evaluation_report.SWEEP_GRANULARITIES)
    assert Image.open(io.BytesIO(base64.b64decode(pictures[0]))).size == (50, 40)
    # Nothing is loaded from elsewhere.
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "<script" not in page


def test_no_photos_asked_for_means_no_report(tmp_path: Path, run: Evaluate) -> None:
    assert run("EVALUATION.REPORT_PHOTOS", "0") == 0
    assert not (tmp_path / "run" / "report.html").exists()


def test_a_report_that_fails_costs_a_warning_and_no_number(
    tmp_path: Path,
    run: Evaluate,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError("no ink\nat all")

    monkeypatch.setattr(evaluation_report, "draw_masks", fail)
    assert run() == 0
    error = capsys.readouterr().err
    assert "report.html could not be made (no ink at all); the numbers are complete" in error
    assert (tmp_path / "run" / "results.json").is_file()
    assert not (tmp_path / "run" / "report.html").exists()


def test_photos_are_ranked_by_their_own_score(tmp_path: Path) -> None:
    path = write_dataset(tmp_path, photos=4)
    truth = json.loads(path.read_text())
    # The objects of photo 2 are said to be elsewhere, photo 3 has none.
    truth["annotations"][1]["segmentation"] = {"size": [40, 50], "counts": [1990, 10]}
    truth["annotations"][1]["area"] = 10
    del truth["annotations"][2]
    path.write_text(json.dumps(truth))
    cfg = load_config(
        "baselines/otsu.yaml", ["DATASETS.TEST", str(path), "OUTPUT_DIR", str(tmp_path)]
    )
    results = evaluate(cfg, Otsu(), output=tmp_path)
    kept = evaluation_report.photo_results_of(cfg, str(path), tmp_path, "")
    records = evaluation_report.records_to_evaluate(cfg, str(path))
    scores = score_photos(cfg, records, results[str(path)], kept.load(records))
    assert list(scores) == [2, 1, 4]
    assert scores[1] == scores[4] == 1.0
    assert scores[2] < 0.1
    write_evaluation_report(tmp_path / "again.html", cfg, Otsu(), results)
    page = (tmp_path / "again.html").read_text()
    assert page.index("1.png: score 0.") < page.index("0.png: score 1.000")


def test_stored_masks_are_drawn_too(tmp_path: Path, run: Evaluate) -> None:
    masks = str(tmp_path / "truth.json")
    assert run("EVALUATION.SEGMENTER", "StoredMasks", "EVALUATION.STORED_MASKS", masks) == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "score 1.000" in page
    assert "from fine to coarse" not in page


def test_a_results_file_is_evaluated_and_a_partial_one_only_if_asked_for(
    tmp_path: Path, run: Evaluate, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = json.loads((tmp_path / "truth.json").read_text())["annotations"]
    rows = [
        {"image_id": row["image_id"], "segmentation": row["segmentation"], "score": 1.0}
        for row in truth
    ]
    predictions = tmp_path / "predictions.json"

    def recall(count: int, *words: str) -> float | int:
        predictions.write_text(json.dumps(rows[:count]))
        code = run("--predictions", str(predictions), *words)
        if code:
            return code
        (metrics,) = json.loads((tmp_path / "run" / "results.json").read_text())["results"].values()
        return float(metrics["AverageRecallEvaluator"]["AR@1000"])

    assert recall(5) == 1.0
    assert recall(4) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--allow-partial" in error
    # Nothing of the complete file is reused.
    assert recall(4, "--allow-partial") == 0.8
