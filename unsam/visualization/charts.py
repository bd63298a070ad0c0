"""Line charts as SVG text, so that a report needs no plotting library and no network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT = 460, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 30, 36
_STROKES = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2")


def line_chart(
    title: str,
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x_label: str = "",
) -> str:
    """Return an SVG picture of lines.

    Args:
        title: shown above the chart.
        series: name to ``(x values, y values)``, equally long; points that are not finite are
            left out.
        x_label: shown below the axis.
    """
    lines = {
        name: [point for point in zip(*values, strict=True) if all(map(math.isfinite, point))]
        for name, values in series.items()
    }
    points = [point for line in lines.values() for point in line]
    if not points:
        points = [(0.0, 0.0)]
    x_ticks = _ticks(min(x for x, _ in points), max(x for x, _ in points))
    y_ticks = _ticks(min(0.0, *(y for _, y in points)), max(y for _, y in points))
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" class="chart" '
        'xmlns="http://www.w3.org/2000/svg">',
        f'<text x="{_LEFT}" y="18" class="title">{escape(title)}</text>',
    ]
    for tick in y_ticks:
        y = _place(tick, y_ticks, _HEIGHT - _BOTTOM, _TOP)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}" class="grid"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4}" class="tick end">{_number(tick)}</text>')
    for tick in x_ticks:
        x = _place(tick, x_ticks, _LEFT, _WIDTH - _RIGHT)
        parts.append(f'<text x="{x}" y="{_HEIGHT - 20}" class="tick mid">{_number(tick)}</text>')
    for index, (name, line) in enumerate(lines.items()):
        stroke = _STROKES[index % len(_STROKES)]
        path = " ".join(
            f"{_place(x, x_ticks, _LEFT, _WIDTH - _RIGHT)},"
            f"{_place(y, y_ticks, _HEIGHT - _BOTTOM, _TOP)}"
            for x, y in line
        )
        parts.append(f'<polyline points="{path}" fill="none" stroke="{stroke}" stroke-width="2"/>')
        parts.append(
            f'<text x="{_WIDTH - _RIGHT}" y="{_TOP + 14 + 15 * index}" '
            f'style="fill: {stroke}" class="tick end">{escape(name)}</text>'
        )
    middle = (_LEFT + _WIDTH) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 4}" class="tick mid">{escape(x_label)}</text>')
    return "\n".join([*parts, "</svg>"])


def _ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return round numbers that span ``[low, high]``."""
    if high <= low:
        high = low + 1.0
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = math.floor(low / step)
    last = math.ceil(high / step - 1e-9)
    return [step * index for index in range(first, last + 1)]


def _place(value: float, ticks: Sequence[float], start: float, end: float) -> float:
    share = (value - ticks[0]) / (ticks[-1] - ticks[0])
    return round(start + share * (end - start), 2)


def _number(value: float) -> str:
    return f"{value:.6g}"
