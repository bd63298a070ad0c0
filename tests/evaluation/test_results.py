from __future__ import annotations

import json
import math
from pathlib import Path

from unsam.evaluation import format_results, format_table, write_results

RESULTS = {
    "photos_a": {"Recall": {"AR@1": 0.5, "ARs": math.nan}, "Clicks": {"noc80": 6.25}},
    "photos_b": {"Recall": {"AR@1": 0.25, "photos": 100.0}},
}


def test_files_are_strict_json_and_a_table(tmp_path: Path) -> None:
    path = write_results(RESULTS, tmp_path / "new", about={"segmenter": "Otsu"})
    content = json.loads(path.read_text(), parse_constant=lambda name: 1 / 0)
    assert content["about"] == {"segmenter": "Otsu"}
    assert content["results"]["photos_a"]["Recall"] == {"AR@1": 0.5, "ARs": None}
    assert sorted(item.name for item in path.parent.iterdir()) == ["results.json", "results.md"]
    assert path.with_suffix(".md").read_text() == format_results(RESULTS) + "\n"


def test_a_table_has_one_column_per_metric_and_aligned_lines() -> None:
    lines = format_table({"otsu": {"AR": 0.5}, "a longer name": {"AP": math.nan, "n": 12.0}})
    rows = lines.splitlines()
    assert len({len(row) for row in rows}) == 1
    assert [cell.strip() for cell in rows[0].split("|")[1:-1]] == ["name", "AR", "AP", "n"]
    assert [cell.strip() for cell in rows[2].split("|")[1:-1]] == ["otsu", "0.5000", "-", "-"]
    assert [cell.strip() for cell in rows[3].split("|")[1:-1]] == ["a longer name", "-", "-", "12"]


def test_each_evaluator_has_its_table() -> None:
    text = format_results(RESULTS)
    assert text.index("### Recall") < text.index("### Clicks")
    assert text.count("photos_a") == 2
    assert text.count("photos_b") == 1
    row = next(line for line in text.splitlines() if "AR@1" in line)
    assert [cell.strip() for cell in row.split("|")[1:-1]] == ["AR@1", "0.5000", "0.2500"]
