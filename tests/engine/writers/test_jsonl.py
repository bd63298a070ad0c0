"""The file with a line of JSON for each record."""

from __future__ import annotations

import json
import math
from pathlib import Path

from unsam.engine.writers import JsonlWriter


def test_jsonl_drops_the_steps_that_are_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = JsonlWriter(path)
    for iteration in (10, 20, 30):
        writer.write({"iteration": iteration})
    with path.open("a") as stream:
        stream.write('{"iteration": 4')
    JsonlWriter(path, 20).write({"iteration": 25})
    assert [json.loads(line)["iteration"] for line in path.open()] == [10, 20, 25]


def test_numbers_that_json_does_not_know_become_null(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    JsonlWriter(path).write({"iteration": 1, "iou": math.nan, "ratio": -math.inf, "lr": 0.5})

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    record = json.loads(path.read_text(), parse_constant=refuse)
    assert record == {"iteration": 1, "iou": None, "ratio": None, "lr": 0.5}
