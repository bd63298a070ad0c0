"""Line and bar charts as SVG text, so that a report needs no plotting library and no network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT = 460, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 30, 36
_BAR, _BAR_GAP, _BARS_TOP, _VALUE_WIDTH = 14, 9, 56, 56
_FILLS = ("#2563eb", "#94a3b8", "#d6a35c", "#059669")
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


def bar_chart(
    title: str,
    groups: Sequence[str],
    series: Mapping[str, Sequence[float]],
    unit: str = "",
    ranges: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> str:
    """Return an SVG picture of lying bars, those of one group below each other.

    Args:
        title: shown above the chart.
        groups: names of the groups; without a name the bars have the whole width.
        series: name to one finite value, 0 or more, per group.
        unit: shown after each value.
        ranges: name of a series to the least and the largest value behind each bar.
    """
    left = max([0, *(round(_length_of(group)) + 14 for group in groups if group)])
    step = _BAR * len(series) + _BAR_GAP
    height = _BARS_TOP + step * len(groups)
    spans = ranges or {}
    highest = max(
        [*(value for values in series.values() for value in values)]
        + [high for pairs in spans.values() for _, high in pairs]
        + [1e-12]
    )
    scale = (_WIDTH - left - _VALUE_WIDTH) / highest
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}" '
        'class="chart" xmlns="http://www.w3.org/2000/svg">',
        f'<text x="0" y="18" class="title">{escape(title)}</text>',
        *_legend(list(series)),
    ]
    for place, group in enumerate(groups):
        top = _BARS_TOP + step * place
        middle = top + (step - _BAR_GAP) / 2 + 4
        parts.append(f'<text x="0" y="{middle:g}" class="tick">{escape(group)}</text>')
        for number, (name, values) in enumerate(series.items()):
            span = spans[name][place] if name in spans else None
            parts += _bar(values[place], span, (left, top + _BAR * number), scale, number, unit)
    return "\n".join([*parts, "</svg>"])


def _bar(
    value: float,
    span: tuple[float, float] | None,
    corner: tuple[int, int],
    scale: float,
    number: int,
    unit: str,
) -> list[str]:
    """Return one bar with its value and, if there is a span, a line from its low to its high."""
    left, top = corner
    middle = top + _BAR / 2 - 1
    parts = [
        f'<rect x="{left}" y="{top}" width="{max(0.5, value * scale):.2f}" height="{_BAR - 2}" '
        f'rx="2" fill="{_FILLS[number % len(_FILLS)]}"/>'
    ]
    end = value
    if span is not None:
        low, high = (left + bound * scale for bound in span)
        parts.append(f'<path d="M{low:.2f} {middle - 4:g}v8m0 -4H{high:.2f}m0 -4v8" class="span"/>')
        end = max(value, span[1])
    parts.append(
        f'<text x="{left + end * scale + 6:.2f}" y="{middle + 4:g}" class="tick">'
        f"{_rounded(value)}{escape(unit)}</text>"
    )
    return parts


def _legend(names: Sequence[str]) -> list[str]:
    parts, x = [], 0.0
    for number, name in enumerate(names):
        fill = _FILLS[number % len(_FILLS)]
        parts.append(f'<rect x="{x:g}" y="31" width="10" height="10" rx="2" fill="{fill}"/>')
        parts.append(f'<text x="{x + 15:g}" y="40" class="tick">{escape(name)}</text>')
        x += 32 + _length_of(name)
    return parts


def _length_of(text: str) -> float:
    """Return about how many units a label takes in the font of the ticks."""
    return sum(4.3 if letter in "fijlrt .,:" else 7.2 for letter in text)


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


def _rounded(value: float) -> str:
    """Return about three digits: 448, 59.8, 0.69."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _number(value: float) -> str:
    return f"{value:.6g}"
