from __future__ import annotations

import math
from pathlib import Path

import pytest

from unsam.data.datasets.benchmarks import BENCHMARKS
from unsam.evaluation import EVALUATORS, write_results
from unsam.evaluation.published import PUBLISHED, published_rows, published_sources


def test_every_number_is_of_a_dataset_and_an_evaluator_that_exist() -> None:
    for item in PUBLISHED:
        assert item.dataset in BENCHMARKS or item.dataset.startswith("bsds500_"), item
        assert item.evaluator in EVALUATORS, item
        assert all(math.isfinite(value) and value > 0 for value in item.numbers.values())


@pytest.mark.parametrize(
    ("method", "average"),
    [
        ("SAM (ViT-B)", 0.421),
        ("FreeSOLO", 0.073),
        ("CutLER", 0.218),
        ("SOHES", 0.301),
        ("UnSAM (0.1M)", 0.392),
        ("UnSAM (0.2M)", 0.404),
        ("UnSAM (0.4M)", 0.411),
        ("UnSAM+", 0.488),
        ("UnSAMv2", 0.683),
        ("UnSAMv2+", 0.741),
    ],
)
def test_recall_averages_to_what_the_papers_say(method: str, average: float) -> None:
    found = [
        item.numbers["AR@1000"]
        for item in PUBLISHED
        if item.method == method and "AR@1000" in item.numbers
    ]
    # Each number and the average are rounded.
    assert sum(found) / len(found) == pytest.approx(average, abs=0.001)


@pytest.mark.parametrize(
    ("method", "datasets", "noc80", "iou1"),
    [
        ("SAM-2", "grabcut berkeley sbd pascalpart partimagenet_seg", 4.02, 0.580),
        ("UnSAMv2*", "grabcut berkeley sbd pascalpart partimagenet_seg", 3.41, 0.731),
        ("UnSAMv2+*", "grabcut berkeley sbd pascalpart partimagenet_seg", 3.30, 0.747),
        ("SAM-2", "grabcut berkeley davis sa1b_interactive partimagenet_seg", 2.44, 0.690),
        ("UnSAMv2*", "grabcut berkeley davis sa1b_interactive partimagenet_seg", 2.28, 0.793),
        ("UnSAMv2+*", "grabcut berkeley davis sa1b_interactive partimagenet_seg", 2.07, 0.817),
        ("SimpleClick", "grabcut berkeley davis sa1b_interactive partimagenet_seg", 3.32, 0.602),
        ("GraCo*", "grabcut berkeley davis sa1b_interactive partimagenet_seg", 2.35, 0.744),
    ],
)
def test_clicks_average_to_what_the_paper_says(
    method: str, datasets: str, noc80: float, iou1: float
) -> None:
    names = [f"unsam_{name}_val" for name in datasets.split()]
    rows = [item for item in PUBLISHED if item.method == method and item.dataset in names]
    assert len(rows) == 5
    prefix = "oracle_" if method.endswith("*") else ""
    for metric, average in (("noc80", noc80), ("iou1", iou1)):
        values = [row.numbers[prefix + metric] for row in rows]
        assert sum(values) / 5 == pytest.approx(average, abs=0.0061 if average > 1 else 0.00061)


def test_results_stand_beside_the_published_ones_in_the_same_units(tmp_path: Path) -> None:
    metrics = {"AR@1000": 0.5, "ARs@1000": 0.25, "masks_per_photo": 9.0}
    rows = published_rows("unsam_sa1b_val", "AverageRecallEvaluator", metrics, "mine")
    assert next(iter(rows.items())) == ("mine", {"AR@1000": 0.5, "ARs@1000": 0.25})
    expected = {"AR@1000": 0.648, "AP": 0.428, "ARs@1000": 0.362, "ARm@1000": 0.659}
    assert rows["UnSAM+"] == expected | {"ARl@1000": 0.765}
    assert len(published_sources("unsam_sa1b_val", "AverageRecallEvaluator")) == 4
    write_results({"unsam_sa1b_val": {"AverageRecallEvaluator": metrics}}, tmp_path)
    text = (tmp_path / "results.md").read_text()
    assert "beside published numbers" in text
    row = next(line for line in text.splitlines() if "this evaluation" in line)
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells == ["this evaluation", "0.5000", "0.2500", "-", "-", "-"]
    assert "table 4" in text


def test_what_nobody_published_stands_alone(tmp_path: Path) -> None:
    assert published_rows("my_photos", "AverageRecallEvaluator", {"AR@1000": 0.5}, "mine") == {}
    assert published_rows("unsam_sa1b_val", "AverageRecallEvaluator", {"n": 5.0}, "mine") == {}
