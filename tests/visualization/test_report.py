"""The report is one file that needs nothing else, and says what it was given."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from unsam.visualization import Report, line_chart


def test_the_page_is_self_contained_and_escapes_text(tmp_path: Path) -> None:
    report = Report("A <b> title", "lead")
    report.heading("h & h")
    report.paragraph("<script>")
    report.figures([np.zeros((4, 6, 3), np.uint8)], ['a "caption"'])
    report.table(["name", "x"], [["row", "1.0"]])
    report.charts([line_chart("loss", {"a": ([0, 1], [1.0, 0.5])}, "step")])
    report.write(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "<script>" not in page
    assert "A &lt;b&gt; title" in page
    links = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(link.startswith("data:") for link in links)


@pytest.mark.parametrize(
    "values",
    [([], []), ([1], [2.0]), ([0, 1, 2], [1.0, float("nan"), 3.0]), ([0, 1], [5.0, 5.0])],
)
def test_charts_are_valid_svg_whatever_the_values(values: tuple) -> None:
    chart = ElementTree.fromstring(line_chart("a & b", {"x": values}))
    assert chart.tag.endswith("svg")
    assert "nan" not in ElementTree.tostring(chart, encoding="unicode")


def test_a_line_goes_where_its_numbers_say() -> None:
    chart = line_chart("t", {"x": ([0, 10], [0.0, 1.0])})
    (points,) = re.findall(r'points="([^"]*)"', chart)
    (x0, y0), (x1, y1) = (tuple(map(float, point.split(","))) for point in points.split())
    assert x1 > x0
    assert y1 < y0
