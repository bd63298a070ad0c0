"""Results on disk and on screen."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unsam.checkpoint.atomic import write_text_atomic
from unsam.evaluation.published import PUBLISHED_NOTE, published_rows, published_sources

Results = dict[str, dict[str, dict[str, float]]]
"""Dataset -> evaluator -> metric -> value."""

RESULTS_FILE = "results.json"
TABLE_FILE = "results.md"


def write_results(
    results: Results, folder: str | os.PathLike[str], about: Mapping[str, Any] | None = None
) -> Path:
    """Write ``results.json`` and ``results.md`` to a folder, each whole or not at all.

    Args:
        results: what `evaluate` returns.
        folder: created if needed.
        about: what was evaluated (segmenter, checkpoint), stored beside the numbers.

    Returns:
        The path of the JSON file. Numbers without meaning (NaN) are ``null`` in it.
    """
    content = {"about": dict(about or {}), "results": _without_nan(results)}
    path = Path(folder) / RESULTS_FILE
    write_text_atomic(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
    tables = [format_results(results), *_tables_beside_published(results)]
    write_text_atomic(Path(folder) / TABLE_FILE, "\n\n".join(tables) + "\n")
    return path


def format_results(results: Results) -> str:
    """Return Markdown: one table per evaluator, a row per metric, a column per dataset."""
    tables: dict[str, dict[str, dict[str, float]]] = {}
    for dataset, evaluators in results.items():
        for evaluator, metrics in evaluators.items():
            rows = tables.setdefault(evaluator, {})
            for metric, value in metrics.items():
                rows.setdefault(metric, {})[dataset] = value
    blocks = [f"### {name}\n\n{format_table(rows, 'metric')}" for name, rows in tables.items()]
    return "\n\n".join(blocks)


def _tables_beside_published(results: Results) -> list[str]:
    """Return a table for each dataset and evaluator that papers have numbers of."""
    tables = []
    for dataset, evaluators in results.items():
        for evaluator, metrics in evaluators.items():
            rows = published_rows(dataset, evaluator, metrics, "this evaluation")
            if rows:
                tables.append(
                    f"### {dataset}, {evaluator}: beside published numbers\n\n"
                    f"{format_table(rows, 'method')}\n\n{PUBLISHED_NOTE} "
                    f"Sources: {'; '.join(published_sources(dataset, evaluator))}."
                )
    return tables


def format_table(rows: Mapping[str, Mapping[str, float]], corner: str = "name") -> str:
    """Return a Markdown table of name -> column -> number; "-" where a row has no such number."""
    columns = list(dict.fromkeys(name for numbers in rows.values() for name in numbers))
    lines = [[corner, *columns], *([name, *_cells(item, columns)] for name, item in rows.items())]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns) + 1)]
    text = [
        "| "
        + " | ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        + " |"
        for line in lines
    ]
    rule = "|" + "|".join(
        "-" * (width + 1) + (":" if index else "-") for index, width in enumerate(widths)
    )
    return "\n".join([text[0], f"{rule}|", *text[1:]])


def _cells(metrics: Mapping[str, float], columns: list[str]) -> list[str]:
    return [_cell(metrics.get(name, math.nan)) for name in columns]


def _cell(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if float(value).is_integer() and abs(value) > 1 else f"{value:.4f}"


def _without_nan(results: Results) -> dict[str, dict[str, dict[str, float | None]]]:
    return {
        dataset: {
            evaluator: {
                name: None if math.isnan(value) else value for name, value in metrics.items()
            }
            for evaluator, metrics in evaluators.items()
        }
        for dataset, evaluators in results.items()
    }
